"""PyTorch's own files, which old Hugging Face folders hold: where their tensors lie.

They are read with PyTorch's weights-only loading, which builds tensors and nothing else, and under
a mode in which it builds them without their bytes. PyTorch is not needed for anything but this.
"""

from __future__ import annotations

import pickle
import re
from pathlib import Path

from codegen_pax.weights.tensors import DTYPES, Tensor

_REASON = re.compile(r"WeightsUnpickler error: (.*?)(?:\. |\n|$)")


def find(path: Path) -> dict[str, Tensor]:
    """The tensors of one file, by name.

    Raises:
        RuntimeError: PyTorch is not installed.
        ValueError: the file is damaged, of PyTorch before 1.6, or holds anything but tensors.
    """
    try:
        import torch
        from torch._subclasses.fake_tensor import FakeTensorMode
    except ModuleNotFoundError:
        raise RuntimeError(
            f"{path.name} is a file of PyTorch, which is not installed: pip install torch, or save "
            "the model again as safetensors"
        ) from None
    try:
        with FakeTensorMode():
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        # Around its reason PyTorch says how to load the file nevertheless.
        found = _REASON.search(str(error))
        lines = str(error).strip().splitlines()
        reason = found[1] if found else lines[0] if lines else type(error).__name__
        raise ValueError(
            f"{path} cannot be read as weights alone ({reason}), and nothing else is ever loaded"
        ) from error
    if not isinstance(loaded, dict):
        raise ValueError(f"{path} holds a {type(loaded).__name__}; wanted tensors by name")
    strangers = [name for name, value in loaded.items() if not isinstance(value, torch.Tensor)]
    if strangers:
        raise ValueError(
            f"{path} holds {strangers[0]!r}, a {type(loaded[strangers[0]]).__name__}; wanted "
            "tensors alone"
        )
    return {name: _place(path, name, tensor) for name, tensor in loaded.items()}


def _place(path: Path, name: str, tensor) -> Tensor:
    begin = getattr(tensor.untyped_storage(), "_checkpoint_offset", None)
    if begin is None:
        raise ValueError(
            f"{path} was written by PyTorch before 1.6, whose files cannot be read in parts: load "
            "and save it once with a newer one"
        )
    kind = str(tensor.dtype).removeprefix("torch.")
    shape = tuple(tensor.shape)
    begin += tensor.storage_offset() * tensor.element_size()
    columns_first = False
    if not tensor.is_contiguous():
        columns_first = tensor.ndim == 2 and tensor.T.is_contiguous()
        if not columns_first:
            raise ValueError(
                f"{path}: {name} {shape} is stored with strides {tuple(tensor.stride())}; wanted "
                "rows or columns one after another"
            )
    return Tensor(path, begin, DTYPES.get(kind, kind), shape, columns_first)
