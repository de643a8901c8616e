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
from codegen_pax.data.rules import languages
from codegen_pax.errors import InvalidValueError


def store(row: Any, name: str, value: Any) -> None:
    """Stores a checked value in a frozen row that is being made."""
    object.__setattr__(row, name, value)


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


def count(owner: str, name: str, value: Any) -> int:
    """A whole number, at least 0."""
    return whole(owner, name, value, at_least=0)


def tokens(owner: str, name: str, value: Any) -> int:
    """Tokens in a row: of one alone none is predicted."""
    return whole(owner, name, value, at_least=2)


def number(owner: str, name: str, value: Any) -> float:
    """A finite number, at least 0."""
    return _number(owner, name, value, "at least 0", lambda found: found >= 0)


def rate(owner: str, name: str, value: Any) -> float:
    """A finite number above 0."""
    return _number(owner, name, value, "above 0", lambda found: found > 0)


def share(owner: str, name: str, value: Any) -> float:
    """A number from 0 to below 1."""
    return _number(owner, name, value, "from 0 to below 1", lambda found: 0 <= found < 1)


def percent(owner: str, name: str, value: Any) -> float:
    """A number from 0 to 100."""
    return _number(owner, name, value, "from 0 to 100", lambda found: 0 <= found <= 100)


def flag(owner: str, name: str, value: Any) -> bool:
    """True or False."""
    if not isinstance(value, bool):
        raise InvalidValueError(f"{owner}: {name}={value!r}; wanted True or False")
    return value


def text(owner: str, name: str, value: Any) -> str:
    """A string with something in it, which UTF-8 can hold."""
    fits = isinstance(value, str) and value == value.encode(errors="ignore").decode()
    if not fits or not value.strip():
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


def language(owner: str, name: str, value: Any) -> str:
    """A language of the table, by its own name, however it is spelt."""
    try:
        return languages.resolve(text(owner, name, value))
    except InvalidValueError as error:
        raise InvalidValueError(f"{owner}: {error}") from None


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
            said = names.unknown("size", str(size), sizes)
            raise InvalidValueError(f"{owner}: {name}: {said}")
    return MappingProxyType(
        {size: check(owner, f"{name}[{size!r}]", value) for size, value in table.items()}
    )


def _number(owner: str, name: str, value: Any, wanted: str, fits: Callable[[float], bool]) -> float:
    real = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not (real and math.isfinite(value) and fits(value)):
        raise InvalidValueError(f"{owner}: {name}={value!r}; wanted a number {wanted}")
    return float(value)


def _is_whole_float(value: Any, at_least: int) -> bool:
    return isinstance(value, float) and value.is_integer() and value >= at_least
