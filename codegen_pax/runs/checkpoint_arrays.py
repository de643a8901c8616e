"""The arrays of a Pax checkpoint, one zarr folder each: read, and written without Pax.

A checkpoint that is written here has the weights in any type of `tensors.DTYPES`: Orbax makes them
the network's own when it restores them. The optimizer's arrays and the step are zero, and a zarr
array that is zero has no chunks: fresh moments take no room.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorstore
from etils import epath

from codegen_pax.runs import checksums
from codegen_pax.runs.lineage import COMMITTED, STATE, WEIGHTS, arrays_of
from codegen_pax.weights import rechunking, tensors
from codegen_pax.weights.layouts import Weight


class Variables:
    """The model's variables in a checkpoint, opened and not read.

    Attributes:
        checkpoint: its directory.
        stores: by the variable's name, as "params.lm.final_ln.bias".
    """

    def __init__(self, checkpoint: epath.PathLike, *, contents: bool = False):
        """Opens `<job>/checkpoints/checkpoint_<step>`, local or a URL.

        Args:
            checkpoint: its directory.
            contents: whether to compare what is stored with its checksums, and not sizes alone.

        Raises:
            FileNotFoundError: no array is there.
            OSError: one cannot be opened.
            ValueError: a chunk is missing, which would be read as zeros, or is not what was saved.
        """
        self.checkpoint = epath.Path(checkpoint)
        arrays = arrays_of(checkpoint)
        checksums.check(checkpoint, f"{STATE}/{WEIGHTS}", contents=contents)
        opening = {
            directory.name.removeprefix(WEIGHTS): tensorstore.open(_spec(directory), open=True)
            for directory in arrays
        }
        self.stores = {
            name: _result(store, f"{checkpoint}: {name} cannot be opened")
            for name, store in opening.items()
        }

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of each variable."""
        return {name: tuple(store.shape) for name, store in self.stores.items()}

    def dtypes(self) -> dict[str, np.dtype]:
        """Type that each variable is stored as."""
        return {name: store.dtype.numpy_dtype for name, store in self.stores.items()}

    def nbytes(self, name: str) -> int:
        """Bytes of a variable, uncompressed."""
        store = self.stores[name]
        return math.prod(store.shape) * store.dtype.numpy_dtype.itemsize

    def read(self, name: str, index: tuple[slice, ...] = ()) -> np.ndarray:
        """A part of a variable, as it is stored."""
        reading = self.stores[name][index].read()
        return np.asarray(_result(reading, f"{name} cannot be read"))

    def needs_rechunking(self, weight: Weight, cut: tuple[int, ...]) -> bool:
        """Whether its chunks are much larger than the cuts, of this shape, that it is read by."""
        store = self.stores[weight.variable]
        return rechunking.is_needed(store.shape, store.chunk_layout.read_chunk.shape, cut)

    def rechunk(self, weight: Weight, cut: tuple[int, ...], folder: Path) -> None:
        """Copies a weight to a folder, in smaller chunks, and reads it there from now on.

        Args:
            weight: the weight.
            cut: the shape that no chunk is to be larger than.
            folder: a new one.

        Raises:
            OSError: it cannot be read, or the disk is full.
        """
        store, name = self.stores[weight.variable], weight.variable
        chunk, dtype = store.chunk_layout.read_chunk.shape, store.dtype.numpy_dtype
        piece = rechunking.piece_shape(chunk, dtype.itemsize)
        copied = _create(folder, store.shape, store.dtype.name, tuple(map(min, piece, cut)))
        array = self.checkpoint / STATE / f"{WEIGHTS}{name}"
        read = functools.partial(self.read, name)
        for box, part in rechunking.read_pieces(array, store.shape, chunk, dtype, read):
            _result(copied[box].write(part), f"{folder} cannot be written")
        self.stores[name] = copied


