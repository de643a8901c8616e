"""`codegen-pax trace`: from a training row back to its documents."""

from __future__ import annotations

import argparse
import dataclasses
import json

HELP = "say which documents a row of a prepared corpus was cut from"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shard", help="a .tfrecord file of a prepared corpus")
    parser.add_argument("row", type=int, help="its number in the shard, from 0")
    parser.add_argument("--text", action="store_true", help="print the row's text too")
    parser.add_argument("--json", action="store_true", help="print a list of objects")


def run(args: argparse.Namespace) -> int:
    from codegen_pax.corpus import trace

    origins = trace.trace(args.shard, args.row)
    if args.json:
        print(json.dumps([dataclasses.asdict(origin) for origin in origins], indent=1))
        return 0
    from rich.console import Console
    from rich.table import Table

    fields = [field.name for field in dataclasses.fields(trace.Origin)]
    table = Table(title=f"row {args.row} of {args.shard}")
    for name in fields:
        table.add_column(name, overflow="fold")
    for origin in origins:
        values = dataclasses.asdict(origin) | {"sha256": origin.sha256[:12]}
        table.add_row(*(str(values[name]) for name in fields))
    console = Console()
    console.print(table)
    if args.text:
        console.print(trace.text(args.shard, args.row), markup=False, highlight=False)
    return 0
