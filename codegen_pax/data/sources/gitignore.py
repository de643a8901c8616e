"""The patterns of `.gitignore` files: which paths they ignore.

The lines of such a file are read as git itself reads them: as bytes, not text. Where gitignore(5)
is ambiguous, the behaviour is that of git 2.39, which the tests compare with. Patterns become
regular expressions with atomic groups, so that no pattern takes exponential time.
"""

from __future__ import annotations

import enum
import functools
import re
from collections.abc import Iterator
from typing import NamedTuple

_MAX_PATTERN_BYTES = 1 << 16  # ours: no path is as long as that
_UTF8_MARK = b"\xef\xbb\xbf"

# The classes of POSIX in any locale: ASCII only; vertical tab and form feed are not spaces.
_LOWER = b"abcdefghijklmnopqrstuvwxyz"
_DIGITS = b"0123456789"
_PRINTABLE = bytes(range(0x20, 0x7F))
_LETTERS = _LOWER + _LOWER.upper()
_POSIX_CLASSES = {
    b"alnum": _LETTERS + _DIGITS,
    b"alpha": _LETTERS,
    b"blank": b" \t",
    b"cntrl": bytes(range(0x20)) + b"\x7f",
    b"digit": _DIGITS,
    b"graph": _PRINTABLE[1:],
    b"lower": _LOWER,
    b"print": _PRINTABLE,
    b"punct": bytes(set(_PRINTABLE[1:]) - set(_LETTERS + _DIGITS)),
    b"space": b" \t\n\r",
    b"upper": _LOWER.upper(),
    b"xdigit": _DIGITS + b"abcdefABCDEF",
}


class _Pattern(NamedTuple):
    """A line of an ignore file.

    Attributes:
        ignores: Whether matching paths are ignored; false if the line begins with `!`.
        folders_only: Whether it matches folders alone; true if the line ends with `/`.
        expression: A regular expression over the path relative to the file's folder.
    """

    ignores: bool
    folders_only: bool
    expression: bytes


class IgnorePatterns:
    """The patterns of one `.gitignore` file; the last matching pattern decides.

    Args:
        content: The content of the file.
    """

    def __init__(self, content: bytes):
        patterns = [pattern for line in _lines(content) if (pattern := _parse_line(line))]
        self._patterns = [
            (pattern.ignores, pattern.folders_only, re.compile(pattern.expression, re.DOTALL))
            for pattern in reversed(patterns)
        ]
        # Most paths match no pattern; a single search finds that out.
        expressions = b"|".join(pattern.expression for pattern in patterns)
        self._any = re.compile(expressions or b"(?!)", re.DOTALL)

    def match(self, path: bytes, is_folder: bool) -> bool | None:
        """Return whether a path is ignored; None if no pattern matches it.

        Args:
            path: The path relative to the folder of the `.gitignore` file.
            is_folder: Whether the path is a folder.
        """
        if self._any.match(path):
            for ignores, folders_only, expression in self._patterns:
                if (is_folder or not folders_only) and expression.match(path):
                    return ignores
        return None


@functools.lru_cache(maxsize=4096)
def _ignore_patterns(content: bytes) -> IgnorePatterns:
    """Return the patterns of a file; cached, since many ignore files of a tree are copies."""
    return IgnorePatterns(content)


# (bytes of a path before the part that the patterns match, the patterns), nearest folder first.
PatternsByFolder = tuple[tuple[int, IgnorePatterns], ...]


def add_patterns(
    content: bytes | None, folder: bytes, patterns: PatternsByFolder
) -> PatternsByFolder:
    """Return the patterns that apply below a folder.

    Args:
        content: The content of the folder's `.gitignore`; None if it has none.
        folder: The folder's path relative to the top of the repository; b'' for the top.
        patterns: The patterns that apply to the folder itself.
    """
    if not content:
        return patterns
    return ((len(folder) + 1 if folder else 0, _ignore_patterns(content)), *patterns)


def is_ignored(path: bytes, is_folder: bool, patterns: PatternsByFolder) -> bool:
    """Return whether a path is ignored, as the nearest ignore file with a matching pattern says."""
    for start, of_folder in patterns:
        ignored = of_folder.match(path[start:], is_folder)
        if ignored is not None:
            return ignored
    return False


class _NeverMatchesError(Exception):
    """A pattern matches nothing: it ends inside a class or after a backslash."""


def _lines(content: bytes) -> Iterator[bytes]:
    for line in content.removeprefix(_UTF8_MARK).split(b"\n"):
        if not line.startswith(b"#"):
            # A NUL ends a line too, as it ends every string in C.
            yield _strip_spaces(line.removesuffix(b"\r").partition(b"\0")[0])


def _strip_spaces(line: bytes) -> bytes:
    """Return the line without trailing spaces, except one that a backslash protects."""
    end = len(line.rstrip(b" "))
    backslashes = end - len(line[:end].rstrip(b"\\"))
    # An odd backslash protects the space after it, if there is one.
    return line[: end + (backslashes % 2 and end < len(line))]


def _parse_line(line: bytes) -> _Pattern | None:
    """Return the pattern of a line; None if it can match nothing."""
    ignores = not line.startswith(b"!")
    pattern = line if ignores else line[1:]
    folders_only = pattern.endswith(b"/")
    if folders_only:
        pattern = pattern[:-1]
    in_any_folder = b"/" not in pattern
    pattern = pattern.removeprefix(b"/")
    if not pattern or len(pattern) > _MAX_PATTERN_BYTES:
        return None
    try:
        expression = _translate(pattern, in_any_folder)
    except _NeverMatchesError:
        return None
    prefix = b"(?:.*/)?+" if in_any_folder else b""
    return _Pattern(ignores, folders_only, prefix + expression)


