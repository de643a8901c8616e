"""Show everything that is known about an experiment."""

from __future__ import annotations

import argparse
import json

from codegen_pax.cli.catalogue import add_module_argument, find
from codegen_pax.cli.facts import everything, in_this_environment

HELP = "show everything that is known about an experiment"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="+", help="an experiment, as in CodeGen16BMono")
    parser.add_argument("--json", action="store_true", help="print a list of objects instead")
    add_module_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Prints each experiment as it would run here: the environment's mesh and recipe are in it.

    Raises:
      UsageError: an unknown experiment or module.
      KeyError, ValueError: see `in_this_environment`.
    """
    found = [everything(in_this_environment(entry)) for entry in find(args.name, args.module)]
    if args.json:
        print(json.dumps(found, indent=2))
        return 0
    for number, one in enumerate(found):
        if number:
            print()
        _print(one)
    return 0


def _print(found: dict[str, object]) -> None:
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
