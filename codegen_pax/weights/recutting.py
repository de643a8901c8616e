"""Chunks of a stored array that are much more than is read of them at a time: cut smaller first.

A chunk is decoded whole for any part of it. What Pax saves are the parts that its devices hold,
every layer of a weight in one: read cut by cut, each would be decoded once for every layer.
Source of the format: zarr's storage specification, version 2. Chunks are whole at the edges too.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import zstandard
from etils import epath

from codegen_pax.weights import cuts

# Times that an array may be decoded when all its cuts are read: one that is not cut again.
_MOST_TIMES = 2

Box = tuple[slice, ...]


def is_needed(shape: Sequence[int], chunk: Sequence[int], cut: Sequence[int]) -> bool:
    """Whether reading all cuts of an array decodes more than twice its bytes.

    If not, no chunk is larger than two cuts.

    Args:
        shape: of the array.
        chunk: of its grid of chunks.
        cut: of the grid of cuts that it is read by.
    """
    return math.prod(map(_times, shape, chunk, cut)) > _MOST_TIMES


def _times(size: int, chunk: int, cut: int) -> float:
    """How often one axis is decoded."""
    begins = range(0, size, cut)
    chunks = sum(-(-min(size, begin + cut) // chunk) - begin // chunk for begin in begins)
    return chunks * chunk / size


def piece_shape(chunk: Sequence[int], itemsize: int) -> tuple[int, ...]:
    """The shape of the pieces, alike and one after another, that a chunk is unpacked by.

    Args:
        chunk: its shape.
        itemsize: bytes of a number.

    Returns:
        Whole rows of an axis, of `cuts.CUT_BYTES` at most, or one number.
    """
    axis = 0
    while axis + 1 < len(chunk) and math.prod(chunk[axis + 1 :]) * itemsize > cuts.CUT_BYTES:
        axis += 1
    rows = max(1, min(chunk[axis], cuts.CUT_BYTES // (math.prod(chunk[axis + 1 :]) * itemsize)))
    while chunk[axis] % rows:
        rows -= 1
    return (*(1,) * axis, rows, *chunk[axis + 1 :])


def pieces(
    array: epath.Path,
    shape: Sequence[int],
    chunk: Sequence[int],
    dtype: np.dtype,
    read: Callable[[Box], np.ndarray],
) -> Iterator[tuple[Box, np.ndarray]]:
    """The parts of an array, chunk by chunk; of those that Pax stores no chunk is ever whole.

    Args:
        array: its zarr folder, local or a URL.
        shape: of the array.
        chunk: of its grid of chunks.
        dtype: of its numbers.
        read: reads a part, for an array that is packed otherwise than Pax does it.

    Yields:
        The index of a part, and what it holds; a chunk that is not there is zero, and left out.

    Raises:
        OSError: a chunk is damaged or cannot be read.
    """
    said = json.loads((array / ".zarray").read_text())
    packed = (said["compressor"] or {"id": "none"})["id"]
    plain = said["order"] == "C" and not said["filters"] and packed in ("none", "zstd")
    for place in np.ndindex(*(-(-n // c) for n, c in zip(shape, chunk, strict=True))):
        begins = [number * size for number, size in zip(place, chunk, strict=True)]
        if not plain:
            box = _box(begins, chunk, shape)
            yield box, read(box)
            continue
        file = array / said.get("dimension_separator", ".").join(map(str, place))
        if file.exists():
            for offset, part in _unpacked(file, packed, chunk, dtype):
                first = [begin + n for begin, n in zip(begins, offset, strict=True)]
                box = _box(first, part.shape, shape)
                inside = part[tuple(slice(0, axis.stop - axis.start) for axis in box)]
                if inside.size:
                    yield box, inside


def _box(begins: Sequence[int], sizes: Sequence[int], shape: Sequence[int]) -> Box:
    """What of a part lies inside the array: chunks at its edge reach beyond it, or lie there."""
    return tuple(
        slice(min(begin, end), min(begin + size, end))
        for begin, size, end in zip(begins, sizes, shape, strict=True)
    )


def _unpacked(
    file: epath.Path, packed: str, chunk: Sequence[int], dtype: np.dtype
) -> Iterator[tuple[Sequence[int], np.ndarray]]:
    """The pieces of a chunk's file, each with its offset in the chunk."""
    size = piece_shape(chunk, dtype.itemsize)
    with file.open("rb") as opened:
        stream = zstandard.ZstdDecompressor().stream_reader(opened) if packed == "zstd" else opened
        for number in np.ndindex(*(-(-n // c) for n, c in zip(chunk, size, strict=True))):
            piece = np.empty(size, dtype)
            view = memoryview(piece.reshape(-1).view(np.uint8))
            while view:
                try:
                    count = stream.readinto(view)
                except zstandard.ZstdError as error:
                    raise OSError(f"{file} is damaged: {error}") from error
                if not count:
                    raise OSError(f"{file} is damaged: it ends early")
                view = view[count:]
            yield [n * axis for n, axis in zip(number, size, strict=True)], piece
