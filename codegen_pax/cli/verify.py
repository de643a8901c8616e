"""`codegen-pax verify`: whether a run's checkpoints are as they were saved."""

from __future__ import annotations

import argparse
import dataclasses
import json
from typing import TYPE_CHECKING

from codegen_pax.messages import printable
from codegen_pax.silent_imports import silenced

if TYPE_CHECKING:
    from codegen_pax.runs.verification import JobReport

_MAX_PROBLEMS = 10  # printed for each checkpoint; --json has them all


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the verb."""
    parser.add_argument("run", help="the run's folder, given to Pax as --job_log_dir")
    parser.add_argument("--json", action="store_true", help="print an object instead")


def run(args: argparse.Namespace) -> int:
    """Reads every file of every checkpoint; returns 1 if anything is wrong."""
    from codegen_pax.cli.core.terminal import Terminal
    from codegen_pax.data.sources import storage

    with silenced():
        from codegen_pax.runs import progress, verification

    with storage.translate_errors(args.run):
        job = storage.as_epath(args.run)
        # With --json, progress goes to standard error, apart from the result.
        console = Terminal(highlight=False, soft_wrap=True, stderr=args.json)
        with progress.follow_bytes(
            "verifying", verification.verified_bytes(job), console
        ) as on_bytes:
            report = verification.verify(job, on_bytes)
    if args.json:
        document = dataclasses.asdict(report) | {
            "good": report.is_good,
            "newest_good_step": report.good_step,
            "how_to_go_on": report.how_to_go_on(),
        }
        print(json.dumps(document, indent=2))
    else:
        for line in _lines(report):
            console.print(printable(line))
    return 0 if report.is_good else 1


def _lines(report: JobReport) -> list[str]:
    """Returns the report as text."""
    lines = [
        *(f"{report.job}: {problem}" for problem in report.problems),
        *(f"{report.job}: ({note})" for note in report.notes),
    ]
    for checkpoint in report.checkpoints:
        count = len(checkpoint.problems)
        state = f"{count:,} problem{'s' if count > 1 else ''}" if count else "good"
        lines.append(f"step {checkpoint.step:,}: {state}; checksums: {checkpoint.checksums}")
        lines += [f"  {problem}" for problem in checkpoint.problems[:_MAX_PROBLEMS]]
        if count > _MAX_PROBLEMS:
            lines.append(f"  and {count - _MAX_PROBLEMS:,} more: --json has them all")
        lines += [f"  ({note})" for note in checkpoint.notes]
    good = report.good_step
    lines.append("newest good step: " + ("none" if good is None else f"{good:,}"))
    return lines + report.how_to_go_on()
