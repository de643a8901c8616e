"""PyTorch's own files, which old Hugging Face folders hold: where their tensors lie.

They are read with PyTorch's weights-only loading, which builds tensors and nothing else, and under
a mode in which it builds them without their bytes. PyTorch is not needed for anything but this.
"""

from __future__ import annotations

import re
import warnings
import zipfile
from pathlib import Path

from codegen_pax import git_lfs
from codegen_pax.errors import InvalidValueError, UserError
from codegen_pax.weights import zip_members
from codegen_pax.weights.tensors import DTYPES, Tensor

_FOREIGN = (
    "{path} is packed otherwise than torch.save does it ({found}), and its tensors cannot be "
    "found: load and save it once with PyTorch"
)
_REASON = re.compile(r"WeightsUnpickler error: (.*?)(?:\. |\n|$)")


def find(path: Path) -> dict[str, Tensor]:
    """The tensors of one file, by name.

    Raises:
        RuntimeError: PyTorch is not installed.
        ValueError: the file is damaged, packed otherwise than by `torch.save`, of PyTorch before
            1.6, a pointer of git-LFS, or holds anything but tensors of plain numbers.
    """
    git_lfs.check_fetched([path])
    try:
        import torch
        from torch._subclasses.fake_tensor import FakeTensorMode
    except ModuleNotFoundError:
        raise UserError(
            f"{path.name} is a file of PyTorch, which is not installed: pip install torch, or save "
            "the model again as safetensors"
        ) from None
    storages = _storages(path)
    try:
        with FakeTensorMode(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # of a damaged file it raises what its parts happen to raise
        # Around its reason PyTorch says how to load the file nevertheless.
        found = _REASON.search(str(error))
        reason = found[1] if found else ""
        if not reason:
            lines = str(error).strip().splitlines()
            told = lines and "weights_only" not in lines[0] and "WeightsUnpickler" not in lines[0]
            reason = lines[0] if told else "it is none of PyTorch's, or holds what is no tensor"
        raise InvalidValueError(
            f"{path} cannot be read as weights alone ({reason}), and nothing else is ever loaded"
        ) from error
    if not isinstance(loaded, dict):
        raise InvalidValueError(f"{path} holds a {type(loaded).__name__}; wanted tensors by name")
    if numbers := [name for name in loaded if not isinstance(name, str)]:
        raise InvalidValueError(
            f"{path} holds a tensor called {numbers[0]!r}; wanted tensors by name"
        )
    strangers = [name for name, value in loaded.items() if not isinstance(value, torch.Tensor)]
    if strangers:
        raise InvalidValueError(
            f"{path} holds {strangers[0]!r}, a {type(loaded[strangers[0]]).__name__}; wanted "
            "tensors alone"
        )
    return {name: _place(path, storages, name, tensor) for name, tensor in loaded.items()}


def _storages(path: Path) -> dict[int, int]:
    """Offset -> bytes of every storage in the file, as its directory tells it; none of old ones.

    PyTorch reckons the offsets without looking, from the order and the padding of `torch.save`.
    Source: torch/serialization.py, `_load` and the records that `_save` writes.

    Raises:
        ValueError: the archive is damaged, or PyTorch would look in the wrong place.
    """
    if not zipfile.is_zipfile(path):
        return {}
    try:
        with zipfile.ZipFile(path) as archive, open(path, "rb") as opened:
            members = {name.partition("/")[2]: archive.getinfo(name) for name in archive.namelist()}
            order = b"little"
            if "byteorder" in members:
                order = archive.read(members["byteorder"])
            found = {
                zip_members.begin(opened, member): (int(name.removeprefix("data/")), member)
                for name, member in members.items()
                if re.fullmatch(r"data/[0-9]+", name)
            }
    except Exception as error:  # of a damaged file it raises what its parts happen to raise
        raise InvalidValueError(f"{path} is no whole zip archive: {error}") from error
    if order != b"little":
        raise InvalidValueError(
            _FOREIGN.format(path=path, found=f"byteorder {order.decode('latin-1')}")
        )
    if any(member.compress_type != zipfile.ZIP_STORED for _, member in found.values()):
        raise InvalidValueError(_FOREIGN.format(path=path, found="compressed"))
    numbers = [found[offset][0] for offset in sorted(found)]
    if ".format_version" in members and numbers != sorted(numbers):
        raise InvalidValueError(_FOREIGN.format(path=path, found="in another order"))
    return {offset: member.file_size for offset, (_, member) in found.items()}


def _place(path: Path, storages: dict[int, int], name: str, tensor) -> Tensor:
    stored = "quantised" if tensor.is_quantized else str(tensor.layout).removeprefix("torch.")
    if stored != "strided":
        raise InvalidValueError(f"{path}: {name} is stored as {stored}; wanted plain numbers")
    begin = getattr(tensor.untyped_storage(), "_checkpoint_offset", None)
    if begin is None:
        raise InvalidValueError(
            f"{path} was written by PyTorch before 1.6, whose files cannot be read in parts: load "
            "and save it once with a newer one"
        )
    if storages.get(begin) != tensor.untyped_storage().nbytes():
        raise InvalidValueError(_FOREIGN.format(path=path, found=f"{name} is elsewhere"))
    if tensor.is_neg() or tensor.is_conj():
        raise InvalidValueError(f"{path}: {name} is stored with another sign; wanted plain numbers")
    kind = str(tensor.dtype).removeprefix("torch.")
    shape = tuple(tensor.shape)
    begin += tensor.storage_offset() * tensor.element_size()
    columns_first = False
    if not tensor.is_contiguous():
        columns_first = tensor.ndim == 2 and tensor.T.is_contiguous()
        if not columns_first:
            raise InvalidValueError(
                f"{path}: {name} {shape} is stored with strides {tuple(tensor.stride())}; wanted "
                "rows or columns one after another"
            )
    return Tensor(path, begin, DTYPES.get(kind, kind), shape, columns_first)
