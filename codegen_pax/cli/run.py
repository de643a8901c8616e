"""`codegen-pax run`: train, evaluate and decode one experiment with the stock Pax binary."""

from __future__ import annotations

import argparse
import dataclasses
import time
from pathlib import Path

from codegen_pax.cli.catalogue import add_module_argument, find

HELP = "train, evaluate and decode an experiment, and leave a folder to look at"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", help="of a registered experiment, as CodeGenNanoMono")
    parser.add_argument(
        "--output", type=local_folder, help="the run's folder; runs/<name>-<time> if not given"
    )
    parser.add_argument(
        "--start",
        help="folder of the run whose weights to start from, or 'scratch' for random ones; "
        "CODEGEN_START_FROM if not given",
    )
    add_module_argument(parser)


def local_folder(text: str) -> Path:
    """A folder of this machine: what a run leaves there is read again to be summed up."""
    if "://" in text:
        raise argparse.ArgumentTypeError(
            f"{text} is no folder of this machine; for a run elsewhere start paxml.main itself"
        )
    return Path(text)


def run(args: argparse.Namespace) -> int:
    from codegen_pax.cli import training
    from codegen_pax.cli.tables import Terminal
    from experiments.declaration import configured
    from experiments.settings import from_environment

    (entry,) = find([args.name], args.module)
    settings = from_environment()
    if args.start is not None:
        settings = dataclasses.replace(settings, start_from=args.start)
    declaration = configured(entry.declaration, settings)
    output = args.output or Path("runs") / f"{entry.name}-{time.strftime('%Y%m%d-%H%M%S')}"
    console = Terminal()
    experiment = f"{entry.module}.{entry.name}"
    begun = time.monotonic()
    summary = training.train(experiment, declaration, output, console, settings)
    training.print_summary(
        summary, declaration, output, time.monotonic() - begun, console, settings
    )
    return 0
