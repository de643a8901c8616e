"""Files of tensors: safetensors, and PyTorch's own.

Each `find_*` function returns where the tensors lie, for a `tensors.FileReader`, without reading
their numbers. Safetensors are written here too, a few rows at a time, since the library can only
write a file that is all in memory. The bytes are those that the library would write.

Sources of the formats: the README of huggingface/safetensors; torch/serialization.py.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import re
import warnings
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors

from codegen_pax import git_lfs
from codegen_pax.errors import InvalidValueError, UserError
from codegen_pax.floats import DTYPES
from codegen_pax.weights.tensors import Tensor

# The name of each type in a header. Types that come first here come last in a file.
_DTYPE_NAMES = {"F16": "float16", "BF16": "bfloat16", "F32": "float32"}
_DTYPE_ORDER = list(_DTYPE_NAMES)
_DTYPE_CODES = {DTYPES[name]: code for code, name in _DTYPE_NAMES.items()}
_LENGTH_BYTES = 8  # of the header's length, which precedes the header
_ALIGNMENT = 8  # of the header

# transformers' own: files of at most 5 GB, tensors in the order of the state dict.
SHARD_BYTES = 5 * 10**9
SAFETENSORS = "model.safetensors"
SAFETENSORS_INDEX = "model.safetensors.index.json"

# The reason in a message of PyTorch, which is followed by advice on loading the file anyway.
_REASON = re.compile(r"WeightsUnpickler error: (.*?)(?:\. |\n|$)")


class DamagedFileError(InvalidValueError):
    """A file is not a safetensors file, or is damaged."""


def find_safetensors(path: Path) -> dict[str, Tensor]:
    """Finds the tensors of one safetensors file.

    Returns:
        The tensors by name. A type that weights cannot have is given by its name alone.

    Raises:
        DamagedFileError: the file is of another kind, or truncated.
        ValueError: the file is a pointer of git-LFS.
    """
    git_lfs.check_fetched([path])
    try:
        with safetensors.safe_open(path, "np"):
            pass  # opening it checks the header and every span in it
    except safetensors.SafetensorError as error:
        raise DamagedFileError(f"{path} is no complete safetensors file: {error}") from error
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
        header = json.loads(file.read(length))
    header.pop("__metadata__", None)
    tensors = {}
    for name, entry in header.items():
        offset = _LENGTH_BYTES + length + entry["data_offsets"][0]
        dtype = DTYPES.get(_DTYPE_NAMES.get(entry["dtype"], ""), entry["dtype"])
        tensors[name] = Tensor(path, offset, dtype, tuple(entry["shape"]))
    return tensors


def find_torch(path: Path) -> dict[str, Tensor]:
    """Finds the tensors of one file that `torch.save` wrote.

    PyTorch maps the file into memory and builds only tensors (`weights_only`): no code that the
    file names is run.

    Raises:
        UserError: PyTorch is not installed.
        ValueError: the file is damaged, was written by PyTorch before 1.6, is a pointer of git-LFS,
            or holds anything but tensors of plain numbers by name.
    """
    git_lfs.check_fetched([path])
    try:
        import torch
    except ModuleNotFoundError:
        raise UserError(
            f"reading {path.name} needs PyTorch, which is not installed: pip install "
            "'codegen-pax[hf]', or save the model again as safetensors"
        ) from None
    if not zipfile.is_zipfile(path) and _is_legacy(path):
        # Such a file cannot be mapped, and loading it takes as much memory as the whole network.
        raise InvalidValueError(
            f"{path} was written by PyTorch before 1.6, whose files cannot be read in parts: load "
            "and save it once with a newer version"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            loaded = torch.load(path, mmap=True, weights_only=True, map_location="cpu")
        _check_storages(path, loaded)
    except InvalidValueError:
        raise
    except Exception as error:  # of a damaged file it raises what its parts happen to raise
        raise InvalidValueError(
            f"{path} cannot be loaded as weights alone ({_reason(error)}), and nothing else is "
            "ever loaded"
        ) from error
    return {name: _mapped(path, name, tensor) for name, tensor in loaded.items()}


def _is_legacy(path: Path) -> bool:
    """Returns whether a file begins with the pickled magic number of PyTorch before 1.6."""
    with open(path, "rb") as file:
        return b"\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19." in file.read(64)


def _reason(error: Exception) -> str:
    """Returns the reason of an error of torch.load, without the advice to load the file anyway."""
    if reason := _REASON.search(str(error)):
        return reason[1]
    lines = str(error).strip().splitlines()
    if lines and "weights_only" not in lines[0] and "WeightsUnpickler" not in lines[0]:
        return lines[0]
    return "it is no file of PyTorch's, or holds something other than tensors"


def _check_storages(path: Path, loaded: Any) -> None:
    """Checks that the mapped tensors are those that the file stores.

    PyTorch does not check this: it would map the compressed bytes of a compressed archive, and the
    numbers of the next storage if a storage is too short.
    """
    import torch

    if not isinstance(loaded, dict):
        raise InvalidValueError(f"{path} holds a {type(loaded).__name__}; expected tensors by name")
    for name, value in loaded.items():
        if not isinstance(name, str):
            raise InvalidValueError(
                f"{path} holds a tensor called {name!r}; expected tensors by name"
            )
        if not isinstance(value, torch.Tensor):
            raise InvalidValueError(
                f"{path} holds {name!r}, a {type(value).__name__}; expected tensors alone"
            )
    with zipfile.ZipFile(path) as archive:
        members = [member for member in archive.infolist() if "/data/" in member.filename]
    if any(member.compress_type != zipfile.ZIP_STORED for member in members):
        raise InvalidValueError(
            f"{path} is compressed, unlike what torch.save writes: load and save it once with "
            "PyTorch"
        )
    plain = [tensor for tensor in loaded.values() if _kind(tensor) == "strided"]
    sizes = {s.data_ptr(): s.nbytes() for s in (tensor.untyped_storage() for tensor in plain)}
    mapped = [size for _, size in sorted(sizes.items()) if size]
    stored = [m.file_size for m in sorted(members, key=lambda m: m.header_offset) if m.file_size]
    if len(plain) == len(loaded) and mapped != stored:
        raise InvalidValueError(
            f"{path} is damaged: its tensors have other sizes than the numbers stored in it"
        )


def _kind(tensor: Any) -> str:
    return "quantised" if tensor.is_quantized else str(tensor.layout).removeprefix("torch.")


def _mapped(path: Path, name: str, tensor: Any) -> Tensor:
    if (kind := _kind(tensor)) != "strided":
        raise InvalidValueError(f"{path}: {name} is stored as {kind}; expected plain numbers")
    if tensor.is_neg() or tensor.is_conj():
        raise InvalidValueError(
            f"{path}: {name} is stored with another sign; expected plain numbers"
        )
    dtype = str(tensor.dtype).removeprefix("torch.")
    return Tensor(path, 0, DTYPES.get(dtype, dtype), tuple(tensor.shape), mapped=tensor)


@dataclasses.dataclass(frozen=True)
class SafetensorsFile:
    """A file to be written.

    Attributes:
        name: name of the file.
        tensors: type and shape by name, in the order of the file.
    """

    name: str
    tensors: Mapping[str, tuple[np.dtype, tuple[int, ...]]]

    def header(self) -> tuple[bytes, dict[str, int]]:
        """Returns the bytes before the first tensor, and the offset of each tensor in the file."""
        entries: dict[str, Any] = {"__metadata__": {"format": "pt"}}
        offset = 0
        for name, (dtype, shape) in self.tensors.items():
            size = math.prod(shape) * dtype.itemsize
            entries[name] = {
                "dtype": _DTYPE_CODES[dtype],
                "shape": list(shape),
                "data_offsets": [offset, offset + size],
            }
            offset += size
        text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
        text += b" " * (-len(text) % _ALIGNMENT)
        header = len(text).to_bytes(_LENGTH_BYTES, "little") + text
        offsets = {name: len(header) + entries[name]["data_offsets"][0] for name in self.tensors}
        return header, offsets

    def size(self) -> int:
        """Returns the size of the file in bytes."""
        return len(self.header()[0]) + sum(
            math.prod(shape) * dtype.itemsize for dtype, shape in self.tensors.values()
        )


def plan_safetensors(
    tensors: Mapping[str, tuple[np.dtype, tuple[int, ...]]], max_bytes: int
) -> list[SafetensorsFile]:
    """Distributes a state dict over files as transformers does.

    Args:
        tensors: type and shape by name, in the order of the state dict.
        max_bytes: the most bytes of tensors in a file, unless a single tensor is larger.
    """
    groups: list[dict] = []
    group: dict = {}
    filled = 0
    for name, (dtype, shape) in tensors.items():
        size = math.prod(shape) * dtype.itemsize
        if size > max_bytes:
            groups.append({name: (dtype, shape)})
            continue
        if filled + size > max_bytes:
            groups.append(group)
            group, filled = {}, 0
        group[name] = (dtype, shape)
        filled += size
    groups += [group] if group else []
    files = []
    for number, group in enumerate(groups, 1):
        file_name = SAFETENSORS
        if len(groups) > 1:
            file_name = f"model-{number:05d}-of-{len(groups):05d}.safetensors"
        # The library's order in a file: by type, then by name.
        ordered = sorted(
            group.items(),
            key=lambda item: (-_DTYPE_ORDER.index(_DTYPE_CODES[item[1][0]]), item[0]),
        )
        files.append(SafetensorsFile(file_name, dict(ordered)))
    return files


def safetensors_index(files: Iterable[SafetensorsFile]) -> dict:
    """Returns the content of `model.safetensors.index.json`."""
    tensors = {name: (file, entry) for file in files for name, entry in file.tensors.items()}
    sizes = [(math.prod(shape), dtype.itemsize) for _, (dtype, shape) in tensors.values()]
    return {
        "metadata": {
            "total_parameters": sum(count for count, _ in sizes),
            "total_size": sum(count * size for count, size in sizes),
        },
        "weight_map": {name: file.name for name, (file, _) in tensors.items()},
    }


class SafetensorsWriter:
    """Writes the tensors of safetensors files in any order, from any thread."""

    def __init__(self, folder: Path, files: Iterable[SafetensorsFile]):
        """Makes the files at their full size."""
        self._places: dict[str, tuple[int, int, np.dtype]] = {}
        self._descriptors: list[int] = []
        try:
            for file in files:
                descriptor = os.open(folder / file.name, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644)
                self._descriptors.append(descriptor)
                header, offsets = file.header()
                os.pwrite(descriptor, header, 0)
                os.ftruncate(descriptor, file.size())
                for name, (dtype, _) in file.tensors.items():
                    self._places[name] = (descriptor, offsets[name], dtype)
        except BaseException:
            self.close()
            raise

    def write(self, name: str, start: int, rows: np.ndarray) -> None:
        """Writes rows [r, ...] of a tensor, beginning at its row `start`."""
        descriptor, begin, dtype = self._places[name]
        if rows.dtype != dtype:
            raise TypeError(f"{name} is written as {dtype}; found rows of {rows.dtype}")
        row_bytes = math.prod(rows.shape[1:]) * dtype.itemsize
        view = np.ascontiguousarray(rows).reshape(-1).view(np.uint8).data
        offset = begin + start * row_bytes
        while view:
            count = os.pwrite(descriptor, view, offset)
            view, offset = view[count:], offset + count

    def close(self) -> None:
        """Closes the files."""
        while self._descriptors:
            os.close(self._descriptors.pop())

    def __enter__(self) -> SafetensorsWriter:
        return self

    def __exit__(self, *_) -> None:
        self.close()