def open_array(directory: epath.Path) -> tensorstore.TensorStore:
    """An array of a checkpoint, weights or not; OSError if it cannot be opened."""
    opening = tensorstore.open(_spec(directory), open=True)
    return _result(opening, f"{directory} cannot be opened")


def read_variables(checkpoint: epath.PathLike) -> dict:
    """The variables of one checkpoint, as a nested dict of arrays.

    Args:
        checkpoint: `<job>/checkpoints/checkpoint_<step>`, local or `gs://`.

    Returns:
        What `model.apply` takes: `{"params": {"lm": {...}}}`, in float32, as Pax restores them.

    Raises:
        FileNotFoundError: no array is there.
        ValueError: a file is not as it was saved, by its checksum; or a weight is no finite number.
    """
    opened = Variables(checkpoint, contents=True)
    reading = {
        name: tensorstore.cast(store, np.float32).read() for name, store in opened.stores.items()
    }
    variables: dict = {}
    for name, array in reading.items():
        *branches, leaf = name.split(".")
        tree = variables
        for branch in branches:
            tree = tree.setdefault(branch, {})
        tree[leaf] = found = np.asarray(array.result())
        if not tensors.is_finite(found):
            raise tensors.non_finite_error(f"{checkpoint}: {name}", found.shape, [(0, found)])
    return variables


class NewCheckpoint:
    """A checkpoint of step 0 that is filled part by part, from any thread."""

    def __init__(
        self,
        folder: Path,
        arrays: Mapping[str, Any],
        metadata: Mapping[str, Any],
        weights: Mapping[Weight, tuple[np.dtype, tuple[int, ...]]],
    ):
        """Makes every array, or opens those that are there.

        Args:
            folder: `<job>/checkpoints/checkpoint_00000000`.
            arrays: shape and type of every array of the train state, by the name of its folder.
            metadata: that Pax keeps beside them.
            weights: the type that each is stored as, and the shape of its chunks.
        """
        self._folder = folder
        stored = {f"{WEIGHTS}{weight.variable}": how for weight, how in weights.items()}
        self._stores = {}
        for name, array in arrays.items():
            # Layers apart, so that a device that holds a part of each reads no more.
            chunks = (1, *array.shape[1:]) if len(array.shape) > 1 else array.shape
            kind, chunks = stored.get(name, (array.dtype, chunks))
            path = folder / STATE / name
            self._stores[name] = _create(path, array.shape, np.dtype(kind).name, chunks)
        (folder / "metadata").mkdir(exist_ok=True)
        (folder / "metadata" / "metadata").write_text(json.dumps(metadata))
        (folder / COMMITTED).write_text("")

    def write(self, weight: Weight, index: tuple[slice, ...], part: np.ndarray) -> None:
        """Writes a part of a weight."""
        writing = self._stores[f"{WEIGHTS}{weight.variable}"][index].write(part)
        _result(writing, f"{weight.variable} cannot be written")


def _create(path: Path, shape, dtype: str, chunks) -> tensorstore.TensorStore:
    opening = tensorstore.open(
        {
            **_spec(epath.Path(path)),
            "metadata": {
                "shape": list(shape),
                "chunks": list(chunks),
                "compressor": None,  # weights hardly get smaller, and it takes ten times as long
            },
            "dtype": dtype,
        },
        create=True,
        open=True,
    )
    return _result(opening, f"{path} cannot be made")


def _result(future: tensorstore.Future, what: str) -> Any:
    """What a future of tensorstore gives; OSError for whatever it could not do."""
    try:
        return future.result()
    except ValueError as error:
        raise OSError(f"{what}: {error}") from error


def _spec(directory: epath.Path) -> dict[str, Any]:
    """The directory as tensorstore takes it: a URL, or a path of this machine with any name."""
    text = str(directory)
    kvstore = f"{text}/" if "://" in text else {"driver": "file", "path": str(directory.resolve())}
    return {"driver": "zarr", "kvstore": kvstore}
