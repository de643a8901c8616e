"""The records of JSON files, plain or compressed, in bounded memory.

`lines` reads files with one record per line. `elements` reads every other framing: an array,
written on one line or over many; records that each take several lines; an object that wraps arrays
of records, such as `{"data": [...]}`. A JSON parser stops at the first damaged record. `elements`
follows brackets and quotes only, so that a damaged record does not affect others: if every record
begins a line, all with the same indentation, the next line with that indentation begins a record.
"""

from __future__ import annotations

import enum
import gzip
import re
import zlib
from collections.abc import Iterable, Iterator
from typing import IO

from codegen_pax.data.sources.errors import DamagedInputError
from codegen_pax.data.sources.storage import Opener, open_file

MAX_LINE_BYTES = 64 << 20  # ours: a longer line is skipped without being held in memory
CHUNK_BYTES = 1 << 20
_ZSTD_CHUNK_BYTES = 16 << 10  # compressed; the decompressed chunk is held in memory


def chunks(file: IO[bytes], path: str) -> Iterator[bytes]:
    """Yield the content of an open file in non-empty pieces, decompressed by its extension."""
    if path.endswith(".gz"):
        return _gzip_chunks(file, path)
    if path.endswith(".zst"):
        return filter(None, _zstd_chunks(file, path))
    return _plain_chunks(file)


def _plain_chunks(file: IO[bytes] | gzip.GzipFile) -> Iterator[bytes]:
    while chunk := file.read(CHUNK_BYTES):
        yield chunk


def _gzip_chunks(file: IO[bytes], path: str) -> Iterator[bytes]:
    try:
        with gzip.GzipFile(fileobj=file) as decompressed:
            yield from _plain_chunks(decompressed)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DamagedInputError(path, error) from error


def _zstd_chunks(file: IO[bytes], path: str) -> Iterator[bytes]:
    # zstandard's own stream reader ends a truncated file without an error, so frames are followed
    # here.
    import zstandard

    decompressor = zstandard.ZstdDecompressor(max_window_size=1 << 31)  # as `zstd --long=31` writes
    frame = None
    try:
        while data := file.read(_ZSTD_CHUNK_BYTES):
            while data:
                frame = frame or decompressor.decompressobj()
                yield frame.decompress(data)
                data = frame.unused_data if frame.eof else b""
                if frame.eof:
                    frame = None
    except zstandard.ZstdError as error:
        raise DamagedInputError(path, error) from error
    if frame is not None:
        raise DamagedInputError(path, "it ends inside a zstd frame")


def read_head(path: str, *, decompress: bool = True) -> tuple[bytes, bool]:
    """Return the first megabyte of a file, and whether that is all of it.

    If a compressed file is damaged, returns the content before the damage.
    """
    head = b""
    with open_file(path) as file:
        pieces = chunks(file, path) if decompress else _plain_chunks(file)
        try:
            while len(head) <= CHUNK_BYTES:
                piece = next(pieces, b"")
                if not piece:
                    return head, True
                head += piece
        except DamagedInputError:
            pass
    return head, False


def lines(
    path: str, start: int = 0, end: int | None = None, opener: Opener = open_file
) -> Iterator[tuple[int, int, bytes | None]]:
    """Yield the lines of a file that begin in a range of its bytes.

    Args:
        path: A local path or a URL; `.gz` and `.zst` are decompressed, and cannot have a range.
        start: The first byte of the range. A line that begins before it is not yielded.
        end: The end of the range; None for the end of the file.
        opener: Opens the file.

    Yields:
        (position, size, line): the byte at which the line begins in a plain file, or else the
        line's number from 0; its size in bytes; and the line without its line end, or None if it is
        longer than `MAX_LINE_BYTES`.

    Raises:
        DamagedInputError: A compressed file is truncated or is not compressed.
    """
    by_offset = not path.endswith((".gz", ".zst"))
    with opener(path) as file:
        offset = number = 0
        skip_first = False
        if start:
            file.seek(start - 1)
            offset, skip_first = start - 1, True
        parts: list[bytes] = []  # of the current line
        size = 0  # of the current line, including parts that are not held

        def line() -> bytes | None:
            return b"".join(parts).removesuffix(b"\r") if size <= MAX_LINE_BYTES else None

        for chunk in chunks(file, path):
            *line_ends, rest = chunk.split(b"\n")
            for part in line_ends:
                size += len(part)
                parts.append(part)
                if not skip_first:
                    if end is not None and offset >= end:
                        return
                    yield (offset if by_offset else number), size, line()
                    number += 1
                offset += size + 1
                skip_first, size = False, 0
                parts.clear()
            size += len(rest)
            if size <= MAX_LINE_BYTES:
                parts.append(rest)
            else:
                parts.clear()
            if end is not None and offset >= end and not skip_first:
                return
        if size and not skip_first and (end is None or offset < end):
            yield (offset if by_offset else number), size, line()


