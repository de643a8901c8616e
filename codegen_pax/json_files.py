"""JSON files of a folder that somebody else may have written: read with care, written whole.

A run's folder and a corpus are data. Nothing that they say is taken for granted: a file is a file
and not a pipe, is no larger than what is written here ever is, and has the fields that are asked
of it, each of its type.
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
MOST = 1 << 63  # no number is as large
_PIECE = 1 << 16  # bytes that are read at once
_SHOWN = 60  # characters of a value in an error


@dataclasses.dataclass(frozen=True)
class Fields:
    """An object with fields.

    Attributes:
      wanted: name -> its shape; each must be there.
      optional: the same of those that need not be there. Any others are not looked at.
    """

    wanted: Mapping[str, Any]
    optional: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def read(path: epath.Path) -> Any:
    """What a JSON file holds.

    Raises:
      ValueError: it is no file, too large, no JSON, or nested too deeply.
      OSError: it cannot be read.
    """
    if "://" not in str(path) and not stat.S_ISREG(path.stat().mode):
        raise InvalidValueError(f"{path} is no regular file")  # a pipe would be waited for
    content = bytearray()
    with path.open("rb") as file:
        # In pieces, since Python takes as much memory as is asked for, however small the file is.
        while len(content) <= MOST_BYTES and (piece := file.read(_PIECE)):
            content += piece
    if len(content) > MOST_BYTES:
        raise InvalidValueError(f"{path} is too large; wanted at most {MOST_BYTES:,} bytes")
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise InvalidValueError(f"{path}: wanted JSON, found {error}") from error
    level, levels = [found], 0
    while level := [
        child
        for value in level
        if isinstance(value, (dict, list))
        for child in (value.values() if isinstance(value, dict) else value)
    ]:
        if (levels := levels + 1) > MOST_LEVELS:
            raise InvalidValueError(f"{path} is nested too deeply; wanted {MOST_LEVELS} levels")
    return found


def write(path: epath.Path, content: Any) -> None:
    """Writes a JSON file, whole or not at all."""
    unfinished = path.with_name(f"{path.name}.unfinished")
    unfinished.unlink(missing_ok=True)  # a link would be followed
    unfinished.write_text(json.dumps(content, indent=1) + "\n")
    unfinished.replace(path)


def check(value: Any, shape: Any, where: str = "") -> None:
    """Looks whether a value has a shape.

    Args:
      value: of a JSON file.
      shape: a type, or several; `[shape]` of each of a list; `{str: shape}` of each value of an
        object; `Fields` of an object.
      where: the names and numbers that lead to it.

    Raises:
      ValueError: it has not; names the first place.
    """
    if isinstance(shape, list):
        _check_type(value, (list,), where)
        for number, one in enumerate(value):
            check(one, shape[0], f"{where}[{number}]")
    elif isinstance(shape, dict):
        _check_type(value, (dict,), where)
        for name, one in value.items():
            check(one, shape[str], _below(where, name))
    elif isinstance(shape, Fields):
        _check_type(value, (dict,), where)
        for name, wanted in shape.wanted.items():
            if name not in value:
                raise InvalidValueError(f"its {_below(where, name)!r} is missing")
            check(value[name], wanted, _below(where, name))
        for name, wanted in shape.optional.items():
            if name in value:
                check(value[name], wanted, _below(where, name))
    else:
        _check_type(value, shape if isinstance(shape, tuple) else (shape,), where)


def _check_type(value: Any, types: tuple[type, ...], where: str) -> None:
    # In Python True is a number, and a whole number is not a float.
    fits = isinstance(value, types) and (not isinstance(value, bool) or bool in types)
    if not fits or (isinstance(value, int) and abs(value) >= MOST):
        wanted = " or ".join("null" if kind is type(None) else kind.__name__ for kind in types)
        shown = repr(value)
        if len(shown) > _SHOWN:
            shown = f"{shown[:_SHOWN]}…"
        raise InvalidValueError(f"its {where!r} is {shown}; wanted {wanted}")


def _below(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name
