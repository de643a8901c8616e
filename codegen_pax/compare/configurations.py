"""An experiment's Fiddle configurations as a flat table: path -> value, defaults included.

Every node of the tree has an entry of its own, the class or function that it configures (or the
type of the container), so that two configurations are equal exactly if their tables are.

`fiddle.printing` is not used: it names no classes, distinguishes a default that is set from one
that is not, and prints the addresses of objects that have no `__repr__` (flax's sentinels are in
every layer), so its text differs between two processes. `fiddle.selectors` finds nodes, but does
not flatten; `fiddle.diffing` leaves defaults out, and is the reference in this package's tests.
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
from typing import TYPE_CHECKING, Any

import fiddle as fdl
import numpy as np
from fiddle import daglish
from jax.sharding import PartitionSpec

if TYPE_CHECKING:
    from paxml import base_experiment

MAX_NUMBERS_SHOWN = 16  # a larger array is shown by its digest

_ADDRESS = re.compile(r" at 0x[0-9a-f]+")
_IDENTIFIER = re.compile(r"[^\W\d]\w*")
_FUNCTIONS = (
    types.FunctionType,
    types.BuiltinFunctionType,
    types.MethodType,
    types.MethodDescriptorType,
    types.WrapperDescriptorType,
)


class FormattedValue(str):
    """The text of a value that is not a plain scalar: a class, an array, a partition spec."""

    __slots__ = ()


Scalar = None | bool | int | float | str  # a FormattedValue is a str
Children = Iterable[tuple[object, object]]  # of a node: (argument, key or index; value)


@dataclasses.dataclass(frozen=True)
class ExperimentConfig:
    """The configurations of one experiment.

    Attributes:
        name: What the experiment is called in the comparison.
        sections: 'task', 'datasets', ... -> a Fiddle configuration, or a list of them.
    """

    name: str
    sections: Mapping[str, Any]

    @classmethod
    def of(cls, name: str, experiment: base_experiment.BaseExperiment) -> ExperimentConfig:
        """Builds everything that Pax asks of an experiment."""
        return cls(
            name,
            {
                "task": experiment.task(),
                "datasets": experiment.datasets(),
                "decode_datasets": experiment.decode_datasets(),
                "input_specs": experiment.get_input_specs_provider_params(),
            },
        )

    def flatten(self, *, defaults_of: tuple[str, ...] | None = None) -> dict[str, Scalar]:
        """Returns path -> value of all sections; see `flatten`."""
        return {
            path: value
            for section, config in self.sections.items()
            for path, value in flatten(config, section, defaults_of=defaults_of).items()
        }

    def nodes(self) -> Iterator[tuple[str, object]]:
        """Yields every value of all sections, containers included, with its path."""
        for section, config in self.sections.items():
            for path, value, _ in _walk(config, section):
                yield path, value


def flatten(
    value: object, path: str, *, defaults_of: tuple[str, ...] | None = None
) -> dict[str, Scalar]:
    """Flattens a configuration.

    Args:
        value: A Fiddle configuration, or a value in one: containers, dataclasses, scalars,
            functions.
        path: The path of `value` itself; `path.name` and `path[0]` are below it.
        defaults_of: Packages. An argument that is not set has an entry only if one of them
            declares it. If None, every argument has one.

    Returns:
        Path -> value, in the order of the arguments. No value contains an address, so the
        result is the same in every process.
    """
    return {path: entry for path, _, entry in _walk(value, path, defaults_of)}


def format_value(value: Scalar) -> str:
    """Formats a value of the table: strings in quotes, numbers as they were given."""
    return str(value) if isinstance(value, FormattedValue) else repr(value)


def _walk(
    value: object,
    path: str,
    defaults_of: tuple[str, ...] | None = None,
    ancestors: tuple[int, ...] = (),
) -> Iterator[tuple[str, object, Scalar]]:
    """Yields (path, value, entry) of a value and of everything below it, parents first."""
    children = _children(value, defaults_of)
    if children is None:
        yield path, value, _leaf(value)
        return
    if id(value) in ancestors:
        yield path, value, FormattedValue(f"{_node_name(value)} (itself)")
        return
    yield path, value, FormattedValue(_node_name(value))
    for key, child in children:
        is_name = isinstance(key, str) and _IDENTIFIER.fullmatch(key)
        step = f".{key}" if is_name else f"[{format_value(_leaf(key))}]"
        yield from _walk(child, path + step, defaults_of, (*ancestors, id(value)))


def _children(value: Any, defaults_of: tuple[str, ...] | None) -> Children | None:
    """Returns what is below a value; None for a leaf."""
    if isinstance(value, fdl.Buildable):
        return _arguments(value, defaults_of)
    if isinstance(value, functools.partial):
        return [*enumerate(value.args), *value.keywords.items()]
    if isinstance(value, (PartitionSpec, enum.Enum, type)) or value is None:
        return None
    if isinstance(value, Mapping):
        return value.items() or None
    if daglish.is_namedtuple_subclass(type(value)):
        return value._asdict().items()
    if isinstance(value, (list, tuple)):
        return None if _is_plain(value) else enumerate(value)
    if dataclasses.is_dataclass(value):
        return _fields(value, defaults_of)
    if type(value).__repr__ is object.__repr__ and not isinstance(value, _FUNCTIONS):
        return sorted(getattr(value, "__dict__", {}).items())
    return None


def _node_name(value: object) -> str:
    """Returns the entry of a value with children: a class or function, or a container's type."""
    if isinstance(value, fdl.Buildable):
        kind = "partial " if isinstance(value, fdl.Partial) else ""
        return kind + _reference(fdl.get_callable(value))
    if isinstance(value, functools.partial):
        return f"partial {_reference(value.func)}"
    return _reference(type(value))


