"""`codegen-pax ladder`: train Nano through every phase in turn, and print a matrix of losses."""

from __future__ import annotations

import argparse
import dataclasses
import time
from pathlib import Path

from codegen_pax.cli.core.arguments import local_folder

SIZE = "Nano"
PHASES = ("NL", "Multi", "Mono", "Instruct")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the verb."""
    parser.add_argument(
        "--output", type=local_folder, help="the ladder's folder; runs/ladder-<time> if not given"
    )


def run(args: argparse.Namespace) -> int:
    """Trains the phases one after another, and prints each model's loss on each phase's data."""
    import json

    from rich.table import Table

    from codegen_pax.cli.core import training
    from codegen_pax.cli.core.arguments import class_path
    from codegen_pax.cli.core.terminal import Terminal
    from codegen_pax.runs import checkpoints
    from experiments.declaration import configured, find_declaration
    from experiments.settings import SCRATCH, from_environment

    output = args.output or Path("runs") / f"ladder-{time.strftime('%Y%m%d-%H%M%S')}"
    checkpoints.check_writable(output)
    console = Terminal()
    settings = from_environment()
    declarations = [find_declaration(f"CodeGen{SIZE}{phase}") for phase in PHASES]
    ladder = [configured(declaration, settings) for declaration in declarations]
    mixtures = [declaration.mixture for declaration in ladder]
    settings = dataclasses.replace(settings, start_from=SCRATCH, evaluate=tuple(mixtures))
    losses: dict[str, dict[str, float]] = {}
    for declaration in ladder:
        job = output / declaration.name
        started_at = time.monotonic()
        summary = training.train(class_path(declaration), declaration, job, console, settings)
        seconds = time.monotonic() - started_at
        training.print_summary(summary, declaration, job, seconds, console, settings)
        from codegen_pax.runs.summary import evaluation_losses  # a slow import: after the run

        losses[declaration.name] = {
            mixture: evaluation_losses(job, mixture)[-1].value for mixture in mixtures
        }
        settings = dataclasses.replace(settings, start_from=str(job))
    table = Table(title="validation loss on each phase's data (nats)")
    table.add_column("model")
    for phase in PHASES:
        table.add_column(phase, justify="right")
    for name, row in losses.items():
        table.add_row(name, *(f"{row[mixture]:.3f}" for mixture in mixtures))
    console.print(table)
    (output / "losses.json").write_text(json.dumps(losses, indent=2) + "\n")
    return 0
