"""`codegen-pax trace`: from a training row back to its documents."""

from __future__ import annotations

import argparse
import dataclasses
import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from codegen_pax.data.format.trace import Origin


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the verb."""
    parser.add_argument("shard", help="a .tfrecord file of a prepared corpus")
    parser.add_argument("row", type=int, help="its number in the shard, from 0")
    parser.add_argument("--text", action="store_true", help="print the row's text too")
    parser.add_argument("--json", action="store_true", help="print a list of objects")


def run(args: argparse.Namespace) -> int:
    """Prints the documents that the row was cut from, in order."""
    from codegen_pax.data.format import trace

    origins = trace.trace(args.shard, args.row)
    if args.json:
        print(json.dumps([dataclasses.asdict(origin) for origin in origins], indent=1))
        return 0
    from rich.table import Table
    from rich.text import Text

    from codegen_pax.cli.core.terminal import Terminal

    table = Table(title=f"row {args.row} of {args.shard}", show_lines=True)
    for name in ("columns", "of its tokens", "document"):
        table.add_column(name, overflow="fold")
    for origin in origins:
        of_document = f"{origin.offset:,} to {origin.offset + origin.tokens:,}"
        columns = f"{origin.column:,} to {origin.column + origin.tokens:,}"
        table.add_row(columns, of_document, Text("\n".join(_describe(origin))))
    console = Terminal()
    console.print(table)
    if args.text:
        console.print(trace.text(args.shard, args.row), highlight=False)
    return 0


def _describe(origin: Origin) -> list[str]:
    """Returns lines that name a document and its source."""
    fields = {
        "path": origin.path,
        "repository": origin.repository,
        "licence": origin.licence,
        "language": origin.language,
        "source": f"{origin.source} ({origin.record})",
        "sha256": origin.sha256,
    }
    return [f"{name}: {value}" for name, value in fields.items() if value]
