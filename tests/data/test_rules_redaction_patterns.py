"""No pattern takes time with the square of a text: each reads a run of characters from few places.

A repeat that has an end reads a limited piece from each place of a text. One that has none is
followed through all of a run of its characters, from every place where the pattern can begin. So
either a character that is not in the run must stand before it, since the last such repeat (then the
run is read from the few places around its beginning), or nothing is asked for after it (then the
search goes on behind the run). `benchmarks/redacting.py` measures what that comes to.
"""

import importlib
import re
import re._compiler as compiler  # the standard library's own: it has no public name
import re._constants as op
import re._parser as parser

import pytest

from codegen_pax.data.rules import redaction

REPEATS = (op.MAX_REPEAT, op.MIN_REPEAT, op.POSSESSIVE_REPEAT)
SAMPLE = [*map(chr, range(0x250))]


class Pattern:
    """A parsed pattern, and what of its repeats is read from too many places."""

    def __init__(self, pattern: re.Pattern):
        self.tree = parser.parse(pattern.pattern, pattern.flags)
        self.faults: list[str] = []
        self.check([*self.tree], [], asked=False)

    def characters(self, item) -> set[str]:
        """Those that a literal or a class takes; of a repeat or a group all that are in it."""
        kind, value = item
        if kind in REPEATS:
            return set().union(*map(self.characters, value[2]))
        if kind is op.SUBPATTERN:
            return set().union(*map(self.characters, value[3]))
        matches = compiler.compile(parser.SubPattern(self.tree.state, [item])).fullmatch
        return {character for character in SAMPLE if matches(character)}

    def must_leave(self, items, run: set[str]) -> bool:
        """Whether what these match has a character that is not of the run."""
        for kind, value in items:
            if kind in REPEATS:
                actual = value[0] > 0 and self.must_leave(value[2], run)
            elif kind is op.SUBPATTERN:
                actual = self.must_leave(value[3], run)
            elif kind is op.ATOMIC_GROUP:
                actual = self.must_leave(value, run)
            elif kind is op.BRANCH:
                actual = all(self.must_leave(branch, run) for branch in value[1])
            elif kind is op.ASSERT_NOT:
                # Not behind one of the run, that is at its beginning.
                actual = value[0] < 0 and run <= self.characters(value[1][0])
            elif kind in (op.AT, op.ASSERT):
                actual = False
            else:
                actual = not run & self.characters((kind, value))
            if actual:
                return True
        return False

    def check(self, items, before, asked: bool) -> list:
        """Notes what is wrong with these, after `before`; `asked` if something must follow them.

        Returns what stands before what follows, since the last repeat without an end.
        """
        for number, (kind, value) in enumerate(items):
            rest = parser.SubPattern(self.tree.state, items[number + 1 :])
            more = (
                asked
                or rest.getwidth()[0] > 0
                or any(k in (op.AT, op.ASSERT, op.ASSERT_NOT) for k, _ in rest)
            )
            if kind in REPEATS:
                endless = value[1] == op.MAXREPEAT
                run = self.characters((kind, value))
                if endless and more and not self.must_leave(before, run):
                    self.faults.append(str(items[number]))
                self.check([*value[2]], before, more or (endless and len(value[2]) > 1))
                before = [] if endless else [*before, (kind, value)]
                continue
            if kind is op.SUBPATTERN:
                before = self.check([*value[3]], before, more)
                continue
            if kind is op.ATOMIC_GROUP:
                before = self.check([*value], before, more)
                continue
            if kind is op.BRANCH:
                for branch in value[1]:
                    self.check([*branch], before, more)
            elif kind in (op.ASSERT, op.ASSERT_NOT):
                self.check([*value[1]], before, asked=True)
            before = [*before, (kind, value)]
        return before


@pytest.mark.parametrize("name", redaction.patterns())
def test_a_run_is_read_from_few_places(name):
    assert Pattern(redaction.patterns()[name]).faults == []


@pytest.mark.parametrize(
    ("module", "detector"),
    [
        ("ibm_cos_hmac", "IbmCosHmacDetector"),
        ("jwt", "JwtTokenDetector"),
        ("npm", "NpmDetector"),
        ("openai", "OpenAIDetector"),
        ("softlayer", "SoftlayerDetector"),
    ],
)
def test_one_that_is_read_from_many_is_told(module, detector):
    """Those of detect-secrets that take time with the square of a text, which are not used."""
    plugin = getattr(importlib.import_module(f"detect_secrets.plugins.{module}"), detector)()
    assert any(Pattern(pattern).faults for pattern in plugin.denylist)
