"""The experiments there are: those of the tables, and those of a person's own modules."""

from __future__ import annotations

import argparse
import collections
import importlib
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from codegen_pax import names
from codegen_pax.errors import UsageError
from codegen_pax.silent_imports import silenced
from experiments.declaration import DOOR, Declaration, declarations


@dataclass(frozen=True)
class Entry:
    """One experiment.

    Attributes:
      declaration: of its class; what the environment changes is not in it.
    """

    declaration: Declaration

    @property
    def name(self) -> str:
        """Of its class."""
        return self.declaration.name

    @property
    def module(self) -> str:
        """`paxml.main --exp=<module>.<name>` runs it."""
        return self.declaration.module

    @property
    def full_name(self) -> str:
        return f"{self.module}.{self.name}"


def add_module_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--module",
        action="append",
        default=[],
        help="also the experiments that this Python module of yours registers (may be repeated)",
    )


def catalogue(modules: Sequence[str] = ()) -> dict[str, Entry]:
    """Name -> experiment. Without modules of your own, from the tables alone: nothing is imported.

    Where several modules have an experiment of one name, the keys are `module.Name`.

    Raises:
      UsageError: a module is not there, or registers no experiment of this project.
    """
    entries = [Entry(declaration) for declaration in declarations()]
    for module in dict.fromkeys(modules):
        own = _registered_by(module)
        # A phase that the module has declared is in the tables too.
        entries = [entry for entry in entries if entry.full_name not in own] + [*own.values()]
    count = collections.Counter(entry.name for entry in entries)
    return {entry.name if count[entry.name] == 1 else entry.full_name: entry for entry in entries}


def lookup(wanted: str, known: Mapping[str, Entry]) -> Entry | None:
    """The experiment called so, with or without its module; None if there is none.

    Raises:
      UsageError: several modules have one of that name.
    """
    module, _, name = wanted.rpartition(".")
    found = [entry for entry in known.values() if entry.name == name]
    if module:
        found = [entry for entry in found if entry.module == module]
    if len(found) > 1:
        full = " or ".join(entry.full_name for entry in found)
        raise UsageError(f"several experiments are called {name}: wanted {full}")
    return found[0] if found else None


def find(wanted: Sequence[str], modules: Sequence[str] = ()) -> list[Entry]:
    """The experiments called so, with or without their module.

    Raises:
      UsageError: as `catalogue` and `lookup`, or there is none of a name; names the nearest.
    """
    known = catalogue(modules)
    found = []
    for name in wanted:
        entry = lookup(name, known)
        if entry is None:
            raise UsageError(names.unknown("experiment", name, known))
        found.append(entry)
    return found


def _registered_by(module: str) -> dict[str, Entry]:
    """`module.Name` -> experiment."""
    with silenced():
        importlib.import_module(DOOR)
    here = os.getcwd()
    # First, as for `python -m paxml.main`; but a run's folder is data, and of it no other module
    # is taken for one of that name.
    is_run = os.path.lexists(os.path.join(here, "lineage.json"))
    sys.path.insert(len(sys.path) if is_run else 0, here)
    try:
        with silenced():
            importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module.partition(".")[0] and error.name != module:
            raise
        raise UsageError(f"no module is called {module!r}; looked in {here}") from None
    finally:
        if places := [place for place, path in enumerate(sys.path) if path == here]:
            del sys.path[places[-1 if is_run else 0]]
    from paxml import experiment_registry

    found = {
        name: Entry(cls.DECLARATION)
        for name, cls in experiment_registry.get_all().items()
        if cls.__module__ == module and hasattr(cls, "DECLARATION")
    }
    if not found:
        raise UsageError(
            f"module {module!r} registers no experiment; wanted a call of "
            "experiments.registry.declare_phase, or a subclass of a registered experiment"
        )
    return found
