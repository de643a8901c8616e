"""Tensors as bytes in files, read a few rows at a time, whatever kind of file holds them."""

from __future__ import annotations

import dataclasses
import math
import os
import threading
from collections.abc import Mapping
from pathlib import Path

import ml_dtypes
import numpy as np

from codegen_pax import names
from codegen_pax.errors import InvalidValueError

# What weights may be stored as, by the name that users know.
DTYPES = {
    "float32": np.dtype(np.float32),
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
}

# What else people call them: PyTorch's own other names, and those of its users.
_SHORT_NAMES = {
    "fp32": "float32",
    "f32": "float32",
    "float": "float32",
    "single": "float32",
    "fp16": "float16",
    "f16": "float16",
    "half": "float16",
    "bf16": "bfloat16",
}


def dtype(name: str) -> np.dtype:
    """The type called `name`; ValueError with the nearest name if weights cannot have it."""
    plain = name.lower().removeprefix("torch.")
    plain = _SHORT_NAMES.get(plain, plain)
    if plain not in DTYPES:
        known = [*DTYPES, *_SHORT_NAMES]
        raise InvalidValueError(names.unknown("dtype of weights", name, known))
    return DTYPES[plain]


@dataclasses.dataclass(frozen=True)
class Tensor:
    """Where a tensor lies.

    Attributes:
        path: of the file.
        offset: of its first byte in it.
        dtype: of its numbers, little-endian; only the name of one that weights cannot have.
        shape: its axes.
        columns_first: whether a matrix is stored column after column.
    """

    path: Path
    offset: int
    dtype: np.dtype | str
    shape: tuple[int, ...]
    columns_first: bool = False

    @property
    def nbytes(self) -> int:
        """Bytes of it in the file."""
        return math.prod(self.shape) * self.dtype.itemsize


class CutShortError(InvalidValueError):
    """A file ends before a tensor that it should hold."""


class Source:
    """Tensors by name, read a few rows at a time: those of files, or what is made of another's.

    Attributes:
        tensors: by name.
        below: the source that this one reads; None for files.
    """

    def __init__(self, below: Source):
        """Has the tensors of another source, until a subclass changes them."""
        self.below = below
        self.tensors = dict(below.tensors)

    def paths(self) -> list[Path]:
        """The files that are read, each once, by name."""
        return self.below.paths()

    def place(self, name: str) -> str:
        """Where a tensor is from, for a message."""
        return self.below.place(name)

    def rows(self, name: str, start: int, stop: int, row_shape: tuple[int, ...]) -> np.ndarray:
        """Some rows of a tensor; may be called from several threads.

        Args:
            name: of the tensor.
            start, stop: rows, of `row_shape` each.
            row_shape: of one row; leading axes that are not in it are joined to one.

        Returns:
            [stop - start, *row_shape], of the tensor's own type.
        """
        return self.below.rows(name, start, stop, row_shape)

    def whole(self, name: str) -> np.ndarray:
        """A tensor, all of it."""
        shape = self.tensors[name].shape
        return self.rows(name, 0, shape[0], shape[1:])

    def close(self) -> None:
        """Closes the files."""
        self.below.close()

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *_) -> None:
        self.close()


class Files(Source):
    """Reads tensors by name, without mapping files: what is read is no part of this process.

    A file is opened when it is first read, and again when it was closed since.
    """

    def __init__(self, tensors: Mapping[str, Tensor]):
        """Checks that the files hold what they should.

        Raises:
            ValueError: a tensor is of a type that weights cannot have.
            CutShortError: a file is shorter than its tensors.
        """
        self.tensors = dict(tensors)
        self._open: dict[Path, int] = {}
        self._opening = threading.Lock()
        sizes: dict[Path, int] = {}
        for name, tensor in self.tensors.items():
            if tensor.dtype not in DTYPES.values():
                raise InvalidValueError(
                    f"{tensor.path}: {name} has the type {tensor.dtype}; wanted one of "
                    f"{', '.join(DTYPES)}"
                )
            size = sizes.setdefault(tensor.path, os.path.getsize(tensor.path))
            if tensor.offset + tensor.nbytes > size:
                raise CutShortError(
                    f"{tensor.path} is cut short: {name} ends at byte "
                    f"{tensor.offset + tensor.nbytes:,}, the file at {size:,}"
                )

    def paths(self) -> list[Path]:
        return sorted({tensor.path for tensor in self.tensors.values()})

    def place(self, name: str) -> str:
        return f"{self.tensors[name].path}: {name}"

    def rows(self, name: str, start: int, stop: int, row_shape: tuple[int, ...]) -> np.ndarray:
        tensor = self.tensors[name]
        itemsize = tensor.dtype.itemsize
        rows = np.empty((stop - start, *row_shape), tensor.dtype)
        if not tensor.columns_first:
            row_bytes = math.prod(row_shape) * itemsize
            self._read(tensor.path, rows, tensor.offset + start * row_bytes)
            return rows
        total, columns = tensor.shape
        stored = np.empty((columns, stop - start), tensor.dtype)
        for column in range(columns):
            place = tensor.offset + (column * total + start) * itemsize
            self._read(tensor.path, stored[column], place)
        return stored.T

    def close(self) -> None:
        for descriptor in self._open.values():
            os.close(descriptor)
        self._open.clear()

    def _read(self, path: Path, into: np.ndarray, offset: int) -> None:
        with self._opening:
            if path not in self._open:
                self._open[path] = os.open(path, os.O_RDONLY)
        view = memoryview(into.reshape(-1).view(np.uint8))
        while view:
            count = os.preadv(self._open[path], [view], offset)
            if not count:
                raise CutShortError(f"{path} was cut short while it was read")
            view, offset = view[count:], offset + count
