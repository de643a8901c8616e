"""Runs the benchmarks one after another, and prints one table of their targets.

    python benchmarks/all.py [--quick] [NAME ...]     (or: make bench, make bench QUICK=1)

Each runs in a process of its own; its own table is in its output. What all have measured is in
build/benchmarks/bench.json. The script fails if a benchmark does. The full form takes about an hour
on two cores, the quick form under five minutes. Nothing else should run meanwhile.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import results
from codegen_pax.environment import allocator

HERE = Path(__file__).resolve().parent
# Arguments of the full form and of the quick one; None if the quick form leaves it out.
BENCHMARKS: dict[str, tuple[tuple[str, ...], tuple[str, ...] | None]] = {
    "training": ((), ("--quick",)),
    "decoding": ((), ("--quick",)),
    "starting": ((), ("--quick",)),
    "softmax": ((), None),
    "reading": ((), None),
    "preparing": (("0.25",), None),
    "growth": ((), None),
}
ENVIRONMENT = {**allocator.environment(), "TF_CPP_MIN_LOG_LEVEL": "3"}


def main() -> int:
    """Runs the benchmarks; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer shapes and rounds")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of: {', '.join(BENCHMARKS)}")
    args = parser.parse_args()
    if unknown := {*args.names} - {*BENCHMARKS}:
        parser.error(f"no benchmark {', '.join(sorted(unknown))}; expected {', '.join(BENCHMARKS)}")
    done = []
    for name, (full, quick) in BENCHMARKS.items():
        arguments = quick if args.quick else full
        if arguments is not None and (not args.names or name in args.names):
            done.append(run(name, arguments))
    print()
    results.print_table([row for benchmark in done for row in summary(benchmark)])
    content = {"quick": args.quick, "machine": results.machine(), "benchmarks": done}
    results.write("bench", content)
    print(f"\nall figures: {results.FOLDER / 'bench.json'}")
    return int(any(benchmark["status"] for benchmark in done))


def run(name: str, arguments: tuple[str, ...]) -> dict[str, Any]:
    """Runs a benchmark; returns its status, its seconds and what it has reported."""
    file = results.FOLDER / f"{name}.json"
    file.unlink(missing_ok=True)  # so that an earlier report is not taken for this one
    print(f"\n{name} {' '.join(arguments)}".rstrip(), flush=True)
    begun = time.monotonic()
    status = subprocess.run(
        [sys.executable, str(HERE / f"{name}.py"), *arguments], env={**ENVIRONMENT, **os.environ}
    ).returncode
    report = json.loads(file.read_text()) if file.exists() else {"benchmark": name, "rows": []}
    return {**report, "status": status, "minutes": (time.monotonic() - begun) / 60}


def summary(benchmark: dict[str, Any]) -> list[dict[str, Any]]:
    """Returns a row for each target of a benchmark, or one if it has none or ended early."""
    rows = [
        {
            "benchmark": benchmark["benchmark"],
            "figure": target["what"],
            "value": target["value"],
            "expected": target["wanted"],
            "": "" if target["met"] else "MISSED",
        }
        for target in benchmark.get("targets", ())
    ]
    if not rows:
        verdict = "FAILED" if benchmark["status"] else ""
        row = {"benchmark": benchmark["benchmark"], "figure": "see its own table", "value": None}
        rows = [row | {"expected": "", "": verdict}]
    return rows


if __name__ == "__main__":
    sys.exit(main())
