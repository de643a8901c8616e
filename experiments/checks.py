"""Checks of the tables' rows and of declarations: each value where it is given. Standard library
only.

Every function takes the owner and the name of a value for the error, returns the value as it is to
be stored, and raises an `InvalidValueError`, a ValueError, of one line.
"""

from __future__ import annotations

import math
import numbers
import operator
from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from codegen_pax import names
from codegen_pax.errors import InvalidValueError


def whole(owner: str, name: str, value: Any, at_least: int = 1) -> int:
    """A whole number: neither a bool nor a float, which 1e9 is."""
    try:
        found = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        found = None
    if found is None or found < at_least:
        raise InvalidValueError(
            f"{owner}: {name}={value!r}; wanted a whole number, at least {at_least}"
            + (f": write {int(value)}" if _is_whole_float(value, at_least) else "")
        )
    return found


def number(
    owner: str, name: str, value: Any, *, above: float | None = None, below: float = math.inf
) -> float:
    """A finite number: above `above`, or at least 0 if None; below `below`."""
    real = isinstance(value, numbers.Real) and not isinstance(value, bool)
    low = real and (value >= 0 if above is None else value > above)
    if not (low and math.isfinite(value) and value < below):
        floor = "at least 0" if above is None else f"above {above:g}"
        ceiling = f" and below {below:g}" if math.isfinite(below) else ""
        raise InvalidValueError(f"{owner}: {name}={value!r}; wanted a number {floor}{ceiling}")
    return float(value)


def flag(owner: str, name: str, value: Any) -> bool:
    """True or False."""
    if not isinstance(value, bool):
        raise InvalidValueError(f"{owner}: {name}={value!r}; wanted True or False")
    return value


def text(owner: str, name: str, value: Any) -> str:
    """A string with something in it."""
    if not isinstance(value, str) or not value.strip():
        raise InvalidValueError(f"{owner}: {name}={value!r}; wanted a text")
    return value


def word(owner: str, name: str, value: Any) -> str:
    """Letters, digits and underscores, as in the name of a class."""
    if not isinstance(value, str) or not f"_{value}".isidentifier():
        raise InvalidValueError(
            f"{owner}: {name}={value!r}; wanted letters, digits and underscores"
        )
    return value


def choice(owner: str, name: str, value: Any, choices: type[StrEnum]) -> StrEnum:
    """One of the choices, given as itself or as its word."""
    return choices(one_of(owner, name, value, list(choices)))


def one_of(owner: str, name: str, value: Any, known: Iterable[str]) -> str:
    """One of some words; the nearest is named."""
    known = [str(word) for word in known]
    if not isinstance(value, str):
        raise InvalidValueError(f"{owner}: {name}={value!r}; wanted one of {', '.join(known)}")
    if value not in known:
        raise InvalidValueError(f"{owner}: {names.unknown(name, value, known)}")
    return value


def several(owner: str, name: str, value: Any) -> tuple[Any, ...]:
    """A list or tuple: one string would be taken for its letters."""
    if not isinstance(value, (list, tuple)):
        raise InvalidValueError(f"{owner}: {name}={value!r}; wanted a tuple, as ({value!r},)")
    return tuple(value)


def a(owner: str, name: str, value: Any, kind: type, wanted: str) -> Any:
    """An instance of a class."""
    if not isinstance(value, kind):
        raise InvalidValueError(f"{owner}: {name}={value!r}; wanted {wanted}")
    return value


def by_size(
    owner: str,
    name: str,
    table: Any,
    sizes: Iterable[str],
    check: Callable[..., Any],
) -> Mapping[str, Any]:
    """A read-only table by the names of sizes, each value of which is checked.

    Args:
      owner, name: as everywhere.
      table: name of a size -> value.
      sizes: the names that there are.
      check: of a value, one of the functions here, called with owner, name and value.
    """
    a(owner, name, table, Mapping, "a table by size, as {'350M': ...}")
    for size in table:
        if size not in sizes:
            raise InvalidValueError(f"{owner}: {name}: {names.unknown('size', str(size), sizes)}")
    return MappingProxyType(
        {size: check(owner, f"{name}[{size!r}]", value) for size, value in table.items()}
    )


def _is_whole_float(value: Any, at_least: int) -> bool:
    return isinstance(value, float) and value.is_integer() and value >= at_least
