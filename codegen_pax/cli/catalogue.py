"""The experiments there are: those of the tables, and those of a person's own modules."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from codegen_pax import names
from codegen_pax.errors import UsageError
from codegen_pax.quiet import quietly
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

    Raises:
      UsageError: a module is not there, or registers no experiment of this project.
    """
    found = {declaration.name: Entry(declaration) for declaration in declarations()}
    for module in modules:
        found |= _registered_by(module)
    return found


def find(wanted: Sequence[str], modules: Sequence[str] = ()) -> list[Entry]:
    """The experiments called so, with or without their module.

    Raises:
      UsageError: as `catalogue`, or there is none of a name; names the nearest.
    """
    known = catalogue(modules)
    for name in wanted:
        if name.rpartition(".")[2] not in known:
            raise UsageError(names.unknown("experiment", name, known))
    return [known[name.rpartition(".")[2]] for name in wanted]


def _registered_by(module: str) -> dict[str, Entry]:
    sys.path.insert(0, os.getcwd())  # as for `python -m paxml.main`
    try:
        with quietly():
            importlib.import_module(DOOR)
            importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module.partition(".")[0] and error.name != module:
            raise
        raise UsageError(f"no module is called {module!r}; looked in {os.getcwd()}") from None
    finally:
        sys.path.remove(os.getcwd())
    from paxml import experiment_registry

    found = {
        cls.__name__: Entry(cls.DECLARATION)
        for cls in experiment_registry.get_all().values()
        if cls.__module__ == module and hasattr(cls, "DECLARATION")
    }
    if not found:
        raise UsageError(
            f"module {module!r} registers no experiment; wanted a call of "
            "experiments.registry.declare_phase, or a subclass of a registered experiment"
        )
    return found
