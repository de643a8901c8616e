"""`codegen-pax run`: train, evaluate and decode one experiment with the stock Pax binary."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from codegen_pax.cli.catalogue import add_module_argument, find

HELP = "train, evaluate and decode an experiment, and leave a folder to look at"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", help="of a registered experiment, as CodeGenNanoMono")
    parser.add_argument(
        "--output", type=Path, help="the run's folder; runs/<name>-<time> if not given"
    )
    parser.add_argument(
        "--start",
        default="scratch",
        help="folder of the run whose weights to start from; 'scratch' (default) for random ones",
    )
    add_module_argument(parser)


def run(args: argparse.Namespace) -> int:
    from rich.console import Console

    from codegen_pax.cli import training
    from experiments.declaration import from_environment

    (entry,) = find([args.name], args.module)
    declaration = from_environment(entry.declaration)
    output = args.output or Path("runs") / f"{entry.name}-{time.strftime('%Y%m%d-%H%M%S')}"
    console = Console()
    experiment = f"{entry.module}.{entry.name}"
    summary = training.train(experiment, declaration, output, console, start=args.start)
    training.print_summary(summary, output, console)
    return 0
