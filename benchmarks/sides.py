"""Runs the sides of a comparison in turns, each in a process of its own that stays alive.

A side is a script that calls `serve` with a function that does the work once. The sides' libraries
do not share threads, and a side that waits takes no CPU.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

# Threads of OpenMP go on spinning for as long after a parallel region (KMP_BLOCKTIME).
PAUSE_SECONDS = 0.25


class Side:
    """A process that works when it is told to."""

    def __init__(self, arguments: Sequence[str], environment: Mapping[str, str] | None = None):
        """Starts `python arguments`, and waits until it is ready, so all compilation is done."""
        self._process = subprocess.Popen(
            [sys.executable, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **(environment or {})},
        )
        self.about = self._read()

    def work(self, **arguments: Any) -> dict[str, Any]:
        """Does the work once, with arguments that the side's function takes.

        Returns:
            Its `seconds` and what else the side reports.
        """
        self._process.stdin.write(json.dumps(arguments) + "\n")
        self._process.stdin.flush()
        return self._read()

    def stop(self) -> None:
        """Ends the process."""
        self._process.stdin.close()
        self._process.wait()

    def _read(self) -> dict[str, Any]:
        for line in self._process.stdout:
            if line.startswith("{"):
                return json.loads(line)
        raise SystemExit(f"{' '.join(self._process.args)} ended; its error is above")


def serve(work: Callable[..., Any], **about: Any) -> None:
    """Works once for each line of standard input, after once to compile and warm up.

    Args:
        work: Does the work, with the arguments of `Side.work`, of which it needs none; returns
            what else to report, or None.
        **about: What the side says when it is ready.
    """
    work()
    print(json.dumps(about), flush=True)
    for line in sys.stdin:
        arguments = json.loads(line)
        start = time.perf_counter()
        more = work(**arguments)
        print(json.dumps({"seconds": time.perf_counter() - start, **(more or {})}), flush=True)


def in_turns(
    sides: Mapping[str, Side], rounds: int, **arguments: Any
) -> dict[str, list[dict[str, Any]]]:
    """Lets the sides work A B A B, with the same arguments; returns the reports of each."""
    reports: dict[str, list[dict[str, Any]]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, side in sides.items():
            time.sleep(PAUSE_SECONDS)
            reports[name].append(side.work(**arguments))
    return reports


def median(reports: Sequence[Mapping[str, Any]], key: str) -> float:
    """Returns the median of a number that each of a side's reports has."""
    return statistics.median(report[key] for report in reports)


def median_seconds(reports: Sequence[Mapping[str, Any]]) -> float:
    """Returns the median of the seconds of a side's reports."""
    return median(reports, "seconds")
