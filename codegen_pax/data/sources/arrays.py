"""The records of JSON that is not one record a line, in bounded memory.

An array, written in one line or over many; records that each take several lines; an object that
wraps arrays of records, as `{"data": [...]}`. A parser of JSON ends with the first record that is
damaged. Here brackets and quotes alone are followed, so that such a record costs itself alone:
where records begin lines, all equally far to the right, the next line that does so begins another.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from codegen_pax.data.sources.errors import DamagedInputError

_FIRST = re.compile(rb"[^\s,\xef\xbb\xbf]")  # of a record; a byte-order mark is none
_BRACKET = re.compile(rb'["{}\[\]\n]')
_IN_STRING = re.compile(rb'[^"\\\n]*+(?:\\.[^"\\\n]*+)*+', re.S)
_SCALAR = re.compile(rb'[^\s,\[\]{}"]*+')
_STRING = rb'"[^"\\\n]*+(?:\\.[^"\\\n]*+)*+"'
_MOST_INDENT = 256  # bytes that are looked at for where a line begins
_DEEPEST = 5  # brackets in one another that are followed at once


def bracketed(depth: int) -> bytes:
    """A pattern of an object or an array that has no more than so many brackets in one another."""
    inner = rb'[^"{}\[\]]++|' + _STRING + (b"|" + bracketed(depth - 1) if depth > 1 else b"")
    return rb"\{(?:" + inner + rb")*+\}|\[(?:" + inner + rb")*+\]"


_RECORD = re.compile(bracketed(_DEEPEST), re.S)
_BLANKS = re.compile(rb"[ \t]*")


class _Scanner:
    """Follows the brackets of what it is fed.

    Attributes:
      base: how many brackets are open around a record: 1 in an array, else 0.
      is_inside: whether a record has begun, and not ended.
      first: the byte that the last record began at.
    """

    def __init__(self, limit: int):
        self._limit = limit
        self._data = b""  # from before the record that has begun, or from `_at`
        self._at = 0  # what is before it was looked at
        self._begin = 0  # of the record, in `_data`
        self._seen = 0  # bytes before `_data`
        self._left_out = 0  # bytes of a record that is too long
        self._depth = 0  # of brackets in the record
        self._in_string = False
        self._indent: bytes | None = None  # of the lines that records begin
        self._own_indent: bytes | None = None
        self.base = 0
        self.is_inside = False
        self.first = 0

    def feed(self, data: bytes, is_last: bool = False) -> Iterator[tuple[int, bytes | None, int]]:
        """(base, record or None if it is longer than the limit, its bytes) of those that end."""
        if self._left_out or (self.is_inside and self._at - self._begin > self._limit):
            self._left_out += self._at - self._begin
            self._begin = self._at
        start = self._begin if self.is_inside else self._at
        self._data = self._data[start:] + data
        self._seen += start
        self._at -= start
        self._begin -= start
        while self._at < len(self._data):
            if not self.is_inside and not self._enter():
                break
            ended = self._follow(is_last)
            if ended is None:
                break
            if ended:
                yield self._record()
        if is_last and self.is_inside and not self._depth and not self._in_string:
            yield self._record()  # a number ends with the file

    def _enter(self) -> bool:
        """Goes to where the next record begins; whether there is one."""
        while found := _FIRST.search(self._data, self._at):
            self._at = found.start()
            byte = found[0]
            if byte in b"[]" and self.base == (byte == b"]"):
                self.base = int(byte == b"[")
                self._at += 1
                continue
            if byte in b"]}":  # of nothing that was opened here
                self._at += 1
                continue
            line = self._data.rfind(b"\n", max(0, self._at - _MOST_INDENT), self._at) + 1
            own = self._data[line : self._at] if line else b"{"
            self._own_indent = None if own.strip(b" \t") else own
            self._begin, self.first = self._at, self._seen + self._at
            self.is_inside = True
            return True
        self._at = len(self._data)
        return False

    def _follow(self, is_last: bool) -> bool | None:
        """Goes on in a record; whether it ends here; None if more is needed to go on."""
        data = self._data
        is_new = self._at == self._begin and not self._left_out
        if is_new and (found := _RECORD.match(data, self._at)):
            self._at = found.end()  # as nearly every record
            return True
        if self._in_string:
            self._at = _IN_STRING.match(data, self._at).end()
            if self._at == len(data) or data[self._at : self._at + 1] == b"\\":
                return None
            mark = data[self._at : self._at + 1]
        elif not self._depth and data[self._begin : self._begin + 1] not in b'[{"':
            self._at = _SCALAR.match(data, max(self._at, self._begin)).end()
            if self._at == self._begin:  # a stray mark
                self._at += 1
            return True if self._at < len(data) else None
        else:
            found = _BRACKET.search(data, self._at)
            if not found:
                self._at = len(data)
                return None
            self._at, mark = found.start(), found[0]
        if mark == b"\n":
            if self._indent is not None:
                wanted = self._indent + b"{"
                if len(data) - self._at <= len(wanted) and not is_last:
                    return None
                if data.startswith(wanted, self._at + 1):
                    return True  # this one was damaged
            self._at += 1
            return False
        self._at += 1
        if mark == b'"':
            self._in_string = not self._in_string
        else:
            self._depth += 1 if mark in b"[{" else -1
        return self._depth <= 0 and not self._in_string

    def _record(self) -> tuple[int, bytes | None, int]:
        record = self._data[self._begin : self._at]
        size = self._left_out + len(record)
        is_complete = not self._left_out and record.startswith(b"{")
        if self._indent is None and self._own_indent is not None and is_complete:
            inner = record.find(b"\n") + 1
            # Of all records that are not indented an empty one alone has no lines in it.
            is_line = not inner and b'"' in record
            if is_line or len(_BLANKS.match(record, inner)[0]) > len(self._own_indent):
                self._indent = self._own_indent
        is_short = size <= self._limit
        self.is_inside = self._in_string = False
        self._depth = self._left_out = 0
        return self.base, record if is_short else None, size


def elements(
    chunks: Iterable[bytes], path: str, limit: int, is_wrapped: bool
) -> Iterator[tuple[int, int, bytes | None]]:
    """The records of a file.

    Args:
      chunks: of its bytes, unpacked.
      path: of the file, for errors.
      limit: bytes of the longest record that is held.
      is_wrapped: whether it is an object around arrays, of which the objects are the records.

    Yields:
      (number from 0, bytes, record, or None if it is longer than `limit`).

    Raises:
      DamagedInputError: it ends in a record or in an array.
    """
    scanner = _Scanner(limit)
    number = 0
    pending = iter(chunks)
    if is_wrapped:
        pending = _unwrapped(pending)
    is_last = False
    while not is_last:
        chunk = next(pending, b"")
        is_last = not chunk
        for base, record, size in scanner.feed(chunk, is_last):
            if is_wrapped and (not base or not (record or b"{").startswith(b"{")):
                continue
            yield number, size, record
            number += 1
    if scanner.is_inside:
        raise DamagedInputError(
            path, f"it ends in record {number}, that begins at byte {scanner.first:,}"
        )
    if scanner.base:
        raise DamagedInputError(path, f"it ends after {number:,} records in its array")


def _unwrapped(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """The chunks, a blank in place of the first bracket."""
    for chunk in chunks:
        before, bracket, after = chunk.partition(b"{")
        yield before + b" " * len(bracket) + after
        if bracket:
            break
    yield from chunks
