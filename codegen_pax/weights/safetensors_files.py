"""Safetensors: the places of a folder's tensors, and files that are written a few rows at a time.

The library reads and checks headers. It has no way to write a file without all of it in memory, so
that is done here; the bytes are those that the library would write.
Source of the format: the README of huggingface/safetensors.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import safetensors

from codegen_pax import git_lfs
from codegen_pax.errors import InvalidValueError
from codegen_pax.weights.tensors import DTYPES, Tensor

# The name of each type in a header, from those that come last in a file to those that come first.
_NAMES = {"F16": "float16", "BF16": "bfloat16", "F32": "float32"}
_ORDER = list(_NAMES)
_CODES = {DTYPES[name]: code for code, name in _NAMES.items()}
_LENGTH_BYTES = 8  # of the header's length, before it
_ALIGNMENT = 8  # of the header

# transformers' own: files of at most 5 GB, tensors in the order of the state dict.
SHARD_BYTES = 5 * 10**9
WHOLE = "model.safetensors"
INDEX = "model.safetensors.index.json"


class DamagedFileError(InvalidValueError):
    """A file is no safetensors file, or damaged."""


def find(path: Path) -> dict[str, Tensor]:
    """The tensors of one file, by name; of a type that weights cannot have, its name alone.

    Raises:
        DamagedFileError: the file is none of this kind, or cut short.
        ValueError: it is a pointer of git-LFS.
    """
    git_lfs.check_fetched([path])
    try:
        with safetensors.safe_open(path, "np"):
            pass  # it has checked that the header and every span in it are sound
    except safetensors.SafetensorError as error:
        raise DamagedFileError(f"{path} is no whole safetensors file: {error}") from error
    with open(path, "rb") as opened:
        length = int.from_bytes(opened.read(_LENGTH_BYTES), "little")
        said = json.loads(opened.read(length))
    said.pop("__metadata__", None)
    places = {}
    for name, tensor in said.items():
        begin = _LENGTH_BYTES + length + tensor["data_offsets"][0]
        kind = DTYPES.get(_NAMES.get(tensor["dtype"], ""), tensor["dtype"])
        places[name] = Tensor(path, begin, kind, tuple(tensor["shape"]))
    return places


@dataclasses.dataclass(frozen=True)
class Shard:
    """A file that is to be written.

    Attributes:
        name: of the file.
        tensors: type and shape by name, in the order of the file.
    """

    name: str
    tensors: Mapping[str, tuple[np.dtype, tuple[int, ...]]]

    def header(self) -> tuple[bytes, dict[str, int]]:
        """The bytes before the first tensor, and where in the file each tensor begins."""
        said: dict[str, dict] = {"__metadata__": {"format": "pt"}}
        offset = 0
        for name, (kind, shape) in self.tensors.items():
            size = math.prod(shape) * kind.itemsize
            said[name] = {
                "dtype": _CODES[kind],
                "shape": list(shape),
                "data_offsets": [offset, offset + size],
            }
            offset += size
        text = json.dumps(said, separators=(",", ":"), ensure_ascii=False).encode()
        text += b" " * (-len(text) % _ALIGNMENT)
        header = len(text).to_bytes(_LENGTH_BYTES, "little") + text
        begins = {name: len(header) + said[name]["data_offsets"][0] for name in self.tensors}
        return header, begins

    def size(self) -> int:
        """Bytes of the file."""
        return len(self.header()[0]) + sum(
            math.prod(shape) * kind.itemsize for kind, shape in self.tensors.values()
        )


def plan(tensors: Mapping[str, tuple[np.dtype, tuple[int, ...]]], shard_bytes: int) -> list[Shard]:
    """Cuts a state dict into files as transformers does.

    Args:
        tensors: type and shape by name, in the order of the state dict.
        shard_bytes: of tensors in a file, at most, unless one alone is larger.
    """
    groups: list[dict] = []
    group: dict = {}
    filled = 0
    for name, (kind, shape) in tensors.items():
        size = math.prod(shape) * kind.itemsize
        if size > shard_bytes:
            groups.append({name: (kind, shape)})
            continue
        if filled + size > shard_bytes:
            groups.append(group)
            group, filled = {}, 0
        group[name] = (kind, shape)
        filled += size
    groups += [group] if group else []
    shards = []
    for number, group in enumerate(groups, 1):
        file = WHOLE
        if len(groups) > 1:
            file = f"model-{number:05d}-of-{len(groups):05d}.safetensors"
        # As the library orders a file: by type, then by name.
        ordered = sorted(
            group.items(), key=lambda item: (-_ORDER.index(_CODES[item[1][0]]), item[0])
        )
        shards.append(Shard(file, dict(ordered)))
    return shards


def index(shards: list[Shard]) -> dict:
    """What `model.safetensors.index.json` says."""
    sizes = [
        (math.prod(shape), kind.itemsize)
        for shard in shards
        for kind, shape in shard.tensors.values()
    ]
    return {
        "metadata": {
            "total_parameters": sum(count for count, _ in sizes),
            "total_size": sum(count * size for count, size in sizes),
        },
        "weight_map": {name: shard.name for shard in shards for name in shard.tensors},
    }


class Writer:
    """Files of tensors that are written in any order, from any thread."""

    def __init__(self, folder: Path, shards: list[Shard]):
        """Makes the files at their full size, or opens those that are there already."""
        self._places: dict[str, tuple[int, int, np.dtype]] = {}
        self._descriptors: list[int] = []
        try:
            for shard in shards:
                descriptor = os.open(folder / shard.name, os.O_RDWR | os.O_CREAT, 0o644)
                self._descriptors.append(descriptor)
                header, begins = shard.header()
                os.pwrite(descriptor, header, 0)
                os.ftruncate(descriptor, shard.size())
                for name, (kind, _) in shard.tensors.items():
                    self._places[name] = (descriptor, begins[name], kind)
        except BaseException:
            self.close()
            raise

    def write(self, name: str, start: int, rows: np.ndarray) -> None:
        """Writes rows [r, ...] of a tensor, the first of them its row `start`."""
        descriptor, begin, kind = self._places[name]
        if rows.dtype != kind:
            raise TypeError(f"{name} is written as {kind}; found rows of {rows.dtype}")
        row_bytes = math.prod(rows.shape[1:]) * kind.itemsize
        view = memoryview(np.ascontiguousarray(rows).reshape(-1).view(np.uint8))
        offset = begin + start * row_bytes
        while view:
            count = os.pwrite(descriptor, view, offset)
            view, offset = view[count:], offset + count

    def close(self) -> None:
        """Closes the files."""
        while self._descriptors:
            os.close(self._descriptors.pop())

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *_) -> None:
        self.close()
