"""The parameters in a checkpoint of jaxformer: where each lies, found without reading its numbers.

Sources of the format: salesforce/jaxformer, models/decoder/inter/checkpoint.py and hf/convert.py.
"""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import BinaryIO

import ml_dtypes
import numpy as np

from codegen_pax import git_lfs
from codegen_pax.errors import InvalidValueError, MissingFileError
from codegen_pax.weights import layouts
from codegen_pax.weights.tensors import Tensor

STEP_FILE = "ckpt.json"
PARAMETERS_FILE = Path("model", "0.npz")
_NPY_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
_ZIP_HEADER_BYTES = 30  # of a member's header, before the name
_ZIP_LENGTHS_OFFSET = 26  # in the header, of the lengths of the name and of the extra field


def parameter_order() -> list[str]:
    """Returns the names of jaxformer's parameters, in the order of its files.

    It is the order in which JAX flattens haiku's nested dictionaries.
    """

    def keys(name: str) -> tuple[str, str, str]:
        """Returns the keys that lead to a parameter: part, module, parameter."""
        part, _, rest = name.partition("/")
        module, _, parameter = rest.rpartition("/")
        return part, module, parameter

    return sorted((weight.jaxformer for weight in layouts.WEIGHTS), key=keys)


def find_weights(folder: Path) -> tuple[dict[str, Tensor], int]:
    """Finds the parameters of a checkpoint of jaxformer.

    The checkpoint is a folder `<step>` with `ckpt.json` and `model/<process>.npz`. Each process
    saved all parameters without their names, bfloat16 as two bytes without a type. Only the first
    file is read, as in jaxformer's own exporter. An array holds all layers of a weight, up to
    several GB, and `numpy.load` can neither map nor partly read a member of an archive, so this
    function finds the offsets of the arrays, which the archive stores uncompressed. The folder does
    not record the number of cores of the `mp` axis.

    Returns:
        The parameters by name, and the checkpoint's step.

    Raises:
        FileNotFoundError: the folder is not a checkpoint of jaxformer.
        ValueError: the file is damaged or compressed, or does not hold as many arrays as expected.
    """
    _check_folder(folder)
    git_lfs.check_fetched([folder / STEP_FILE, folder / PARAMETERS_FILE])
    try:
        step = int(json.loads((folder / STEP_FILE).read_text())["step"])
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise InvalidValueError(
            f"{folder / STEP_FILE} does not state the step: {error!r}"
        ) from error
    path = folder / PARAMETERS_FILE
    expected = parameter_order()
    try:
        with zipfile.ZipFile(path) as archive:
            members = {member.filename: member for member in archive.infolist()}
    except Exception as error:  # of a damaged file it raises what its parts happen to raise
        raise InvalidValueError(f"{path} is no complete npz file: {error}") from error
    if len(members) != len(expected):
        raise InvalidValueError(
            f"{path} holds {len(members)} arrays; expected the {len(expected)} of jaxformer's "
            "network"
        )
    tensors: dict[str, Tensor] = {}
    with open(path, "rb") as file:
        for number, name in enumerate(expected):
            member = members.get(f"arr_{number}.npy")
            if member is None:
                raise InvalidValueError(f"{path} has no array arr_{number}, which would be {name}")
            tensors[name] = _npz_member(path, name, member, file)
    return tensors, step


def _check_folder(folder: Path) -> None:
    missing = [name for name in (STEP_FILE, str(PARAMETERS_FILE)) if not (folder / name).is_file()]
    if not missing:
        return
    steps = sorted(
        (path.parent.name for path in folder.glob(f"*/{STEP_FILE}")),
        key=lambda name: (len(name), name),
    )
    hint = f"; it holds the steps {', '.join(steps)}: name one of them" if steps else ""
    raise MissingFileError(
        f"{folder} is no checkpoint of jaxformer: found no {missing[0]} in it{hint}"
    )


def _npz_member(path: Path, name: str, member: zipfile.ZipInfo, file: BinaryIO) -> Tensor:
    """Returns where an array of an archive lies, according to the headers in the file itself."""
    if member.compress_type != zipfile.ZIP_STORED:
        raise InvalidValueError(
            f"{path} is compressed, and cannot be read in parts: expected what numpy.savez writes"
        )
    file.seek(member.header_offset + _ZIP_LENGTHS_OFFSET)
    lengths = file.read(_ZIP_HEADER_BYTES - _ZIP_LENGTHS_OFFSET)
    name_and_extra = int.from_bytes(lengths[:2], "little") + int.from_bytes(lengths[2:], "little")
    file.seek(member.header_offset + _ZIP_HEADER_BYTES + name_and_extra)
    try:
        read_header = _NPY_HEADERS[np.lib.format.read_magic(file)]
        shape, columns_first, dtype = read_header(file)
    except Exception as error:  # as above: numpy has Python's own parser read the header
        raise InvalidValueError(
            f"{path}: {name} is no array that numpy saved: {error!r}"
        ) from error
    if dtype == np.dtype("V2"):
        dtype = np.dtype(ml_dtypes.bfloat16)
    if columns_first and len(shape) > 1:
        raise InvalidValueError(f"{path}: {name} is stored column by column; expected row by row")
    return Tensor(path, file.tell(), dtype, shape)
