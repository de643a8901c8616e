"""Checks of the fields of the tables' rows and of declarations. Standard library only.

Every check takes a value and, for the error message, its owner and name. It returns the value in
the form in which it is stored, or raises a one-line `InvalidValueError`, which is a ValueError.
"""

from __future__ import annotations

import math
import numbers
import operator
from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Any, TypeVar

from codegen_pax import messages
from codegen_pax.data.rules import languages
from codegen_pax.errors import InvalidValueError

C = TypeVar("C", bound=StrEnum)
T = TypeVar("T")


def store(row: Any, name: str, value: Any) -> None:
    """Stores a checked value in a frozen row that is being initialised."""
    object.__setattr__(row, name, value)


def integer(owner: str, name: str, value: Any, at_least: int = 1) -> int:
    """Checks for a whole number; a bool, or a float such as 1e9, is not accepted."""
    try:
        result = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        result = None
    if result is None or result < at_least:
        is_float = isinstance(value, float) and value.is_integer() and value >= at_least
        raise InvalidValueError(
            f"{owner}: {name}={value!r}; expected a whole number, at least {at_least}"
            + (f": write {int(value)}" if is_float else "")
        )
    return result


def count(owner: str, name: str, value: Any) -> int:
    """Checks for a whole number, at least 0."""
    return integer(owner, name, value, at_least=0)


def row_tokens(owner: str, name: str, value: Any) -> int:
    """Checks for the tokens of a row: at least 2, since nothing is predicted from one."""
    return integer(owner, name, value, at_least=2)


def number(owner: str, name: str, value: Any) -> float:
    """Checks for a finite number, at least 0."""
    return _number(owner, name, value, "at least 0", lambda real: real >= 0)


def positive(owner: str, name: str, value: Any) -> float:
    """Checks for a finite number above 0."""
    return _number(owner, name, value, "above 0", lambda real: real > 0)


def decay_rate(owner: str, name: str, value: Any) -> float:
    """Checks for a number from 0 to below 1."""
    return _number(owner, name, value, "from 0 to below 1", lambda real: 0 <= real < 1)


def percent(owner: str, name: str, value: Any) -> float:
    """Checks for a number from 0 to 100."""
    return _number(owner, name, value, "from 0 to 100", lambda real: 0 <= real <= 100)


def boolean(owner: str, name: str, value: Any) -> bool:
    """Checks for True or False."""
    if not isinstance(value, bool):
        raise InvalidValueError(f"{owner}: {name}={value!r}; expected True or False")
    return value


def text(owner: str, name: str, value: Any) -> str:
    """Checks for a string that is not blank and that UTF-8 can encode."""
    is_utf8 = isinstance(value, str) and value == value.encode(errors="ignore").decode()
    if not is_utf8 or not value.strip():
        raise InvalidValueError(f"{owner}: {name}={value!r}; expected a text")
    return value


def word(owner: str, name: str, value: Any) -> str:
    """Checks for letters, digits and underscores, as in the name of a class."""
    if not isinstance(value, str) or not f"_{value}".isidentifier():
        raise InvalidValueError(
            f"{owner}: {name}={value!r}; expected letters, digits and underscores"
        )
    return value


def choice(owner: str, name: str, value: Any, choices: type[C]) -> C:
    """Checks for a member of an enumeration, given as itself or as its string."""
    return choices(one_of(owner, name, value, list(choices)))


def one_of(owner: str, name: str, value: Any, known: Iterable[str]) -> str:
    """Checks for one of the known strings; the error names the nearest."""
    known = [str(word) for word in known]
    if not isinstance(value, str):
        raise InvalidValueError(f"{owner}: {name}={value!r}; expected one of {', '.join(known)}")
    if value not in known:
        raise InvalidValueError(f"{owner}: {messages.unknown(name, value, known)}")
    return value


def sequence(owner: str, name: str, value: Any) -> tuple[Any, ...]:
    """Checks for a list or tuple; a string, which would be split into letters, is not accepted."""
    if not isinstance(value, (list, tuple)):
        raise InvalidValueError(f"{owner}: {name}={value!r}; expected a tuple, as ({value!r},)")
    return tuple(value)


def language(owner: str, name: str, value: Any) -> str:
    """Checks for a language of the table; returns the table's own spelling."""
    try:
        return languages.resolve(text(owner, name, value))
    except InvalidValueError as error:
        raise InvalidValueError(f"{owner}: {error}") from None


def instance(owner: str, name: str, value: Any, kind: type[T], expected: str) -> T:
    """Checks for an instance of a class, which `expected` describes."""
    if not isinstance(value, kind):
        raise InvalidValueError(f"{owner}: {name}={value!r}; expected {expected}")
    return value


def table(
    owner: str,
    name: str,
    value: Any,
    check: Callable[..., T],
    *,
    kind: str,
    keys: Iterable[str] | None = None,
) -> Mapping[str, T]:
    """Checks for a table and checks each of its values; returns a read-only copy.

    Args:
        owner: The owner of the table.
        name: The name of the table.
        value: Key -> value.
        check: A function of this module, called with owner, name and value.
        kind: What a key names, such as 'size'.
        keys: The allowed keys; None allows any text.

    Returns:
        Key -> checked value.

    Raises:
        InvalidValueError: It is not a table, or a key is unknown, or a value fails its check.
    """
    if not isinstance(value, Mapping):
        raise InvalidValueError(
            f"{owner}: {name}={value!r}; expected a table by {kind}, as {{'...': ...}}"
        )
    known = None if keys is None else list(keys)
    for key in value:
        if known is None:
            text(owner, f"{kind} of {name}", key)
        elif key not in known:
            raise InvalidValueError(f"{owner}: {name}: {messages.unknown(kind, str(key), known)}")
    return MappingProxyType(
        {key: check(owner, f"{name}[{key!r}]", item) for key, item in value.items()}
    )


def _number(
    owner: str, name: str, value: Any, expected: str, is_valid: Callable[[float], bool]
) -> float:
    is_real = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not (is_real and math.isfinite(value) and is_valid(value)):
        raise InvalidValueError(f"{owner}: {name}={value!r}; expected a number {expected}")
    return float(value)
