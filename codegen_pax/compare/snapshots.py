"""Writes an experiment's configuration as text, and finds what has changed since.

Receipts (`lineage.json`) and the tests' golden files hold snapshots. Snapshots of older versions
can be compared too: a class or function is compared by its name without its module, so that a
moved or renamed module is no change. An argument that a snapshot does not name had its default
then, and one that is no longer set has its default now.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import fiddle as fdl

from codegen_pax.compare.configurations import ExperimentConfig, flatten, format_value

# The packages whose defaults are in a snapshot, as they are this project's own values.
OWN_PACKAGES = ("codegen_pax", "experiments", "tasks")

# A class, a function or a member of an enumeration with its module, as `flatten` writes them.
_REFERENCE = re.compile(r"(partial )?(?:[A-Za-z_<][\w<>]*\.)+([A-Za-z_<][\w<>]*(?: sha256:\w+)?)")


@dataclass(frozen=True)
class Change:
    """A path whose value has changed.

    Attributes:
        path: The path, as in a snapshot.
        old: The value in the snapshot; None if the path is not there.
        new: The value now; None if the path is not there any more.
    """

    path: str
    old: str | None
    new: str | None


def snapshot(config: ExperimentConfig) -> str:
    """Writes a line `path = value` for each class, each argument that is set, and our defaults.

    The defaults of libraries have no line: the lock file pins them, and with them an experiment
    would have over a thousand lines.
    """
    entries = config.flatten(defaults_of=OWN_PACKAGES)
    return "".join(sorted(f"{path} = {format_value(value)}\n" for path, value in entries.items()))


def changes_since(lines: Iterable[str], config: ExperimentConfig) -> list[Change]:
    """Compares an experiment with a snapshot of it.

    Args:
        lines: The lines of the snapshot.
        config: The experiment as it is now.

    Returns:
        The changes, ordered by path.
    """
    then, now = _parse(lines), _parse(snapshot(config).splitlines())
    removed = then.keys() - now.keys()
    if removed:  # an argument that is not set any more has the default of a library
        entries = config.flatten()
        now |= {path: format_value(entries[path]) for path in removed & entries.keys()}
    added = [path for path in now if path not in then]
    defaults = _defaults(config, added)
    return [
        Change(path, then.get(path), now.get(path))
        for path in sorted(then.keys() | now.keys())
        if not _is_same(then.get(path, defaults.get(path)), now.get(path))
    ]


def strip_module(value: str) -> str:
    """Returns a value as it is compared: a reference to a class or function without its module."""
    match = _REFERENCE.fullmatch(value)
    return f"{match[1] or ''}{match[2]}" if match else value


def _parse(lines: Iterable[str]) -> dict[str, str]:
    pairs = (line.partition(" = ") for line in lines)
    return {path: value for path, _, value in pairs}


def _is_same(old: str | None, new: str | None) -> bool:
    return old is not None and new is not None and strip_module(old) == strip_module(new)


def _defaults(config: ExperimentConfig, paths: Sequence[str]) -> dict[str, str]:
    """Returns path -> its default in its class, for the paths that have one."""
    if not paths:
        return {}
    nodes = {path: node for path, node in config.nodes() if isinstance(node, fdl.Buildable)}

    @functools.cache
    def of_class(parent: str) -> dict[str, str]:
        fresh = type(nodes[parent])(fdl.get_callable(nodes[parent]))
        return {path: format_value(value) for path, value in flatten(fresh, parent).items()}

    defaults: dict[str, str] = {}
    for path in paths:
        parent = next((above for above in _parents(path) if above in nodes), None)
        if parent is not None and path in of_class(parent):
            defaults[path] = of_class(parent)[path]
    return defaults


def _parents(path: str) -> Iterator[str]:
    """Yields the paths above a path, the nearest first."""
    for end in range(len(path) - 1, 0, -1):
        if path[end] in ".[":
            yield path[:end]
