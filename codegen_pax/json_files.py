"""JSON files of job directories and corpora: validated when read, written atomically.

Such a folder may come from somebody else, so its files are checked: each must be a regular file of
limited size and nesting, and each field must have its type.
"""

from __future__ import annotations

import dataclasses
import json
import stat
from collections.abc import Mapping
from typing import Any

from etils import epath

from codegen_pax.errors import InvalidValueError

MOST_BYTES = 64 << 20
MOST_LEVELS = 650  # of nesting: Python's writer gives up before 1,000
MOST = 1 << 63  # numbers are smaller
_PIECE = 1 << 16  # bytes that are read at once
_SHOWN_CHARACTERS = 60  # of a value in an error


@dataclasses.dataclass(frozen=True)
class Fields:
    """An object with fields.

    Attributes:
        required: name -> shape of each required field.
        optional: name -> shape of each optional field. Other fields are ignored.
    """

    required: Mapping[str, Any]
    optional: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def read(path: epath.Path) -> Any:
    """Returns the content of a JSON file.

    Raises:
        ValueError: it is not a regular file, is too large, is not JSON, or is nested too deeply.
        OSError: it cannot be read.
    """
    if "://" not in str(path) and not stat.S_ISREG(path.stat().mode):
        raise InvalidValueError(f"{path} is no regular file")  # reading a pipe would block
    content = bytearray()
    with path.open("rb") as file:
        # In pieces: Python allocates as much as is requested, however small the file is.
        while len(content) <= MOST_BYTES and (piece := file.read(_PIECE)):
            content += piece
    if len(content) > MOST_BYTES:
        raise InvalidValueError(f"{path} is too large; expected at most {MOST_BYTES:,} bytes")
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise InvalidValueError(f"{path}: expected JSON, found {error}") from error
    level, levels = [value], 0
    while level := [
        child
        for node in level
        if isinstance(node, (dict, list))
        for child in (node.values() if isinstance(node, dict) else node)
    ]:
        if (levels := levels + 1) > MOST_LEVELS:
            raise InvalidValueError(f"{path} is nested too deeply; expected {MOST_LEVELS} levels")
    return value


def write(path: epath.Path, content: Any) -> None:
    """Writes a JSON file atomically."""
    unfinished = path.with_name(f"{path.name}.unfinished")
    unfinished.unlink(missing_ok=True)  # writing would follow a link
    unfinished.write_text(json.dumps(content, indent=1) + "\n")
    unfinished.replace(path)


def check(value: Any, shape: Any, where: str = "") -> None:
    """Checks that a value has a shape.

    Args:
        value: a part of a JSON file.
        shape: a type or a tuple of types; `[shape]` for a list of it; `{str: shape}` for an object
            with such values; `Fields` for an object with given fields.
        where: the path to the value, for the error.

    Raises:
        ValueError: the value has another shape; the message names the first difference.
    """
    if isinstance(shape, list):
        _check_type(value, (list,), where)
        for number, element in enumerate(value):
            check(element, shape[0], f"{where}[{number}]")
    elif isinstance(shape, dict):
        _check_type(value, (dict,), where)
        for name, element in value.items():
            check(element, shape[str], _below(where, name))
    elif isinstance(shape, Fields):
        _check_type(value, (dict,), where)
        for name, field in shape.required.items():
            if name not in value:
                raise InvalidValueError(f"its {_below(where, name)!r} is missing")
            check(value[name], field, _below(where, name))
        for name, field in shape.optional.items():
            if name in value:
                check(value[name], field, _below(where, name))
    else:
        _check_type(value, shape if isinstance(shape, tuple) else (shape,), where)


def _check_type(value: Any, types: tuple[type, ...], where: str) -> None:
    # In Python True is a number, and a whole number is not a float.
    fits = isinstance(value, types) and (not isinstance(value, bool) or bool in types)
    if not fits or (isinstance(value, int) and abs(value) >= MOST):
        expected = " or ".join("null" if kind is type(None) else kind.__name__ for kind in types)
        shown = repr(value)
        if len(shown) > _SHOWN_CHARACTERS:
            shown = f"{shown[:_SHOWN_CHARACTERS]}…"
        raise InvalidValueError(f"its {where!r} is {shown}; expected {expected}")


def _below(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name
