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


def rejection(text: str) -> str | None:
    """Why the paper's filters drop a source file, in a few words; None if they keep it."""
    lines = text.splitlines()
    if not lines or not text.strip():
        return "empty"
    longest = max(map(len, lines))
    if longest > MAX_LINE:
        return f"longest line has {longest} characters, over {MAX_LINE}"
    average = sum(map(len, lines)) / len(lines)
    if average > MAX_AVERAGE_LINE:
        return f"average line has {average:.0f} characters, over {MAX_AVERAGE_LINE}"
    solid = "".join(text.split())
    digits = sum(map(solid.count, string.hexdigits)) / len(solid)
    if digits > MAX_DIGITS:
        return f"{digits:.0%} digits, over {MAX_DIGITS:.0%}"
    return None
