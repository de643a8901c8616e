"""Show what differs between experiments."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from codegen_pax.cli.catalogue import DOOR, Entry, add_module_argument, find
from codegen_pax.cli.facts import derived
from codegen_pax.errors import UsageError
from codegen_pax.silent_imports import silenced
from experiments.report import START_VARIABLE

if TYPE_CHECKING:
    from codegen_pax.compare import Difference, Side

HELP = "show what differs between experiments"

ABSENT = "absent"
DERIVED = "derived"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="+", help="an experiment, as in CodeGen16BMono; two or more")
    parser.add_argument("--json", action="store_true", help="print a list of objects instead")
    add_module_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Prints every setting that differs, then what follows from the settings.

    The settings are those of the Fiddle configurations, as they would run here: with the
    environment's mesh and recipe. Where a run's start weights lie is the run's, and is left out.

    Raises:
      UsageError: fewer than two names, or an unknown one.
    """
    if len(args.name) < 2:
        raise UsageError(f"found one experiment, {args.name[0]}; wanted at least two to compare")
    entries = find(args.name, args.module)
    with _told("reading the configurations (Pax takes its time to import)"):
        sides, numbers = _configurations(entries)
    from codegen_pax.compare import differences

    found = differences(sides)
    if args.json:
        print(json.dumps(_objects(found, numbers), indent=2))
    elif not found:
        print(f"Nothing differs between {' and '.join(args.name)}.")
    else:
        _print(found, numbers)
    return 0


@contextlib.contextmanager
def _told(message: str) -> Iterator[None]:
    """Says on a terminal what is being waited for."""
    from codegen_pax.cli.tables import Terminal

    console = Terminal(stderr=True)
    with console.status(message) if console.is_terminal else contextlib.nullcontext():
        yield


def _configurations(entries: Sequence[Entry]) -> tuple[list[Side], dict[str, dict[str, object]]]:
    """The sides, and what is derived of each by name."""
    # Only configurations are made: no device of this machine is to be taken for it.
    os.environ["JAX_PLATFORMS"] = "cpu"
    with silenced():
        importlib.import_module(DOOR)
    from paxml import experiment_registry

    from codegen_pax.compare import Side

    registered = experiment_registry.get_all()

    start = os.environ.pop(START_VARIABLE, None)
    several = len({entry.full_name for entry in entries}) > len({entry.name for entry in entries})
    try:
        sides, numbers = [], {}
        for entry in entries:
            experiment = registered[entry.full_name]()
            name = entry.full_name if several else entry.name  # of several modules
            sides.append(Side.of(name, experiment))
            numbers[name] = derived(experiment.declaration())
        return sides, numbers
    finally:
        if start is not None:
            os.environ[START_VARIABLE] = start


def _objects(
    found: Sequence[Difference], numbers: dict[str, dict[str, object]]
) -> list[dict[str, object]]:
    """One object a row: `group`, `path`, and by name the values (no entry where it is absent)."""
    settings = [
        {"group": difference.group, "path": difference.path, "values": dict(difference.values)}
        for difference in found
    ]
    return settings + [
        {"group": DERIVED, "path": key, "values": {name: numbers[name][key] for name in numbers}}
        for key in (next(iter(numbers.values())) if found else ())
    ]


def _print(found: Sequence[Difference], numbers: dict[str, dict[str, object]]) -> None:
    from codegen_pax.cli.tables import print_sections, shown
    from codegen_pax.compare import GROUPS, described, labels

    names = list(numbers)
    sections = {}
    for group in GROUPS:
        members = [difference for difference in found if difference.group == group]
        short = labels(difference.path for difference in members)
        sections[group] = [
            (
                short[difference.path],
                *(
                    described(difference.values[name]) if name in difference.values else ABSENT
                    for name in names
                ),
            )
            for difference in members
        ]
    sections[DERIVED] = [
        (key, *(shown(numbers[name][key]) for name in names)) for key in numbers[names[0]]
    ]
    print_sections(("what differs", *names), sections)
