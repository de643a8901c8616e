"""Time the redaction of the slowest texts for each of its patterns, at 16 MiB and at 4 MiB.

    python benchmarks/redacting.py [--mib 16]

For each pattern, the script takes a string that it matches. Each prefix of that string, repeated,
alone or followed by a run of one character, makes a text in which the pattern almost matches
everywhere. The text on which the pattern alone is slowest is then redacted as a document is, at a
quarter of the size and at the full size; so are runs and marks that are slow for other patterns.
The script fails if four times the text takes more than six times as long, that is, if the time is
not proportional to the text.

Expected: four times as long, and no text takes more than ten times as long as the same amount of
Python's argparse.py.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import re
import re._constants as op  # the standard library's parser of patterns has no public name
import re._parser as parser
import sys
import sysconfig
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import results
from codegen_pax.data.rules import redaction

MAX_RATIO = 6.0
TRIAL_CHARACTERS = 1 << 17  # in each text among which the slowest is searched for
SLOW_ELSEWHERE = (
    *("sk-", "a.", "a@", "a@b.", "//a", "://a.", "a://b:", "eyJh.", "xoxa-1", '"', " ", "0", "\n"),
    *("-----BEGIN PRIVATE KEY-----", "secret_key ", "sk-" + "a" * 20 + "T3BlbkFJ"),
    *("secret_key" + " " * 2_000, "softlayer_key" + " " * 2_000, "MTk4", "1:A"),
)
SAMPLE = ["a", "0", *map(chr, range(32, 127))]
# The words without which redaction skips a pattern.
WORDS = "T3BlbkFJ secret softlayer api.softlayer.com PRIVATE KEY @x.org"


def example(items) -> str:
    """Return a string that a parsed pattern matches, apart from its assertions."""
    parts = []
    for kind, value in items:
        if kind is op.LITERAL:
            parts.append(chr(value))
        elif kind is op.IN:
            one = parser.SubPattern(parser.State(), [(kind, value)])
            matches = re._compiler.compile(one).fullmatch
            parts.append(next(filter(matches, SAMPLE)))
        elif kind in (op.MAX_REPEAT, op.MIN_REPEAT, op.POSSESSIVE_REPEAT):
            parts.append(example(value[2]) * min(max(value[0], 1), 100))
        elif kind is op.SUBPATTERN:
            parts.append(example(value[3]))
        elif kind is op.ATOMIC_GROUP:
            parts.append(example(value))
        elif kind is op.BRANCH:
            parts.append(example(value[1][0]))
        elif kind in (op.ANY, op.NOT_LITERAL):
            parts.append("a")
    return "".join(parts)


def slowest_part(pattern: re.Pattern) -> str:
    """Return the prefix, with or without a run after it, on which the pattern takes longest."""

    def search(part: str) -> None:
        collections.deque(pattern.finditer(repeated(part, TRIAL_CHARACTERS)), maxlen=0)

    match = example(parser.parse(pattern.pattern, pattern.flags))
    runs = ("", " " * 500, "a" * 500)
    parts = [match[:end] + run for end in range(1, len(match) + 1) for run in runs]
    return max(parts, key=lambda part: cpu_seconds(search, part))


def repeated(part: str, characters: int) -> str:
    """Return a text of at least this many characters."""
    return part * (characters // len(part) + 1)


def cpu_seconds(function: Callable, *arguments) -> float:
    """Return the CPU time that a call takes."""
    started = time.process_time()
    function(*arguments)
    return time.process_time() - started


def redact(part: str, characters: int) -> None:
    """Redact a text of this part, repeated."""
    text = f"{repeated(part, characters)} {WORDS}"
    with contextlib.suppress(redaction.TooManySecretsError):  # which shortens the time
        redaction.redact(text)


def main() -> int:
    """Report on each text; return 1 if the time of one is not proportional to it."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--mib", type=int, default=16)
    size = arguments.parse_args().mib << 20
    ordinary = (Path(sysconfig.get_paths()["stdlib"]) / "argparse.py").read_text()
    baseline = cpu_seconds(redact, ordinary, size)
    print(f"{size >> 20} MiB of argparse.py: {baseline:.1f} s of CPU")
    parts = {name: slowest_part(pattern) for name, pattern in redaction.patterns().items()}
    parts |= {f"known {part[:12]!r}": part for part in SLOW_ELSEWHERE}
    rows = []
    for name, part in parts.items():
        quarter, full = (cpu_seconds(redact, part, length) for length in (size // 4, size))
        row = {"text": name, "seconds": full, "of a quarter's": full / quarter}
        rows.append(row | {"of argparse.py's": full / baseline})
    worst = max(rows, key=lambda row: row["of a quarter's"])
    target = results.Target(
        f"time, of that of a quarter: {worst['text']}", worst["of a quarter's"], most=MAX_RATIO
    )
    return results.report("redacting", rows, [target])


if __name__ == "__main__":
    raise SystemExit(main())
