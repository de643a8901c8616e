"""What is said to a name that is not known, how words of others are shown; counting."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def unknown(kind: str, found: str, known: Iterable[str]) -> str:
    """One line: the name, that it is unknown, and the nearest known ones."""
    known = list(known)
    by_folded = {name.casefold(): name for name in known}
    near = difflib.get_close_matches(found.casefold(), by_folded, n=3, cutoff=0.5)
    hint = (
        f"nearest: {', '.join(by_folded[name] for name in near)}"
        if near
        else f"known: {', '.join(known)}"
    )
    return f"no {kind} is called {found!r}; {hint}"


def counted(number: int, one: str) -> str:
    """`'1 row'`, `'1,258 rows'` or `'2 micro-batches'`."""
    if number == 1:
        return f"1 {one}"
    return f"{number:,} {one}{'es' if one.endswith('ch') else 's'}"


def printable(words: object) -> str:
    """The words with U+FFFD for whatever is not printed, ends of lines among them.

    A file that somebody else has written may hold what a terminal obeys, or what turns the order
    of letters.
    """
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in str(words))