_RECORD_START = re.compile(rb"[^\s,\xef\xbb\xbf]")  # a byte-order mark begins no record
_TOKEN = re.compile(rb'["{}\[\]\n]')
_STRING_REST = re.compile(rb'[^"\\\n]*+(?:\\.[^"\\\n]*+)*+', re.S)
_SCALAR = re.compile(rb'[^\s,\[\]{}"]*+')
_STRING = rb'"[^"\\\n]*+(?:\\.[^"\\\n]*+)*+"'
_BLANKS = re.compile(rb"[ \t]*")
_MAX_INDENT_BYTES = 256  # searched backwards for the beginning of a line
_MAX_DEPTH = 5  # nested brackets that one regular expression follows


def bracketed(depth: int) -> bytes:
    """Return a pattern for an object or array with at most `depth` levels of nested brackets."""
    inner = rb'[^"{}\[\]]++|' + _STRING + (b"|" + bracketed(depth - 1) if depth > 1 else b"")
    return rb"\{(?:" + inner + rb")*+\}|\[(?:" + inner + rb")*+\]"


_SHALLOW_RECORD = re.compile(bracketed(_MAX_DEPTH), re.S)


def _end_of(pattern: re.Pattern[bytes], data: bytes, start: int) -> int:
    """Return the end of a match that begins at `start`; `start` if there is none."""
    match = pattern.match(data, start)
    return match.end() if match else start


class _State(enum.Enum):
    """The result of a step of the scanner."""

    NEEDS_DATA = enum.auto()
    INSIDE_RECORD = enum.auto()
    END_OF_RECORD = enum.auto()