class _Wildcard(enum.Enum):
    """A wildcard that matches no fixed number of bytes."""

    IN_FOLDER = rb"[^/]*?"  # `*`
    FOLDERS = rb"(?:.*?/)??"  # `**/`
    ANYTHING = rb".*?"  # `**` at the end


def _translate(pattern: bytes, in_any_folder: bool) -> bytes:
    """Return a pattern as a regular expression.

    The first match of the text between two wildcards is always the best one, so backtracking is
    never needed: each text and the wildcard before it form an atomic group. Wildcards that cross
    folders divide a pattern into groups of such groups, for which the same holds.

    Args:
        pattern: The pattern without a leading `!` and without `/` around it.
        in_any_folder: Whether the expression is for the last part of a path, not all of it.

    Raises:
        _NeverMatchesError: The pattern matches nothing.
    """
    groups = [(b"", [b""])]  # (wildcard that crosses folders, expressions between the others)
    for token in _tokens(pattern, in_any_folder):
        if token is _Wildcard.IN_FOLDER:
            groups[-1][1].append(b"")
        elif isinstance(token, _Wildcard):
            groups.append((token.value, [b""]))
        else:
            groups[-1][1][-1] += token
    groups[-1][1][-1] += rb"\Z"
    expression = b""
    for wildcard, (first, *others) in groups:
        expression += b"(?>%s%s" % (wildcard, first)
        inner = (b"(?>%s%s)" % (_Wildcard.IN_FOLDER.value, part) for part in others)
        expression += b"".join(inner) + b")"
    return expression


def _tokens(pattern: bytes, in_any_folder: bool) -> Iterator[_Wildcard | bytes]:
    """Yield the wildcards of a pattern, and expressions for the text between them."""
    at = 0
    while at < len(pattern):
        byte = pattern[at : at + 1]
        if byte == b"*":
            wildcard, at = _parse_stars(pattern, at, in_any_folder)
            yield wildcard
            continue
        at += 1
        if byte == b"?":
            yield b"[^/]"
        elif byte == b"[":
            members, at = _parse_class(pattern, at)
            yield b"[%s]" % b"".join(b"\\x%02x" % member for member in sorted(members))
        else:
            if byte == b"\\":
                byte = _byte(pattern, at)
                at += 1
            yield re.escape(byte)


def _byte(pattern: bytes, at: int) -> bytes:
    """Return one byte of a pattern.

    Raises:
        _NeverMatchesError: The pattern ends before this byte.
    """
    if at >= len(pattern):
        raise _NeverMatchesError
    return pattern[at : at + 1]


def _parse_stars(pattern: bytes, start: int, in_any_folder: bool) -> tuple[_Wildcard, int]:
    """Return the wildcard that begins at `start`, and the position after it."""
    at = start
    while pattern[at : at + 1] == b"*":
        at += 1
    rest = pattern[at:]
    # Git compares what comes before the first wildcard by itself, and then reads the rest as if it
    # were a pattern of its own: `a**/b` is `a`, any number of folders, `b`.
    is_first = re.search(rb"[*?\[\\]", pattern[:start]) is None
    follows_slash = is_first or pattern[start - 1 : start] == b"/"
    precedes_slash = not rest or rest.startswith((b"/", b"\\/"))
    if in_any_folder or at - start == 1 or not follows_slash or not precedes_slash:
        return _Wildcard.IN_FOLDER, at
    if rest.startswith(b"/"):
        return _Wildcard.FOLDERS, at + 1
    return _Wildcard.ANYTHING, at


def _parse_class(pattern: bytes, at: int) -> tuple[set[int], int]:
    """Return the bytes that a class `[...]` matches, and the position after it.

    Args:
        pattern: The whole pattern.
        at: The position after the `[`.

    Raises:
        _NeverMatchesError: The class does not end, matches nothing, or names an unknown class.
    """
    is_negated = _byte(pattern, at) in (b"!", b"^")
    at += is_negated
    members: set[int] = set()
    previous: int | None = None  # the byte that begins a range if a `-` follows
    start = at
    while at == start or _byte(pattern, at) != b"]":
        byte = _byte(pattern, at)
        if byte == b"-" and previous is not None and pattern[at + 1 : at + 2] not in (b"", b"]"):
            last, at = _parse_member(pattern, at + 1)
            members.update(range(previous, last + 1))
            previous = None
        elif named := _parse_posix_class(pattern, at):
            of_class, at = named
            members.update(of_class)
            previous = None
        else:
            previous, at = _parse_member(pattern, at)
            members.add(previous)
    if is_negated:
        members = set(range(256)) - members
    members.discard(ord("/"))
    if not members:
        raise _NeverMatchesError
    return members, at + 1


def _parse_member(pattern: bytes, at: int) -> tuple[int, int]:
    """Return a byte of a class, which a backslash may quote, and the position after it."""
    if _byte(pattern, at) == b"\\":
        at += 1
    return ord(_byte(pattern, at)), at + 1


def _parse_posix_class(pattern: bytes, at: int) -> tuple[bytes, int] | None:
    """Return the bytes of a `[:name:]` and the position after it; None if there is none."""
    if pattern[at : at + 2] != b"[:":
        return None
    end = pattern.find(b"]", at + 2)
    if end < 0:
        raise _NeverMatchesError
    if end == at + 2 or pattern[end - 1 : end] != b":":
        return None  # a set that holds a bracket and a colon
    name = pattern[at + 2 : end - 1]
    if name not in _POSIX_CLASSES:
        raise _NeverMatchesError
    return _POSIX_CLASSES[name], end + 1
