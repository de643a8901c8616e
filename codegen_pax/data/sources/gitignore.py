"""The lines of a `.gitignore` file, as git itself reads them: bytes, not text.

What gitignore(5) leaves open is as git 2.39 does it, which the tests compare with git. Patterns
become regular expressions with atomic groups: the time of a match does not explode, whatever the
pattern.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from typing import NamedTuple

_MOST_BYTES = 1 << 16  # of a pattern (ours): no path is as long as that
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"

# Of ASCII alone, and without vertical tab and form feed as spaces, whatever the locale is.
_LOWER = b"abcdefghijklmnopqrstuvwxyz"
_DIGITS = b"0123456789"
_PRINTED = bytes(range(0x20, 0x7F))
_LETTERS = _LOWER + _LOWER.upper()
_CLASSES = {
    b"alnum": _LETTERS + _DIGITS,
    b"alpha": _LETTERS,
    b"blank": b" \t",
    b"cntrl": bytes(range(0x20)) + b"\x7f",
    b"digit": _DIGITS,
    b"graph": _PRINTED[1:],
    b"lower": _LOWER,
    b"print": _PRINTED,
    b"punct": bytes(set(_PRINTED[1:]) - set(_LETTERS + _DIGITS)),
    b"space": b" \t\n\r",
    b"upper": _LOWER.upper(),
    b"xdigit": _DIGITS + b"abcdefABCDEF",
}


class _NeverError(Exception):
    """A pattern that matches nothing: it ends in a class or in a backslash."""


class _Pattern(NamedTuple):
    ignores: bool  # no `!` before it
    folders_only: bool  # `/` after it
    expression: bytes  # over the path relative to the file's folder


class Rules:
    """The patterns of one file, the last of which that matches decides."""

    def __init__(self, content: bytes):
        patterns = [pattern for line in _lines(content) if (pattern := _parsed(line))]
        self._patterns = [
            (pattern.ignores, pattern.folders_only, re.compile(pattern.expression, re.DOTALL))
            for pattern in reversed(patterns)
        ]
        # Most paths match none: one search says so.
        expressions = b"|".join(pattern.expression for pattern in patterns)
        self._any = re.compile(expressions or b"(?!)", re.DOTALL)

    def ignores(self, path: bytes, is_folder: bool) -> bool | None:
        """Whether a path relative to the file's folder is ignored; None if no line speaks of it."""
        if self._any.match(path):
            for ignores, folders_only, expression in self._patterns:
                if (is_folder or not folders_only) and expression.match(path):
                    return ignores
        return None


@functools.lru_cache(maxsize=4096)
def rules(content: bytes) -> Rules:
    """The rules of a file with this content; many files of a tree are copies of one."""
    return Rules(content)


def _lines(content: bytes) -> Iterator[bytes]:
    for line in content.removeprefix(_BYTE_ORDER_MARK).split(b"\n"):
        if not line.startswith(b"#"):
            # A NUL ends a line too, as it ends every string of C.
            yield _stripped(line.removesuffix(b"\r").partition(b"\0")[0])


def _stripped(line: bytes) -> bytes:
    """Without the spaces at its end that no backslash protects."""
    end = len(line.rstrip(b" "))
    backslashes = end - len(line[:end].rstrip(b"\\"))
    # An odd one protects a space; where there is none, it is the line's end.
    return line[: end + (backslashes % 2 and end < len(line))]


def _parsed(line: bytes) -> _Pattern | None:
    """None of a line that can match nothing."""
    ignores = not line.startswith(b"!")
    pattern = line if ignores else line[1:]
    folders_only = pattern.endswith(b"/")
    if folders_only:
        pattern = pattern[:-1]
    anywhere = b"/" not in pattern
    pattern = pattern.removeprefix(b"/")
    if not pattern or len(pattern) > _MOST_BYTES:
        return None
    try:
        expression = _expression(pattern, anywhere)
    except _NeverError:
        return None
    prefix = b"(?:.*/)?+" if anywhere else b""
    return _Pattern(ignores, folders_only, prefix + expression)


