"""`codegen-pax verify`: whether a run's checkpoints are as they were saved."""

from __future__ import annotations

import argparse
import dataclasses
import json

from codegen_pax.names import printable
from codegen_pax.silent_imports import silenced

HELP = "check a run's checkpoints, and name the newest good one"

_MOST_LINES = 10  # of a checkpoint's problems; all of them are in the JSON


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", help="the run's folder, given to Pax as --job_log_dir")
    parser.add_argument("--json", action="store_true", help="print an object instead")


def run(args: argparse.Namespace) -> int:
    """Reads every file of every checkpoint; returns 1 if anything is wrong."""
    from codegen_pax.cli.tables import Terminal
    from codegen_pax.data.sources import storage

    with silenced():
        from codegen_pax.runs import progress, verification

    with storage.translate_errors(args.run):
        job = storage.as_epath(args.run)
        # What is for a person goes where the result of --json does not.
        console = Terminal(highlight=False, soft_wrap=True, stderr=args.json)
        with progress.follow_bytes(
            "verifying", verification.verified_bytes(job), console
        ) as on_bytes:
            report = verification.verify(job, on_bytes)
    if args.json:
        said = dataclasses.asdict(report) | {
            "good": report.is_good,
            "newest_good_step": report.good_step,
            "how_to_go_on": report.how_to_go_on(),
        }
        print(json.dumps(said, indent=2))
    else:
        _print(report, console)
    return 0 if report.is_good else 1


def _print(report, console) -> None:
    def say(line: str) -> None:
        console.print(printable(line))

    for line in report.problems:
        say(f"{report.job}: {line}")
    for line in report.notes:
        say(f"{report.job}: ({line})")
    for one in report.checkpoints:
        count = len(one.problems)
        state = f"{count:,} problem{'s' if count > 1 else ''}" if count else "good"
        say(f"step {one.step:,}: {state}; checksums: {one.checksums}")
        for line in one.problems[:_MOST_LINES]:
            say(f"  {line}")
        if count > _MOST_LINES:
            say(f"  and {count - _MOST_LINES:,} more: --json has them all")
        for line in one.notes:
            say(f"  ({line})")
    good = report.good_step
    say("newest good step: " + ("none" if good is None else f"{good:,}"))
    for line in report.how_to_go_on():
        say(line)
