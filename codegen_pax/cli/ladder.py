"""`codegen-pax ladder`: Nano through every phase, each from the last, and a matrix of losses."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from codegen_pax.cli.run import local_folder

HELP = "train Nano through NL, Multi, Mono and Instruct, and score each on each phase's data"

SIZE = "Nano"
PHASES = ("NL", "Multi", "Mono", "Instruct")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--output", type=local_folder, help="the ladder's folder; runs/ladder-<time> if not given"
    )


def run(args: argparse.Namespace) -> int:
    import json

    from rich.table import Table

    from codegen_pax.cli import training
    from codegen_pax.cli.tables import Terminal
    from codegen_pax.runs import checkpoints
    from experiments.declaration import find_declaration, from_environment

    output = args.output or Path("runs") / f"ladder-{time.strftime('%Y%m%d-%H%M%S')}"
    checkpoints.check_writable(output)
    console = Terminal()
    ladder = [from_environment(find_declaration(f"CodeGen{SIZE}{phase}")) for phase in PHASES]
    mixtures = [declaration.mixture for declaration in ladder]
    start = "scratch"
    losses: dict[str, dict[str, float]] = {}
    for declaration in ladder:
        job = output / declaration.name
        begun = time.monotonic()
        summary = training.train(
            f"codegen.{declaration.name}", declaration, job, console, start=start, evaluate=mixtures
        )
        training.print_summary(summary, declaration, job, time.monotonic() - begun, console)
        from codegen_pax.runs.summary import evaluation_losses  # slow: after the first run

        losses[declaration.name] = {
            mixture: evaluation_losses(job, mixture)[-1].value for mixture in mixtures
        }
        start = str(job)
    table = Table(title="validation loss on each phase's data (nats)")
    table.add_column("model")
    for phase in PHASES:
        table.add_column(phase, justify="right")
    for name, row in losses.items():
        table.add_row(name, *(f"{row[mixture]:.3f}" for mixture in mixtures))
    console.print(table)
    (output / "losses.json").write_text(json.dumps(losses, indent=2) + "\n")
    return 0
