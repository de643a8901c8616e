"""Show everything that is known about an experiment, or what a run says of itself."""

from __future__ import annotations

import argparse
import json
import os

from codegen_pax import names
from codegen_pax.cli.catalogue import add_module_argument, catalogue, lookup
from codegen_pax.cli.facts import Facts, everything, in_this_environment
from codegen_pax.errors import UsageError

HELP = "show everything that is known about an experiment or a run"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "name",
        nargs="+",
        help="an experiment, as in CodeGen16BMono; or a run's folder, or one of its checkpoints",
    )
    parser.add_argument("--json", action="store_true", help="print a list of objects instead")
    add_module_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Prints each experiment as it would run here, and each run as it was.

    The environment's mesh and recipe are in an experiment.

    Raises:
      UsageError: an unknown experiment or module.
      OSError: a folder that is not there, or is no run's.
      KeyError, ValueError: see `in_this_environment` and `run_facts.everything`.
    """
    known = catalogue(args.module)
    found = []
    for name in args.name:
        if entry := lookup(name, known):
            found.append(everything(in_this_environment(entry)))
        elif "/" in name or os.path.isdir(name):
            found.append(_run_facts(name))
        else:
            said = names.unknown("experiment", name, known)
            raise UsageError(f"{said}; nor is there a folder of that name")
    if args.json:
        print(json.dumps(found, indent=2))
        return 0
    for number, one in enumerate(found):
        if number:
            print()
        _print_run(one) if "run" in one else _print(one)
    return 0


def _run_facts(folder: str) -> Facts:
    # Imported where it is needed: an experiment is shown without it.
    from codegen_pax.cli import run_facts

    return run_facts.everything(folder)


def _print_run(found: Facts) -> None:
    from codegen_pax.cli import run_facts
    from codegen_pax.cli.tables import print_sections

    print_sections((found["run"], ""), run_facts.sections(found))


def _print(found: Facts) -> None:
    from codegen_pax.cli.tables import print_sections, shown

    apart = ("name", "chain", "details", "report")
    first = {key: value for key, value in found.items() if key not in apart}
    sections = {
        "experiment": {**first, "chain": " <- ".join(found["chain"])},
        **found["details"],
    }
    print_sections(
        (found["name"], ""),
        {
            title: [(key, shown(value)) for key, value in section.items()]
            for title, section in sections.items()
        },
    )
    print(f"\n{found['report']}")