def _expression(pattern: bytes, anywhere: bool) -> bytes:
    """A pattern as a regular expression of the whole path, or of its last part alone (`anywhere`).

    What stands between two wildcards of no fixed length fits best where it fits first, so nothing
    is tried twice: with what is skipped before it, it is an atomic group. Wildcards that cross
    folders cut a pattern into groups of such parts, for which the same holds.
    """
    fixed = re.match(rb"[^*?\[\\]*", pattern).end()  # without wildcards
    groups = [(b"", [b""])]  # what is skipped, parts
    at = 0
    while at < len(pattern):
        parts = groups[-1][1]
        byte = pattern[at : at + 1]
        at += 1
        if byte == b"*":
            begin = at - 1
            while pattern[at : at + 1] == b"*":
                at += 1
            rest = pattern[at:]
            # git compares `fixed` first, and then looks at what is left as if nothing were before
            # it: `a**/b` is `a`, any folders or none, `b`.
            begins = begin == fixed or pattern[begin - 1 : begin] == b"/"
            ends = not rest or rest.startswith((b"/", b"\\/"))
            if anywhere or at - begin == 1 or not begins or not ends:
                parts.append(b"")
            elif rest.startswith(b"/"):
                at += 1
                groups.append((b"(?:.*?/)??", [b""]))
            else:
                groups.append((b".*?", [b""]))
        elif byte == b"?":
            parts[-1] += b"[^/]"
        elif byte == b"[":
            members, at = _class(pattern, at)
            parts[-1] += b"[%s]" % b"".join(b"\\x%02x" % member for member in sorted(members))
        elif byte == b"\\" and at == len(pattern):
            raise _NeverError
        elif byte == b"\\":
            parts[-1] += re.escape(pattern[at : at + 1])
            at += 1
        else:
            parts[-1] += re.escape(byte)
    groups[-1][1][-1] += rb"\Z"
    expression = b""
    for skipped, (first, *others) in groups:
        expression += b"(?>%s%s" % (skipped, first)
        expression += b"".join(b"(?>[^/]*?%s)" % part for part in others) + b")"
    return expression


def _class(pattern: bytes, at: int) -> tuple[set[int], int]:
    """The bytes that a class `[...]` stands for, and where the pattern goes on.

    Args:
      pattern: the whole of it.
      at: behind the `[`.

    Raises _NeverError if it does not end, or names a class of POSIX that there is none of.
    """

    def byte(place: int) -> int:
        if place >= len(pattern):
            raise _NeverError
        return pattern[place]

    is_negated = byte(at) in b"!^"
    at += is_negated
    members: set[int] = set()
    before = None  # what a `-` after it makes a range of
    first = at
    while at == first or byte(at) != ord("]"):
        found = byte(at)
        if found == ord("-") and before is not None and pattern[at + 1 : at + 2] not in b"]":
            at += 1
            if byte(at) == ord("\\"):
                at += 1
            members.update(range(before, byte(at) + 1))
            before = None
        elif found == ord("[") and pattern[at + 1 : at + 2] == b":":
            end = pattern.find(b"]", at + 2)
            if end < 0:
                raise _NeverError
            if end > at + 2 and pattern[end - 1] == ord(":"):
                name = pattern[at + 2 : end - 1]
                if name not in _CLASSES:
                    raise _NeverError
                members.update(_CLASSES[name])
                before, at = None, end
            else:  # a set that holds a bracket and a colon
                members.add(found)
                before = found
        else:
            if found == ord("\\"):
                at += 1
                found = byte(at)
            members.add(found)
            before = found
        at += 1
    if is_negated:
        members = set(range(256)) - members
    members.discard(ord("/"))
    if not members:
        raise _NeverError
    return members, at + 1
