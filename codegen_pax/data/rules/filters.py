"""The filters of the CodeGen paper for source files (arXiv 2203.13474, appendix A).

A file is dropped if its average line is longer than 100 characters, if any line is longer than
1,000, or if over 90% of it are decimal or hexadecimal digits. The paper does not say 90% of what:
here, of the characters that are not white space.
"""

from __future__ import annotations

import string

MAX_AVERAGE_LINE = 100
MAX_LINE = 1_000
MAX_DIGITS = 0.9

RULES = ("empty", "longest_line", "average_line", "digits")

_DIGITS = string.hexdigits.encode()
_WHITE_SPACE = bytes(n for n in range(128) if chr(n).isspace())


def rejection(text: str) -> str | None:
    """Return the first of `RULES` by which a source file is dropped; None if it is kept."""
    lines = text.splitlines()
    if not lines or text.isspace():
        return "empty"
    lengths = list(map(len, lines))
    if max(lengths) > MAX_LINE:
        return "longest_line"
    if sum(lengths) > MAX_AVERAGE_LINE * len(lines):
        return "average_line"
    return "digits" if _digit_share(text) > MAX_DIGITS else None


def _digit_share(text: str) -> float:
    """Return the share of hexadecimal digits among the characters that are not white space."""
    if text.isascii():  # nearly every file, and several times as fast
        solid = text.encode().translate(None, _WHITE_SPACE)
        return 1 - len(solid.translate(None, _DIGITS)) / len(solid)
    characters = "".join(text.split())
    return sum(map(characters.count, string.hexdigits)) / len(characters)
