"""Reads the arrays of a Pax checkpoint, one zarr directory each, and writes new ones without Pax.

A checkpoint that is written here stores the weights in any type of `floats.DTYPES`: Orbax converts
them when it restores them. The optimizer's arrays and the step are zero, and a zarr array that is
zero has no chunks, so that fresh moments take no room.
"""

from __future__ import annotations

import difflib
import functools
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorstore
from etils import epath

from codegen_pax import floats
from codegen_pax.errors import InvalidValueError
from codegen_pax.runs import checksums, rechunking
from codegen_pax.runs.checkpoints import (
    COMMIT_FILE,
    METADATA,
    STATE,
    WEIGHT_PREFIX,
    weight_directories,
)


class Variables:
    """The opened weights of a checkpoint, which are read in parts.

    Attributes:
        checkpoint: The directory of the checkpoint.
        stores: The array of each weight by its name, such as "params.lm.final_ln.bias".
    """

    def __init__(self, checkpoint: epath.PathLike, *, contents: bool = False):
        """Opens the weights of a checkpoint, after a comparison with its checksums.

        Args:
            checkpoint: The directory of the checkpoint, local or a URL.
            contents: Whether to compare contents with the checksums, and not sizes alone.

        Raises:
            FileNotFoundError: The checkpoint has no weights.
            OSError: A weight cannot be opened.
            ValueError: A chunk is missing (it would be read as zeros), or is not what was saved.
        """
        self.checkpoint = epath.Path(checkpoint)
        arrays = weight_directories(checkpoint)
        checksums.check(checkpoint, f"{STATE}/{WEIGHT_PREFIX}", contents=contents)
        opening = {
            directory.name.removeprefix(WEIGHT_PREFIX): tensorstore.open(
                _spec(directory), open=True
            )
            for directory in arrays
        }
        self.stores = {
            name: _result(store, f"{checkpoint}: {name} cannot be opened")
            for name, store in opening.items()
        }

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Returns the shape of each weight."""
        return {name: tuple(store.shape) for name, store in self.stores.items()}

    def dtypes(self) -> dict[str, np.dtype]:
        """Returns the type that each weight is stored as."""
        return {name: store.dtype.numpy_dtype for name, store in self.stores.items()}

    def nbytes(self, name: str) -> int:
        """Returns the uncompressed bytes of a weight."""
        store = self.stores[name]
        return math.prod(store.shape) * store.dtype.numpy_dtype.itemsize

    def read(self, name: str, index: tuple[slice, ...] = ()) -> np.ndarray:
        """Reads a part of a weight, in the type that it is stored as."""
        reading = self.stores[name][index].read()
        return np.asarray(_result(reading, f"{name} cannot be read"))

    def needs_rechunking(self, name: str, slice_shape: tuple[int, ...]) -> bool:
        """Returns whether a weight's chunks are much larger than the slices that are read of it.

        Args:
            name: The name of the weight.
            slice_shape: The shape of the slices.
        """
        store = self.stores[name]
        return rechunking.is_needed(store.shape, _chunk_shape(store), slice_shape)

    def rechunk(self, name: str, max_shape: tuple[int, ...], folder: Path) -> None:
        """Copies a weight to smaller chunks; later reads use the copy.

        Args:
            name: The name of the weight.
            max_shape: The largest shape of a chunk.
            folder: A new directory for the copy.

        Raises:
            OSError: The weight cannot be read, or the disk is full.
        """
        store = self.stores[name]
        chunk, dtype = _chunk_shape(store), store.dtype.numpy_dtype
        piece = rechunking.piece_shape(chunk, dtype.itemsize)
        copy = _create(folder, store.shape, store.dtype.name, tuple(map(min, piece, max_shape)))
        array = self.checkpoint / STATE / f"{WEIGHT_PREFIX}{name}"
        read = functools.partial(self.read, name)
        for box, part in rechunking.read_pieces(array, store.shape, chunk, dtype, read):
            _result(copy[box].write(part), f"{folder} cannot be written")
        self.stores[name] = copy


def count_not_finite(directory: epath.Path) -> int:
    """Returns how many numbers of an array are infinite or not a number, weights or not.

    Raises:
        OSError: The array cannot be opened or read.
        ValueError: TensorStore cannot decode it.
    """
    store = _result(tensorstore.open(_spec(directory), open=True), f"{directory} cannot be opened")

    def read(box: rechunking.Index) -> np.ndarray:
        return np.asarray(store[box].read().result())

    if not store.shape:  # the step: a single number has no grid of chunks
        return int(not np.isfinite(read(())))
    dtype = store.dtype.numpy_dtype
    parts = rechunking.read_pieces(directory, store.shape, _chunk_shape(store), dtype, read)
    return sum(int((~np.isfinite(part)).sum()) for _, part in parts)


def read_variables(checkpoint: epath.PathLike | Variables) -> dict:
    """Reads all weights of a checkpoint.

    Args:
        checkpoint: The directory of the checkpoint, local or a URL; or its opened weights.

    Returns:
        For `model.apply`: `{"params": {"lm": {...}}}`, in float32, as Pax restores it.

    Raises:
        FileNotFoundError: The checkpoint has no weights.
        ValueError: A file is not what was saved, or a weight is not finite.
    """
    if not isinstance(checkpoint, Variables):
        checkpoint = Variables(checkpoint, contents=True)
    stores = checkpoint.stores
    reading = {name: tensorstore.cast(store, np.float32).read() for name, store in stores.items()}
    variables: dict = {}
    for name, future in reading.items():
        *branches, leaf = name.split(".")
        tree = variables
        for branch in branches:
            tree = tree.setdefault(branch, {})
        tree[leaf] = array = np.asarray(future.result())
        if not floats.is_finite(array):
            owner = f"{checkpoint.checkpoint}: {name}"
            raise floats.non_finite_error(owner, array.shape, [(0, array)])
    return variables


class NewCheckpoint:
    """A checkpoint of step 0 that is filled part by part, from any thread."""

    def __init__(
        self,
        checkpoint: Path,
        arrays: Mapping[str, Any],
        metadata: Mapping[str, Any],
        weights: Mapping[str, tuple[np.dtype, tuple[int, ...]]],
    ):
        """Creates each array, or opens it if it exists.

        Args:
            checkpoint: The directory of the checkpoint.
            arrays: The shape and type of each array of the train state, by its name.
            metadata: The metadata that Pax keeps beside the arrays.
            weights: The type that each weight is stored as, and the shape of its chunks.
        """
        storage = {f"{WEIGHT_PREFIX}{name}": value for name, value in weights.items()}
        self._stores = {}
        for name, array in arrays.items():
            # One chunk a layer, so that a device that holds a part of each layer reads no more.
            chunks = (1, *array.shape[1:]) if len(array.shape) > 1 else array.shape
            dtype, chunks = storage.get(name, (array.dtype, chunks))
            path = checkpoint / STATE / name
            self._stores[name] = _create(path, array.shape, np.dtype(dtype).name, chunks)
        file = checkpoint / METADATA
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps(metadata))
        (checkpoint / COMMIT_FILE).write_text("")

    def write(self, name: str, index: tuple[slice, ...], part: np.ndarray) -> None:
        """Writes a part of a weight."""
        writing = self._stores[f"{WEIGHT_PREFIX}{name}"][index].write(part)
        _result(writing, f"{name} cannot be written")


def _create(
    path: Path, shape: Sequence[int], dtype: str, chunks: Sequence[int]
) -> tensorstore.TensorStore:
    """Creates an array, or opens it if it exists."""
    opening = tensorstore.open(
        {
            **_spec(epath.Path(path)),
            "metadata": {
                "shape": list(shape),
                "chunks": list(chunks),
                "compressor": None,  # weights hardly compress, and trying takes ten times as long
            },
            "dtype": dtype,
        },
        create=True,
        open=True,
    )
    return _result(opening, f"{path} cannot be created")


def _chunk_shape(store: tensorstore.TensorStore) -> tuple[int, ...]:
    """Returns the shape of a chunk of a zarr array."""
    shape = store.chunk_layout.read_chunk.shape
    assert shape is not None and None not in shape  # zarr has one grid for the whole array
    return tuple(size for size in shape if size is not None)


def _result(future: tensorstore.Future | tensorstore.WriteFutures, failure: str) -> Any:
    """Returns the result of a future of TensorStore; raises its errors as OSError."""
    try:
        return future.result()
    except ValueError as error:
        raise OSError(f"{failure}: {error}") from error


def _spec(directory: epath.Path) -> dict[str, Any]:
    """Returns how TensorStore finds an array: by a URL, or by a local path with any name."""
    text = str(directory)
    kvstore = f"{text}/" if "://" in text else {"driver": "file", "path": str(directory.resolve())}
    return {"driver": "zarr", "kvstore": kvstore}


def check_shapes(
    owner: str, actual: Mapping[str, Sequence[int]], expected: Mapping[str, Sequence[int]]
) -> None:
    """Checks that a network has all its tensors, of the right shapes, and no others.

    Args:
        owner: the owner of the weights, for the message: a layout's name, or "Pax".
        actual: shapes by name.
        expected: shapes by name.

    Raises:
        ValueError: a tensor is missing, unknown or of another shape; the message names the first.
    """
    missing = _without(expected, actual)
    unknown = _without(actual, expected)
    if unknown:
        nearest = difflib.get_close_matches(unknown[0], missing or expected, n=1, cutoff=0.0)[0]
        raise InvalidValueError(
            f"{owner} weights: {len(unknown)} unknown, the first {unknown[0]!r}; "
            f"the nearest expected name is {nearest!r}"
        )
    if missing:
        raise InvalidValueError(
            f"{owner} weights: {len(missing)} of {len(expected)} missing, the first {missing[0]!r}"
        )
    for name, shape in expected.items():
        if tuple(actual[name]) != tuple(shape):
            raise InvalidValueError(
                f"{owner} weights: {name} has shape {tuple(actual[name])}, expected {tuple(shape)}"
            )


def _without(names: Iterable[str], others: Mapping[str, Any]) -> list[str]:
    return [name for name in names if name not in others]
