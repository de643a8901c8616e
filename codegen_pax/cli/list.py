"""List the experiments."""

from __future__ import annotations

import argparse
import json

from codegen_pax import names
from codegen_pax.cli.catalogue import add_module_argument, catalogue
from codegen_pax.cli.facts import facts
from codegen_pax.errors import UsageError

HELP = "list the experiments"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--size", action="append", help="only this size (may be repeated)")
    parser.add_argument("--phase", action="append", help="only this phase (may be repeated)")
    parser.add_argument("--json", action="store_true", help="print a list of objects instead")
    add_module_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Prints one row an experiment, as the tables declare it.

    Raises:
      UsageError: an unknown size, phase or module.
    """
    found = [facts(entry) for entry in catalogue(args.module).values()]
    for key, wanted in (("size", args.size), ("phase", args.phase)):
        if wanted:
            found = _only(found, key, wanted)
    if args.json:
        print(json.dumps(found, indent=2))
        return 0
    # Here and not above: where there is nothing to draw, nothing is paid for drawing.
    from codegen_pax.cli.tables import Column, print_rows

    columns = (
        Column("name", "experiment", keep=9),
        Column("size", "size", keep=1),
        Column("phase", "phase", keep=1),
        Column("parameters", "parameters", right=True, keep=9),
        Column("tokens", "tokens", right=True, keep=8),
        Column("batch_tokens", "batch", right=True, keep=7),
        Column("steps", "steps", right=True, keep=3),
        Column("learning_rate", "learning rate", right=True, keep=7),
        Column("mesh", "mesh", right=True, keep=6),
        Column("hardware", "hardware", keep=4),
        Column("start", "start weights", keep=5),
        Column("data", "data", keep=5),
        Column("unverified", "unverified", keep=2),
        Column("command", "command"),
    )
    print_rows(columns, found)
    return 0


def _only(found: list[dict], key: str, wanted: list[str]) -> list[dict]:
    known = dict.fromkeys(row[key] for row in found)
    for name in wanted:
        if name not in known:
            raise UsageError(names.unknown(key, name, known))
    return [row for row in found if row[key] in wanted]
