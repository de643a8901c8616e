"""The lines of a file, plain or compressed, in bounded memory."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from typing import BinaryIO

from codegen_pax.data.sources.errors import DamagedInputError
from codegen_pax.data.sources.storage import open_file

MAX_LINE_BYTES = 64 << 20  # ours: a longer line is skipped without being held
CHUNK_BYTES = 1 << 20
_ZSTD_CHUNK = 16 << 10  # of compressed bytes: what comes out is held at once


def _plain(file: BinaryIO) -> Iterator[bytes]:
    while chunk := file.read(CHUNK_BYTES):
        yield chunk


def _gzip(file: BinaryIO, path: str) -> Iterator[bytes]:
    try:
        with gzip.GzipFile(fileobj=file) as unpacked:
            yield from _plain(unpacked)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DamagedInputError(path, error) from error


def _zstd(file: BinaryIO, path: str) -> Iterator[bytes]:
    # zstandard's own stream reader ends a truncated file without a word: frames are followed here.
    import zstandard

    unpacker = zstandard.ZstdDecompressor(max_window_size=1 << 31)  # as `zstd --long=31` writes
    frame = None
    try:
        while data := file.read(_ZSTD_CHUNK):
            while data:
                frame = frame or unpacker.decompressobj()
                yield frame.decompress(data)
                data = frame.unused_data if frame.eof else b""
                if frame.eof:
                    frame = None
    except zstandard.ZstdError as error:
        raise DamagedInputError(path, error) from error
    if frame is not None:
        raise DamagedInputError(path, "it ends inside a zstd frame")


def chunks(file: BinaryIO, path: str) -> Iterator[bytes]:
    """The content of an open file in pieces, unpacked as its name says; none is empty."""
    if path.endswith(".gz"):
        return _gzip(file, path)
    return filter(None, _zstd(file, path)) if path.endswith(".zst") else _plain(file)


def head(path: str, *, unpacked: bool = True) -> tuple[bytes, bool]:
    """The first megabyte of a file, and whether that is all of it.

    Of a packed file that is damaged what can be unpacked before the damage.
    """
    found = b""
    with open_file(path) as file:
        pieces = chunks(file, path) if unpacked else _plain(file)
        try:
            while len(found) <= CHUNK_BYTES:
                piece = next(pieces, b"")
                if not piece:
                    return found, True
                found += piece
        except DamagedInputError:
            pass
    return found, False


def lines(
    path: str, start: int = 0, end: int | None = None
) -> Iterator[tuple[int, int, bytes | None]]:
    """The lines of a file that begin in a range of its bytes.

    Args:
      path: local or a URL; `.gz` and `.zst` are unpacked, and then have no range.
      start: of the range. The line that it falls into belongs to the range before.
      end: of the range; the end of the file if None.

    Yields:
      (position, size, line): of a plain file the byte the line begins at, else its number from 0;
      its bytes; the line without its end, or None if it is longer than `MAX_LINE_BYTES`.

    Raises:
      DamagedInputError: a compressed file ends early or is something else.
    """
    by_offset = not path.endswith((".gz", ".zst"))
    with open_file(path) as file:
        offset = number = 0
        skip_first = False
        if start:
            file.seek(start - 1)
            offset, skip_first = start - 1, True
        held: list[bytes] = []
        size = 0  # of the line so far, held or not

        def line() -> bytes | None:
            return b"".join(held).removesuffix(b"\r") if size <= MAX_LINE_BYTES else None

        for chunk in chunks(file, path):
            *whole, rest = chunk.split(b"\n")
            for part in whole:
                size += len(part)
                held.append(part)
                if not skip_first:
                    if end is not None and offset >= end:
                        return
                    yield (offset if by_offset else number), size, line()
                    number += 1
                offset += size + 1
                skip_first, size = False, 0
                held.clear()
            size += len(rest)
            if size <= MAX_LINE_BYTES:
                held.append(rest)
            else:
                held.clear()
            if end is not None and offset >= end and not skip_first:
                return
        if size and not skip_first and (end is None or offset < end):
            yield (offset if by_offset else number), size, line()