def _arguments(config: fdl.Buildable, defaults_of: tuple[str, ...] | None) -> Children:
    configured = fdl.get_callable(config)
    given = fdl.ordered_arguments(config)
    for name, value in fdl.ordered_arguments(config, include_defaults=True).items():
        if name in given or _is_declared_in(configured, name, defaults_of):
            yield name, value


def _fields(value: Any, defaults_of: tuple[str, ...] | None) -> Children:
    # A dataclass does not record which fields were set: those that differ from their default.
    for field in dataclasses.fields(value):
        own = getattr(value, field.name, dataclasses.MISSING)
        if _is_declared_in(type(value), field.name, defaults_of) or not _is_same(
            own, field.default
        ):
            yield field.name, own


def _is_declared_in(configured: object, name: object, packages: tuple[str, ...] | None) -> bool:
    """Returns whether one of `packages` declares the argument `name` of a class or function."""
    if packages is None:
        return True
    owner = configured
    if isinstance(configured, type):
        owners = (cls for cls in configured.__mro__ if name in vars(cls).get("__annotations__", ()))
        owner = next(owners, configured)
    return getattr(owner, "__module__", "").partition(".")[0] in packages


def _is_same(left: object, right: object) -> bool:
    """Returns whether two values have the same entries; unlike for `==`, 1, 1.0 and True differ."""
    if left is dataclasses.MISSING or right is dataclasses.MISSING:
        return left is right
    old, new = (
        {path: format_value(entry) for path, entry in flatten(value, "").items()}
        for value in (left, right)
    )
    return old == new


def _is_plain(value: object) -> bool:
    """Returns whether a value is written in one line: a scalar, or a list or tuple of them."""
    if isinstance(value, (list, tuple)) and not isinstance(value, PartitionSpec):
        return not daglish.is_namedtuple_subclass(type(value)) and all(map(_is_plain, value))
    return value is None or type(value) in (bool, int, float, str)


def _leaf(value: Any) -> Scalar:
    if isinstance(value, float) and not math.isfinite(value):
        return FormattedValue(repr(value))
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, (np.ndarray, np.generic)) or hasattr(value, "addressable_shards"):
        return FormattedValue(_format_array(np.asarray(value)))
    if isinstance(value, enum.Enum):
        return FormattedValue(f"{type(value).__qualname__}.{value.name}")
    if isinstance(value, (set, frozenset)):
        return FormattedValue(f"{_reference(type(value))}({sorted(map(repr, value))})")
    if isinstance(value, (type, *_FUNCTIONS)):
        return FormattedValue(_reference(value))
    return FormattedValue(_without_addresses(value))


def _reference(value: Any) -> str:
    """Returns `module.name` of a class or function; lambdas and local ones get a digest too."""
    name = getattr(value, "__qualname__", None)
    if name is None:
        return _without_addresses(value)
    module = getattr(value, "__module__", None)
    full = name if module in (None, "builtins") else f"{module}.{name}"
    code = getattr(value, "__code__", None)
    if code is not None and ("<lambda>" in name or "<locals>" in name):
        closed = [cell.cell_contents for cell in value.__closure__ or ()]
        constants = [constant for constant in code.co_consts if not hasattr(constant, "co_code")]
        behaviour = (code.co_code, constants, code.co_names, closed, value.__defaults__)
        full += f" {_digest(_without_addresses(behaviour).encode())}"
    return full


def _without_addresses(value: object) -> str:
    return _ADDRESS.sub("", repr(value))


def _format_array(array: np.ndarray) -> str:
    numbers = (
        repr(array.tolist())
        if array.size <= MAX_NUMBERS_SHOWN
        else _digest(np.ascontiguousarray(array).tobytes())
    )
    return f"array {array.dtype} {list(array.shape)} {numbers}"


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()[:12]}"
