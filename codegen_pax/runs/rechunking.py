"""Reads stored arrays whose chunks are much larger than the parts that are read at a time.

Reading any part of a chunk decodes the whole chunk. A chunk that Pax saves is the part of a weight
that a device holds, with every layer: read slice by slice, it would be decoded once for every
layer. So such an array is first copied to smaller chunks, and for the copy its chunks are decoded
piece by piece. Chunks at the edges of an array are as large as the others.

Source of the format: zarr's storage specification, version 2.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import zstandard
from etils import epath

# An array that would be decoded more often than this to read all its slices is copied first.
_MAX_TIMES_DECODED = 2

PIECE_BYTES = 32 << 20  # of a chunk that are in memory at once

Index = tuple[slice, ...]


def is_needed(shape: Sequence[int], chunk: Sequence[int], part: Sequence[int]) -> bool:
    """Returns whether reading an array part by part decodes more than twice its bytes.

    If not, no chunk is larger than two parts.

    Args:
        shape: The shape of the array.
        chunk: The shape of a chunk.
        part: The shape of the parts that are read.
    """
    return math.prod(map(_times_decoded, shape, chunk, part)) > _MAX_TIMES_DECODED


def _times_decoded(size: int, chunk: int, part: int) -> float:
    """Returns how often one axis is decoded."""
    starts = range(0, size, part)
    chunks = sum(-(-min(size, start + part) // chunk) - start // chunk for start in starts)
    return chunks * chunk / size


def piece_shape(chunk: Sequence[int], itemsize: int) -> tuple[int, ...]:
    """Returns the shape of the equal, consecutive pieces in which a chunk is decoded.

    Args:
        chunk: The shape of the chunk.
        itemsize: The bytes of a number.

    Returns:
        Whole rows of an axis, of `PIECE_BYTES` at most, or one number.
    """
    axis = 0
    while axis + 1 < len(chunk) and math.prod(chunk[axis + 1 :]) * itemsize > PIECE_BYTES:
        axis += 1
    row_bytes = math.prod(chunk[axis + 1 :]) * itemsize
    rows = max(1, min(chunk[axis], PIECE_BYTES // row_bytes))
    while chunk[axis] % rows:
        rows -= 1
    return (*(1,) * axis, rows, *chunk[axis + 1 :])


def read_pieces(
    array: epath.Path,
    shape: Sequence[int],
    chunk: Sequence[int],
    dtype: np.dtype,
    read: Callable[[Index], np.ndarray],
) -> Iterator[tuple[Index, np.ndarray]]:
    """Reads an array chunk by chunk, and chunks that Pax stores piece by piece.

    Args:
        array: The zarr directory, local or a URL.
        shape: The shape of the array.
        chunk: The shape of a chunk.
        dtype: The type of the numbers.
        read: Reads a part of the array; used if it is not stored as Pax stores arrays.

    Yields:
        The index of a part, and its numbers; a chunk that is not stored is zero, and left out.

    Raises:
        OSError: A chunk is damaged or cannot be read.
    """
    metadata = json.loads((array / ".zarray").read_text())
    compressor = (metadata["compressor"] or {"id": "none"})["id"]
    as_pax = (
        metadata["order"] == "C"
        and not metadata["filters"]
        and not metadata["fill_value"]
        and metadata["dtype"][0] != ">"  # big-endian
        and compressor in ("none", "zstd")
    )
    for place in np.ndindex(*(-(-n // c) for n, c in zip(shape, chunk, strict=True))):
        starts = [number * size for number, size in zip(place, chunk, strict=True)]
        if not as_pax:
            index = _clip(starts, chunk, shape)
            yield index, read(index)
            continue
        file = array / metadata.get("dimension_separator", ".").join(map(str, place))
        if file.exists():
            for offset, piece in _decode(file, compressor, chunk, dtype):
                first = [start + n for start, n in zip(starts, offset, strict=True)]
                index = _clip(first, piece.shape, shape)
                inside = piece[tuple(slice(0, axis.stop - axis.start) for axis in index)]
                if inside.size:
                    yield index, inside


def _clip(starts: Sequence[int], sizes: Sequence[int], shape: Sequence[int]) -> Index:
    """Returns the part of a piece inside the array; chunks at its edge reach beyond it."""
    return tuple(
        slice(min(start, end), min(start + size, end))
        for start, size, end in zip(starts, sizes, shape, strict=True)
    )


def _decode(
    file: epath.Path, compressor: str, chunk: Sequence[int], dtype: np.dtype
) -> Iterator[tuple[Sequence[int], np.ndarray]]:
    """Yields the pieces of a chunk's file, each with its offset in the chunk."""
    size = piece_shape(chunk, dtype.itemsize)
    with file.open("rb") as raw:
        stream = zstandard.ZstdDecompressor().stream_reader(raw) if compressor == "zstd" else raw
        for number in np.ndindex(*(-(-n // c) for n, c in zip(chunk, size, strict=True))):
            piece = np.empty(size, dtype)
            view = piece.reshape(-1).view(np.uint8).data
            while view:
                try:
                    count = stream.readinto(view)
                except zstandard.ZstdError as error:
                    raise OSError(f"{file} is damaged: {error}") from error
                if not count:
                    raise OSError(f"{file} is damaged: it ends early")
                view = view[count:]
            yield [n * axis for n, axis in zip(number, size, strict=True)], piece
