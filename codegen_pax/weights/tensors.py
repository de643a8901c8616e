"""Tensors by name, read a few rows at a time from any kind of file."""

from __future__ import annotations

import dataclasses
import math
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from codegen_pax import floats
from codegen_pax.errors import InvalidValueError


@dataclasses.dataclass(frozen=True)
class Tensor:
    """A tensor in a file.

    Attributes:
        path: path of the file.
        offset: offset of its first byte in the file.
        dtype: type of its numbers, little-endian; only the name if weights cannot have the type.
        shape: length of each axis.
        columns_first: whether a matrix is stored column after column.
        mapped: the tensor as a `torch.Tensor` that PyTorch has mapped into memory, to be read
            instead of the file; None for other files.
    """

    path: Path
    offset: int
    dtype: np.dtype | str
    shape: tuple[int, ...]
    columns_first: bool = False
    mapped: Any = None

    @property
    def numpy_dtype(self) -> np.dtype:
        """The type of its numbers; TypeError if weights cannot have it."""
        if isinstance(self.dtype, str):
            raise TypeError(f"{self.path} has numbers of {self.dtype}")
        return self.dtype

    @property
    def nbytes(self) -> int:
        """Bytes of the tensor in the file."""
        return math.prod(self.shape) * self.numpy_dtype.itemsize


class TruncatedFileError(InvalidValueError):
    """A file ends before a tensor that it should hold."""


class TensorReader:
    """Tensors by name, read a few rows at a time, from files or derived from another reader's.

    Attributes:
        tensors: the tensors by name.
    """

    tensors: dict[str, Tensor]

    def __init__(self, base: TensorReader):
        """Takes over the tensors of another reader, which a subclass may then change.

        Args:
            base: the reader that this one reads.
        """
        self.base = base
        self.tensors = dict(base.tensors)

    def paths(self) -> list[Path]:
        """Returns the files that are read, each once, by name."""
        return self.base.paths()

    def describe(self, name: str) -> str:
        """Returns where a tensor comes from, for a message."""
        return self.base.describe(name)

    def read_rows(self, name: str, start: int, stop: int, row_shape: tuple[int, ...]) -> np.ndarray:
        """Reads some rows of a tensor; may be called from several threads.

        Args:
            name: name of the tensor.
            start: first row; each row has the shape `row_shape`.
            stop: end of the rows.
            row_shape: shape of one row; the leading axes that it lacks are joined to one.

        Returns:
            [stop - start, *row_shape], of the tensor's own type; the caller may change it.
        """
        return self.base.read_rows(name, start, stop, row_shape)

    def read(self, name: str) -> np.ndarray:
        """Reads a whole tensor."""
        shape = self.tensors[name].shape
        return self.read_rows(name, 0, shape[0], shape[1:])

    def close(self) -> None:
        """Closes the files."""
        self.base.close()

    def __enter__(self) -> TensorReader:
        return self

    def __exit__(self, *_) -> None:
        self.close()


class FileReader(TensorReader):
    """Reads the tensors of files.

    A file is opened when it is first read, and reopened if it has been closed since. Only PyTorch's
    own files are mapped into memory, so that the pages of other files do not count as memory of
    this process.
    """

    def __init__(self, tensors: Mapping[str, Tensor]):
        """Checks that the files hold the tensors.

        Raises:
            ValueError: a tensor is of a type that weights cannot have.
            TruncatedFileError: a file is shorter than its tensors.
        """
        self.tensors = dict(tensors)
        self._descriptors: dict[Path, int] = {}
        self._opening = threading.Lock()
        sizes: dict[Path, int] = {}
        for name, tensor in self.tensors.items():
            if isinstance(tensor.dtype, str) or tensor.dtype not in floats.DTYPES.values():
                raise InvalidValueError(
                    f"{tensor.path}: {name} has the type {tensor.dtype}; expected one of "
                    f"{', '.join(floats.DTYPES)}"
                )
            size = sizes.setdefault(tensor.path, os.path.getsize(tensor.path))
            if tensor.mapped is None and tensor.offset + tensor.nbytes > size:
                raise TruncatedFileError(
                    f"{tensor.path} is truncated: {name} ends at byte "
                    f"{tensor.offset + tensor.nbytes:,}, the file at {size:,}"
                )

    def paths(self) -> list[Path]:
        """Returns the files, each once, by name."""
        return sorted({tensor.path for tensor in self.tensors.values()})

    def describe(self, name: str) -> str:
        """Returns the file and the name of a tensor."""
        return f"{self.tensors[name].path}: {name}"

    def read_rows(self, name: str, start: int, stop: int, row_shape: tuple[int, ...]) -> np.ndarray:
        """Reads some rows of a tensor; see `TensorReader`."""
        tensor = self.tensors[name]
        dtype = tensor.numpy_dtype
        if tensor.mapped is not None:
            import torch

            copied = tensor.mapped[start:stop].clone(memory_format=torch.contiguous_format)
            # NumPy does not know PyTorch's bfloat16.
            return copied.view(torch.uint8).numpy().view(dtype).reshape(-1, *row_shape)
        rows = np.empty((stop - start, *row_shape), dtype)
        if not tensor.columns_first:
            row_bytes = math.prod(row_shape) * dtype.itemsize
            self._read_into(rows, tensor.path, tensor.offset + start * row_bytes)
            return rows
        total, columns = tensor.shape
        stored = np.empty((columns, stop - start), dtype)
        for column in range(columns):
            offset = tensor.offset + (column * total + start) * dtype.itemsize
            self._read_into(stored[column], tensor.path, offset)
        return stored.T

    def close(self) -> None:
        """Closes the files; what PyTorch has mapped stays until its tensors are gone."""
        for descriptor in self._descriptors.values():
            os.close(descriptor)
        self._descriptors.clear()

    def _read_into(self, array: np.ndarray, path: Path, offset: int) -> None:
        with self._opening:
            if path not in self._descriptors:
                self._descriptors[path] = os.open(path, os.O_RDONLY)
        view = array.reshape(-1).view(np.uint8).data
        while view:
            count = os.preadv(self._descriptors[path], [view], offset)
            if not count:
                raise TruncatedFileError(f"{path} was truncated while it was read")
            view, offset = view[count:], offset + count
