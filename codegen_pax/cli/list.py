"""`codegen-pax list`: the experiments, as the tables declare them."""

from __future__ import annotations

import argparse
import json

from codegen_pax import messages
from codegen_pax.cli.core.arguments import add_module_argument, list_experiments
from codegen_pax.cli.core.description import Description, summarize
from codegen_pax.errors import UsageError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the verb."""
    parser.add_argument("--size", action="append", help="only this size (may be repeated)")
    parser.add_argument("--phase", action="append", help="only this phase (may be repeated)")
    parser.add_argument("--json", action="store_true", help="print a list of objects instead")
    add_module_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Prints a row for each experiment.

    Raises:
        UsageError: An unknown size, phase or module.
    """
    rows = [summarize(declaration) for declaration in list_experiments(args.module).values()]
    for key, chosen in (("size", args.size), ("phase", args.phase)):
        if chosen:
            rows = _filter(rows, key, chosen)
    if args.json:
        print(json.dumps(rows, indent=2))
        return 0
    # Imported here, so that --json does not wait for rich.
    from codegen_pax.cli.core.terminal import Column, print_rows

    columns = (
        Column("name", "experiment", priority=9),
        Column("size", "size", priority=1),
        Column("phase", "phase", priority=1),
        Column("parameters", "parameters", right=True, priority=9),
        Column("tokens", "tokens", right=True, priority=8),
        Column("batch_tokens", "batch", right=True, priority=7),
        Column("steps", "steps", right=True, priority=3),
        Column("learning_rate", "learning rate", right=True, priority=7),
        Column("mesh", "mesh", right=True, priority=6),
        Column("hardware", "hardware", priority=4),
        Column("start", "start weights", priority=5),
        Column("data", "data", priority=5),
        Column("unverified", "unverified", priority=2),
        Column("command", "command"),
    )
    print_rows(columns, rows)
    return 0


def _filter(rows: list[Description], key: str, chosen: list[str]) -> list[Description]:
    known = dict.fromkeys(row[key] for row in rows)
    for name in chosen:
        if name not in known:
            raise UsageError(messages.unknown(key, name, known))
    return [row for row in rows if row[key] in chosen]
