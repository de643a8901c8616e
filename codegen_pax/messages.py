"""Parts of messages: unknown names, counted nouns, text from foreign files."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def unknown(kind: str, given: str, known: Iterable[str]) -> str:
    """Returns a line that says that a name is unknown, with the nearest known names."""
    known = list(known)
    by_folded = {name.casefold(): name for name in known}
    near = difflib.get_close_matches(given.casefold(), by_folded, n=3, cutoff=0.5)
    hint = (
        f"nearest: {', '.join(by_folded[name] for name in near)}"
        if near
        else f"known: {', '.join(known)}"
    )
    return f"no {kind} is called {given!r}; {hint}"


def counted(number: int, noun: str) -> str:
    """Returns a counted noun: `'1 row'`, `'1,258 rows'` or `'2 micro-batches'`."""
    if number == 1:
        return f"1 {noun}"
    return f"{number:,} {noun}{'es' if noun.endswith('ch') else 's'}"


def printable(value: object) -> str:
    """Returns the value as text, with U+FFFD for characters that are not printable.

    A foreign file may contain terminal control sequences, line breaks or characters that change
    the direction of text.
    """
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in str(value))
