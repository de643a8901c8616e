"""A folder of Hugging Face's: which files hold its tensors, safetensors or PyTorch's own."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from codegen_pax.errors import InvalidValueError, MissingFileError
from codegen_pax.weights import layout, safetensors_files, torch_files
from codegen_pax.weights.tensors import Tensor

CONFIG = "config.json"

# Where transformers looks, in its order: one file, or an index of several.
_WHOLE: dict[str, Callable[[Path], dict[str, Tensor]]] = {
    safetensors_files.WHOLE: safetensors_files.find,
    "pytorch_model.bin": torch_files.find,
}
_INDEXED = {
    safetensors_files.INDEX: safetensors_files.find,
    "pytorch_model.bin.index.json": torch_files.find,
}


def find(folder: Path) -> dict[str, Tensor]:
    """The weights of a folder by name; what is no weight (`layout.is_constant`) is left out.

    Raises:
        FileNotFoundError: there is no file of weights, or the index names one that is not there.
        ValueError: a file is damaged, or does not hold what the index says.
    """
    if not folder.is_dir():
        raise MissingFileError(f"{folder} is no directory; wanted one that transformers saved")
    for (whole, find_in), index in zip(_WHOLE.items(), _INDEXED, strict=True):
        if (folder / whole).is_file():
            return _weights(find_in(folder / whole))
        if (folder / index).is_file():
            return _weights(_indexed(folder, index))
    raise MissingFileError(
        f"{folder} holds no weights: wanted one of {', '.join((*_WHOLE, *_INDEXED))}"
    )


def read_config(folder: Path) -> dict:
    """What `config.json` says.

    Raises:
        FileNotFoundError: there is none: shapes alone do not tell heads and rotary dimensions.
        ValueError: it is no JSON object.
    """
    path = folder / CONFIG
    if not path.is_file():
        raise MissingFileError(f"{folder} has no {CONFIG}; wanted the one saved with the weights")
    try:
        found = json.loads(path.read_text())
    except (ValueError, RecursionError) as error:
        raise InvalidValueError(f"{path} is no JSON: {error}") from error
    if not isinstance(found, dict):
        raise InvalidValueError(f"{path} is no object of settings; found a {type(found).__name__}")
    return found


def _indexed(folder: Path, index: str) -> dict[str, Tensor]:
    try:
        where = dict(json.loads((folder / index).read_text())["weight_map"])
        files = sorted({*where.values()})
        names = [Path(file).name for file in files]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InvalidValueError(f"{folder / index} is no index of tensors: {error!r}") from error
    found: dict[str, Tensor] = {}
    for file, name in zip(files, names, strict=True):
        if name != file:
            raise InvalidValueError(
                f"{folder / index} names {file!r}; wanted a file of its own folder"
            )
        if not (folder / file).is_file():
            raise MissingFileError(f"{folder} has no {file}, which {index} names")
        held = _INDEXED[index](folder / file)
        of_file = [name for name, said in where.items() if said == file]
        strangers = (name for name in held if name not in of_file and not layout.is_constant(name))
        if stranger := next(strangers, None):
            raise InvalidValueError(
                f"{folder / file} holds {stranger}, which {index} does not place there: "
                "transformers would load it nevertheless"
            )
        for name in of_file:
            if name not in held:
                raise InvalidValueError(f"{folder / file} does not hold {name}, as {index} says")
            found[name] = held[name]
    return found


def _weights(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in tensors.items() if not layout.is_constant(name)}