class _Scanner:
    """Find records by following brackets and quotes.

    Attributes:
        depth_outside: How many brackets are open around a record: 1 in an array, else 0.
        in_record: Whether a record has begun and not ended.
        record_start: The byte of the file at which the last record began.
    """

    def __init__(self, limit: int):
        self._limit = limit
        self._data = b""  # from the beginning of the current record, or from `_position`
        self._position = 0  # in `_data`: everything before it has been scanned
        self._start = 0  # of the current record, in `_data`
        self._base = 0  # bytes of the file before `_data`
        self._discarded = 0  # bytes of the current record, which is too long to be held
        self._depth = 0  # of brackets in the current record
        self._in_string = False
        self._indent: bytes | None = None  # common to the lines that begin a record
        self._record_indent: bytes | None = None
        self.depth_outside = 0
        self.in_record = False
        self.record_start = 0

    def feed(self, data: bytes, is_last: bool = False) -> Iterator[tuple[int, bytes | None, int]]:
        """Yield the records that end in `data`, after what was fed before.

        Args:
            data: The next bytes of the file.
            is_last: Whether the file ends here.

        Yields:
            (brackets open around it, record or None if it is longer than the limit, its bytes).
        """
        self._append(data)
        while self._position < len(self._data):
            if not self.in_record and not self._enter_record():
                break
            state = self._advance(is_last)
            if state is _State.NEEDS_DATA:
                break
            if state is _State.END_OF_RECORD:
                yield self._leave_record()
        if is_last and self.in_record and not self._depth and not self._in_string:
            yield self._leave_record()  # a number may end with the file

    def _append(self, data: bytes) -> None:
        """Drop scanned data that is not part of a record, and append `data`."""
        if self._discarded or (self.in_record and self._position - self._start > self._limit):
            self._discarded += self._position - self._start
            self._start = self._position
        keep_from = self._start if self.in_record else self._position
        self._data = self._data[keep_from:] + data
        self._base += keep_from
        self._position -= keep_from
        self._start -= keep_from

    def _enter_record(self) -> bool:
        """Move to the beginning of the next record; return whether there is one."""
        while match := _RECORD_START.search(self._data, self._position):
            self._position = match.start()
            byte = match[0]
            if byte in b"[]" and self.depth_outside == (byte == b"]"):
                self.depth_outside = int(byte == b"[")
                self._position += 1
                continue
            if byte in b"]}":  # closes nothing that is open here
                self._position += 1
                continue
            search_from = max(0, self._position - _MAX_INDENT_BYTES)
            line_start = self._data.rfind(b"\n", search_from, self._position) + 1
            before = self._data[line_start : self._position] if line_start else b"{"
            self._record_indent = None if before.strip(b" \t") else before
            self._start, self.record_start = self._position, self._base + self._position
            self.in_record = True
            return True
        self._position = len(self._data)
        return False

    def _advance(self, is_last: bool) -> _State:
        """Scan to the next bracket, quote or line end of the record."""
        is_new = self._position == self._start and not self._discarded
        if is_new and (match := _SHALLOW_RECORD.match(self._data, self._position)):
            self._position = match.end()  # nearly every record
            return _State.END_OF_RECORD
        is_nested = self._depth or self._in_string
        if not is_nested and self._data[self._start : self._start + 1] not in b'[{"':
            return self._advance_scalar()
        token = self._next_token()
        if token is None:
            return _State.NEEDS_DATA
        if token == b"\n":
            return self._end_line(is_last)
        self._position += 1
        if token == b'"':
            self._in_string = not self._in_string
        else:
            self._depth += 1 if token in b"[{" else -1
        is_nested = self._depth > 0 or self._in_string
        return _State.INSIDE_RECORD if is_nested else _State.END_OF_RECORD

    def _advance_scalar(self) -> _State:
        """Scan over a number or word, up to the next character of another kind."""
        self._position = _end_of(_SCALAR, self._data, max(self._position, self._start))
        if self._position == self._start:  # a stray character
            self._position += 1
        at_end = self._position >= len(self._data)
        return _State.NEEDS_DATA if at_end else _State.END_OF_RECORD

    def _next_token(self) -> bytes | None:
        """Move to the next bracket, quote or line end; None if it is not in the data yet."""
        if self._in_string:
            self._position = _end_of(_STRING_REST, self._data, self._position)
            token = self._data[self._position : self._position + 1]
            return None if token in (b"", b"\\") else token
        match = _TOKEN.search(self._data, self._position)
        self._position = match.start() if match else len(self._data)
        return match[0] if match else None

    def _end_line(self, is_last: bool) -> _State:
        """End a damaged record where the next line begins another one."""
        if self._indent is not None:
            next_record = self._indent + b"{"
            if len(self._data) - self._position <= len(next_record) and not is_last:
                return _State.NEEDS_DATA
            if self._data.startswith(next_record, self._position + 1):
                return _State.END_OF_RECORD
        self._position += 1
        return _State.INSIDE_RECORD

    def _leave_record(self) -> tuple[int, bytes | None, int]:
        record = self._data[self._start : self._position]
        size = self._discarded + len(record)
        is_complete = not self._discarded and record.startswith(b"{")
        if self._indent is None and self._record_indent is not None and is_complete:
            second_line = record.find(b"\n") + 1
            # An empty record has one line in every style, so it says nothing about indentation.
            is_one_line = not second_line and b'"' in record
            inner_indent = _end_of(_BLANKS, record, second_line) - second_line
            if is_one_line or inner_indent > len(self._record_indent):
                self._indent = self._record_indent
        self.in_record = self._in_string = False
        self._depth = self._discarded = 0
        return self.depth_outside, record if size <= self._limit else None, size


def elements(
    chunks: Iterable[bytes], path: str, limit: int, is_wrapped: bool
) -> Iterator[tuple[int, int, bytes | None]]:
    """Yield the records of a JSON file that does not have one record per line.

    Args:
        chunks: The bytes of the file, decompressed.
        path: The file, for errors.
        limit: Bytes of the longest record that is held in memory.
        is_wrapped: Whether the file is an object around arrays, whose objects are the records.

    Yields:
        (number from 0, bytes, record or None if it is longer than `limit`).

    Raises:
        DamagedInputError: The file ends inside a record or an array.
    """
    scanner = _Scanner(limit)
    number = 0
    pending = iter(chunks)
    if is_wrapped:
        pending = _unwrap(pending)
    is_last = False
    while not is_last:
        chunk = next(pending, b"")
        is_last = not chunk
        for depth_outside, record, size in scanner.feed(chunk, is_last):
            if is_wrapped and (not depth_outside or not (record or b"{").startswith(b"{")):
                continue
            yield number, size, record
            number += 1
    if scanner.in_record:
        raise DamagedInputError(
            path, f"it ends in record {number}, which begins at byte {scanner.record_start:,}"
        )
    if scanner.depth_outside:
        raise DamagedInputError(path, f"it ends after {number:,} records in its array")


def _unwrap(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Yield the chunks with a blank in place of the first brace."""
    for chunk in chunks:
        before, brace, after = chunk.partition(b"{")
        yield before + b" " * len(brace) + after
        if brace:
            break
    yield from chunks
