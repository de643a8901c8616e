"""jaxformer's checkpoints: a folder `<step>` with `ckpt.json` and `model/<process>.npz`.

Each process saved all parameters, in the order in which JAX flattens haiku's dictionaries, without
their names; bfloat16 is saved as two bytes without a type. The first file is the one that is read,
as jaxformer's own exporter does. The folder does not say the cores of the `mp` axis.
Source: salesforce/jaxformer, models/decoder/inter/checkpoint.py and hf/convert.py.
"""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import ml_dtypes
import numpy as np

from codegen_pax import git_lfs
from codegen_pax.errors import InvalidValueError, MissingFileError
from codegen_pax.weights import layout, zip_members
from codegen_pax.weights.tensors import Tensor

STEP = "ckpt.json"
FIRST = Path("model", "0.npz")
_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def parameter_order() -> list[str]:
    """The names of all parameters, in the order of the file."""
    return sorted((weight.jaxformer for weight in layout.WEIGHTS), key=_keys)


def find(folder: Path) -> tuple[dict[str, Tensor], int]:
    """The parameters of a checkpoint by name, and its step.

    Raises:
        FileNotFoundError: the folder is no checkpoint of jaxformer.
        ValueError: the file is damaged, compressed, or does not hold as many arrays as wanted.
    """
    _check_folder(folder)
    git_lfs.check_fetched([folder / STEP, folder / FIRST])
    try:
        step = int(json.loads((folder / STEP).read_text())["step"])
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise InvalidValueError(f"{folder / STEP} does not say the step: {error!r}") from error
    wanted = parameter_order()
    path = folder / FIRST
    found: dict[str, Tensor] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            members = {member.filename: member for member in archive.infolist()}
    except Exception as error:  # of a damaged file it raises what its parts happen to raise
        raise InvalidValueError(f"{path} is no whole npz file: {error}") from error
    if len(members) != len(wanted):
        raise InvalidValueError(
            f"{path} holds {len(members)} arrays; wanted the {len(wanted)} of jaxformer's network"
        )
    with open(path, "rb") as opened:
        for number, name in enumerate(wanted):
            member = members.get(f"arr_{number}.npy")
            if member is None:
                raise InvalidValueError(f"{path} has no array arr_{number}, which would be {name}")
            found[name] = _place(path, name, member, opened)
    return found, step


def _check_folder(folder: Path) -> None:
    missing = [name for name in (STEP, str(FIRST)) if not (folder / name).is_file()]
    if not missing:
        return
    steps = sorted(
        (path.parent.name for path in folder.glob(f"*/{STEP}")), key=lambda name: (len(name), name)
    )
    hint = f"; it holds the steps {', '.join(steps)}: name one of them" if steps else ""
    raise MissingFileError(
        f"{folder} is no checkpoint of jaxformer: found no {missing[0]} in it{hint}"
    )


def _place(path: Path, name: str, member: zipfile.ZipInfo, opened) -> Tensor:
    if member.compress_type != zipfile.ZIP_STORED:
        raise InvalidValueError(
            f"{path} is compressed, and cannot be read in parts: wanted what numpy.savez writes"
        )
    opened.seek(zip_members.begin(opened, member))
    try:
        read_header = _HEADERS[np.lib.format.read_magic(opened)]
        shape, columns_first, kind = read_header(opened)
    except Exception as error:  # as above: numpy has Python's own parser read the header
        raise InvalidValueError(
            f"{path}: {name} is no array that numpy saved: {error!r}"
        ) from error
    if kind == np.dtype("V2"):
        kind = np.dtype(ml_dtypes.bfloat16)
    if columns_first and len(shape) > 1:
        raise InvalidValueError(f"{path}: {name} is stored column by column; wanted row by row")
    return Tensor(path, opened.tell(), kind, shape)


def _keys(name: str) -> tuple[str, str, str]:
    """A full name as the three keys it has in the nested dictionaries: part, module, parameter."""
    part, _, rest = name.partition("/")
    module, _, parameter = rest.rpartition("/")
    return part, module, parameter
