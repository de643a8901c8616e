"""`codegen-pax run`: train, evaluate and decode one experiment with the stock Pax binary."""

from __future__ import annotations

import argparse
import dataclasses
import time
from pathlib import Path

from codegen_pax.cli.core.arguments import (
    add_module_argument,
    class_path,
    find_experiments,
    local_folder,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the verb."""
    parser.add_argument("name", help="a registered experiment, as CodeGenNanoMono")
    parser.add_argument(
        "--output", type=local_folder, help="the run's folder; runs/<name>-<time> if not given"
    )
    parser.add_argument(
        "--start",
        help="folder of the run whose weights to start from, or 'scratch' for random ones; "
        "CODEGEN_START_FROM if not given",
    )
    add_module_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Trains the experiment and prints the results of the run."""
    from codegen_pax.cli.core import training
    from codegen_pax.cli.core.terminal import Terminal
    from experiments.declaration import configured
    from experiments.settings import from_environment

    (declared,) = find_experiments([args.name], args.module)
    settings = from_environment()
    if args.start is not None:
        settings = dataclasses.replace(settings, start_from=args.start)
    declaration = configured(declared, settings)
    output = args.output or Path("runs") / f"{declared.name}-{time.strftime('%Y%m%d-%H%M%S')}"
    console = Terminal()
    started_at = time.monotonic()
    summary = training.train(class_path(declared), declaration, output, console, settings)
    seconds = time.monotonic() - started_at
    training.print_summary(summary, declaration, output, seconds, console, settings)
    return 0
