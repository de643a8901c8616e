"""Redaction of the worst texts that can be made for each of its patterns: 16 MiB against 4.

    python benchmarks/redacting.py [--mib 16]

For each pattern a string that it matches is made, and each beginning of it, again and again, alone
or before a run, is a text in which the pattern almost finds something everywhere. The slowest of
them, for that pattern alone, is then redacted as a document is, in a quarter of the size and in all
of it, and so are runs and marks known to be slow elsewhere. Fails if four times the text takes more
than six times as long, that is if the time is not in proportion to it.

Expected: four times as long, and for none more than ten times what Python's argparse.py takes.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import re
import re._constants as op  # the standard library's own parser of patterns has no public name
import re._parser as parser
import sysconfig
import time
from pathlib import Path

from codegen_pax.data.rules import redaction

MOST_TIMES = 6.0
TRIED = 1 << 17  # characters in which the slowest text is looked for
KNOWN = (
    *("sk-", "a.", "a@", "a@b.", "//a", "://a.", "a://b:", "eyJh.", "xoxa-1", '"', " ", "0", "\n"),
    *("-----BEGIN PRIVATE KEY-----", "secret_key ", "sk-" + "a" * 20 + "T3BlbkFJ"),
    *("secret_key" + " " * 2_000, "softlayer_key" + " " * 2_000, "MTk4", "1:A"),
)
SAMPLE = ["a", "0", *map(chr, range(32, 127))]
# What the rules that are passed over without a word of theirs look for.
WORDS = "T3BlbkFJ secret softlayer api.softlayer.com PRIVATE KEY @x.org"


def example(items) -> str:
    """A string that a parsed pattern matches, but for what its assertions ask."""
    parts = []
    for kind, value in items:
        if kind is op.LITERAL:
            parts.append(chr(value))
        elif kind is op.IN:
            one = parser.SubPattern(parser.State(), [(kind, value)])
            takes = re._compiler.compile(one).fullmatch
            parts.append(next(filter(takes, SAMPLE)))
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


def worst(pattern: re.Pattern) -> str:
    """The beginning, with or without a run behind it, that takes the pattern longest."""

    def search(part: str) -> None:
        collections.deque(pattern.finditer(filled(part, TRIED)), maxlen=0)

    whole = example(parser.parse(pattern.pattern, pattern.flags))
    runs = ("", " " * 500, "a" * 500)
    parts = [whole[:end] + run for end in range(1, len(whole) + 1) for run in runs]
    return max(parts, key=lambda part: seconds(search, part))


def filled(part: str, characters: int) -> str:
    return part * (characters // len(part) + 1)


def seconds(work, *arguments) -> float:
    """Of CPU, that a call takes."""
    started = time.process_time()
    work(*arguments)
    return time.process_time() - started


def redact(part: str, characters: int) -> None:
    text = f"{filled(part, characters)} {WORDS}"
    with contextlib.suppress(redaction.TooManySecretsError):  # counted, and over early
        redaction.redact(text)


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--mib", type=int, default=16)
    size = arguments.parse_args().mib << 20
    ordinary = (Path(sysconfig.get_paths()["stdlib"]) / "argparse.py").read_text()
    usual = seconds(redact, ordinary, size)
    print(f"{size >> 20} MiB of argparse.py: {usual:.1f} s of CPU")
    print(f"{'':28} seconds  x a quarter  x argparse.py")
    texts = {name: worst(pattern) for name, pattern in redaction.patterns().items()}
    texts |= {f"known {part[:12]!r}": part for part in KNOWN}
    slowest, missed = 0.0, 0
    for name, part in texts.items():
        quarter, whole = (seconds(redact, part, length) for length in (size // 4, size))
        slowest, times = max(slowest, whole), whole / quarter
        missed += times > MOST_TIMES
        print(f"{name:28} {whole:7.1f}  {times:11.1f}  {whole / usual:13.1f}", flush=True)
    print(
        f"slowest {slowest:.1f} s, {slowest / usual:.1f} of argparse.py; {missed} out of proportion"
    )
    return missed > 0


if __name__ == "__main__":
    raise SystemExit(main())
