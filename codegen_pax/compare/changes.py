"""What has changed of an experiment since its snapshot was taken, by this version or an older one.

Values are compared, and of a class or a function its own name, not the module that it lies in: a
module that was moved or renamed changes nothing. An argument that a snapshot does not name had its
default then, and one that is not set any more has its default now.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import fiddle as fdl

from codegen_pax.compare.differences import Side
from codegen_pax.compare.flatten import buildables, described, entries
from codegen_pax.compare.snapshot import snapshot

# A class, a function or a member of an enumeration with its module, as `flatten` writes them.
_REFERENCE = re.compile(r"(partial )?(?:[A-Za-z_][\w<>]*\.)+([A-Za-z_][\w<>]*(?: sha256:\w+)?)")


@dataclass(frozen=True)
class Change:
    """One path whose value is another.

    Attributes:
      path: as in a snapshot.
      old: as it was written then; None if it was not there.
      new: as it is written now; None if it is not there.
    """

    path: str
    old: str | None
    new: str | None


def changes(lines: Iterable[str], side: Side) -> list[Change]:
    """What differs between a snapshot and an experiment, by path.

    Args:
      lines: of the snapshot.
      side: the experiment.
    """
    then, now = _table(lines), _table(snapshot(side).splitlines())
    gone = then.keys() - now.keys()
    if gone:  # those that are not set any more have a default of a library
        every = {
            path: described(value)
            for part, config in side.parts.items()
            for path, value in entries(config, part).items()
        }
        now |= {path: every[path] for path in gone if path in every}
    new = [path for path in now if path not in then]
    defaults = _defaults(side, new)
    return [
        Change(path, then.get(path), now.get(path))
        for path in sorted(then.keys() | now.keys())
        if not _same(then.get(path), now.get(path))
        and (path in then or not _same(defaults.get(path), now[path]))
    ]


def _table(lines: Iterable[str]) -> dict[str, str]:
    found = (line.partition(" = ") for line in lines)
    return {path: value for path, _, value in found}


def _same(one: str | None, other: str | None) -> bool:
    return one is not None and other is not None and plain(one) == plain(other)


def plain(value: str) -> str:
    """A value as it is compared: a reference without its module."""
    found = _REFERENCE.fullmatch(value)
    return f"{found[1] or ''}{found[2]}" if found else value


def _defaults(side: Side, paths: Sequence[str]) -> dict[str, str]:
    """Path -> the value that its class gives it by itself, for those of the paths that it does."""
    if not paths:
        return {}
    configs = dict(_configs(side))
    found: dict[str, str] = {}
    made: dict[str, dict[str, str]] = {}
    for path in paths:
        above = next((parent for parent in _parents(path) if parent in configs), None)
        if above is None:
            continue
        if above not in made:
            config = configs[above]
            fresh = type(config)(fdl.get_callable(config))
            made[above] = {name: described(value) for name, value in entries(fresh, above).items()}
        if path in made[above]:
            found[path] = made[above][path]
    return found


def _configs(side: Side) -> Iterator[tuple[str, fdl.Buildable]]:
    for part, config in side.parts.items():
        yield from buildables(config, part)


def _parents(path: str) -> Iterator[str]:
    """The paths above one, the nearest first."""
    for end in range(len(path) - 1, 0, -1):
        if path[end] in ".[":
            yield path[:end]
