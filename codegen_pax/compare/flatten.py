"""A configuration as a flat table: path -> value, defaults included.

Every node of the tree has an entry of its own, the class or function that it configures (or the
type of the container), so that two configurations are equal exactly if their entries are.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import hashlib
import math
import re
import types
from collections.abc import Iterable, Iterator, Mapping

import fiddle as fdl
import numpy as np
from jax.sharding import PartitionSpec

# An array of more numbers than this is shown by its digest.
_MOST_NUMBERS_SHOWN = 16
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")
_IDENTIFIER = re.compile(r"[^\W\d]\w*")


class Described(str):
    """A value that is no plain scalar, told in words: a class, an array, a partition spec."""

    __slots__ = ()


Scalar = None | bool | int | float | str  # a Described is a str


# Of which packages the defaults are told; None for all of them.
Packages = tuple[str, ...] | None


def entries(value: object, path: str, *, defaults_of: Packages = None) -> dict[str, Scalar]:
    """The entries of `value`, at `path` and below.

    Args:
      value: a Fiddle configuration, or what one holds: containers, dataclasses, scalars, functions.
      path: of `value` itself; `path.name` and `path[0]` are below it.
      defaults_of: packages; an argument that is not set has an entry only if it is declared in one
        of them. None: every argument has.

    Returns:
      Path -> value, in the order of the arguments. Equal on every machine: no address is in it.
    """
    return dict(_walk(value, path, defaults_of, ()))


def buildables(
    value: object, path: str, _above: tuple[int, ...] = ()
) -> Iterator[tuple[str, fdl.Buildable]]:
    """Each Fiddle configuration of `value`, itself and below, by its path in `entries`."""
    node = _node(value, ())
    if node is None or id(value) in _above:
        return
    if isinstance(value, fdl.Buildable):
        yield path, value
    for key, child in node[1]:
        yield from buildables(child, path + _step(key), (*_above, id(value)))


def described(value: Scalar) -> str:
    """The value as it is written: strings in quotes, numbers as they were given."""
    return str(value) if isinstance(value, Described) else repr(value)


def _walk(
    value: object, path: str, defaults_of: Packages, above: tuple[int, ...]
) -> Iterator[tuple[str, Scalar]]:
    node = _node(value, defaults_of)
    if node is None:
        yield path, _leaf(value)
        return
    head, children = node
    if id(value) in above:
        yield path, Described(f"{head} (itself)")
        return
    yield path, Described(head)
    for key, child in children:
        yield from _walk(child, path + _step(key), defaults_of, (*above, id(value)))


def _step(key: object) -> str:
    if isinstance(key, str) and _IDENTIFIER.fullmatch(key):
        return f".{key}"
    return f"[{described(_leaf(key))}]"


def _node(
    value: object, defaults_of: Packages
) -> tuple[str, Iterable[tuple[object, object]]] | None:
    """What is written for a value that has others below it, and those; None for a leaf."""
    if isinstance(value, fdl.Buildable):
        kind = "partial " if isinstance(value, fdl.Partial) else ""
        return kind + _reference(fdl.get_callable(value)), _arguments(value, defaults_of)
    if isinstance(value, functools.partial):
        return f"partial {_reference(value.func)}", [
            *enumerate(value.args),
            *value.keywords.items(),
        ]
    if isinstance(value, (PartitionSpec, enum.Enum, type)) or value is None:
        return None
    if isinstance(value, Mapping):
        return (_type_name(value), value.items()) if value else None
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return _type_name(value), value._asdict().items()
    if isinstance(value, (list, tuple)):
        return None if _is_plain(value) else (_type_name(value), enumerate(value))
    if dataclasses.is_dataclass(value):
        return _type_name(value), _fields(value, defaults_of)
    if _has_default_repr(value):
        return _type_name(value), sorted(getattr(value, "__dict__", {}).items())
    return None


def _arguments(config: fdl.Buildable, defaults_of: Packages) -> Iterator[tuple[object, object]]:
    configured = fdl.get_callable(config)
    given = fdl.ordered_arguments(config)
    for name, value in fdl.ordered_arguments(config, include_defaults=True).items():
        if name in given or _is_declared_in(configured, name, defaults_of):
            yield name, value


def _fields(value: object, defaults_of: Packages) -> Iterator[tuple[object, object]]:
    # A dataclass does not remember what was set: what differs from the default was.
    for field in dataclasses.fields(value):
        found = getattr(value, field.name, dataclasses.MISSING)
        if _is_declared_in(type(value), field.name, defaults_of) or not _equal(
            found, field.default
        ):
            yield field.name, found


def _is_declared_in(configured: object, name: object, packages: Packages) -> bool:
    """Whether the argument `name` of a class or function is declared in one of `packages`."""
    if packages is None:
        return True
    owner = configured
    if isinstance(configured, type):
        owners = (cls for cls in configured.__mro__ if name in vars(cls).get("__annotations__", ()))
        owner = next(owners, configured)
    return getattr(owner, "__module__", "").partition(".")[0] in packages


def _equal(left: object, right: object) -> bool:
    """Whether two values have the same entries; unlike for `==`, 1, 1.0 and True are three."""
    if left is dataclasses.MISSING or right is dataclasses.MISSING:
        return left is right
    tables = (entries(value, "") for value in (left, right))
    written = [{path: described(value) for path, value in table.items()} for table in tables]
    return written[0] == written[1]


def _is_plain(value: object) -> bool:
    """Whether a value is written whole: a scalar, or a list or tuple of such."""
    if isinstance(value, (list, tuple)) and not isinstance(value, PartitionSpec):
        return not hasattr(value, "_asdict") and all(map(_is_plain, value))
    return value is None or type(value) in (bool, int, float, str)


def _leaf(value: object) -> Scalar:
    if isinstance(value, float) and not math.isfinite(value):
        return Described(repr(value))
    if value is None or type(value) in (bool, int, float, str):
        return value
    return Described(_words(value))


def _words(value: object) -> str:
    if isinstance(value, (np.ndarray, np.generic)) or hasattr(value, "addressable_shards"):
        return _array(np.asarray(value))
    if isinstance(value, enum.Enum):
        return f"{type(value).__qualname__}.{value.name}"
    if isinstance(value, (set, frozenset)):
        return f"{_type_name(value)}({sorted(map(repr, value))})"
    if isinstance(value, (type, *_FUNCTIONS)):
        return _reference(value)
    return _ADDRESS.sub("", repr(value))


_FUNCTIONS = (
    types.FunctionType,
    types.BuiltinFunctionType,
    types.MethodType,
    types.MethodDescriptorType,
    types.WrapperDescriptorType,
)


def _has_default_repr(value: object) -> bool:
    return type(value).__repr__ is object.__repr__ and not isinstance(value, _FUNCTIONS)


def _type_name(value: object) -> str:
    kind = type(value)
    return kind.__name__ if kind.__module__ == "builtins" else _reference(kind)


def _reference(value: object) -> str:
    """`module.name` of a class or function; with a digest of its code if the name is not enough."""
    name = getattr(value, "__qualname__", None)
    if name is None:
        return _ADDRESS.sub("", repr(value))
    module = getattr(value, "__module__", None)
    full = name if module in (None, "builtins") else f"{module}.{name}"
    code = getattr(value, "__code__", None)
    if code is not None and ("<lambda>" in name or "<locals>" in name):
        closed = [cell.cell_contents for cell in value.__closure__ or ()]
        constants = [constant for constant in code.co_consts if not hasattr(constant, "co_code")]
        parts = (code.co_code, constants, code.co_names, closed, value.__defaults__)
        full += f" {_digest(_ADDRESS.sub('', repr(parts)).encode())}"
    return full


def _array(array: np.ndarray) -> str:
    numbers = (
        repr(array.tolist())
        if array.size <= _MOST_NUMBERS_SHOWN
        else _digest(np.ascontiguousarray(array).tobytes())
    )
    return f"array {array.dtype} {list(array.shape)} {numbers}"


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()[:12]}"
