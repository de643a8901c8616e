"""Measures what a person waits for before the first result: a sample, and the first training step.

    python benchmarks/starting.py [--quick]

The stock binary starts to train CodeGenNanoMono and is stopped after its first step; the first
table says where the seconds until then go, by the run's own log, and how many of them XLA
compiles. `codegen-pax sample` then continues a prompt with the run's first checkpoint: for the
first time, with an empty cache of compiled programs, and again. The second table compares it with
`import paxml.main`, which a decoder that is built on Pax begins with; they take turns.

The script fails if a second sample takes longer than that import.
"""

from __future__ import annotations

import argparse
import datetime
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import results
from codegen_pax.environment import allocator
from codegen_pax.runs import checkpoints

EXPERIMENT = "codegen.CodeGenNanoMono"
ENVIRONMENT = {
    **allocator.environment(),
    "JAX_PLATFORMS": "cpu",
    "CODEGEN_START_FROM": "scratch",
}
MOST_OF_IMPORT = 1.0
# What a stage is called, and what the log says when it ends.
STAGES = (
    ("importing Pax", r"\[PAX STATUS\]: Program start"),
    ("importing and registering the experiments", r"Elapsed time for <get_experiment>"),
    ("configuring and checking the experiment", r"codegen-pax: .* is checked"),
    ("making the task and the input", r"codegen-pax: initialising the weights"),
    ("initialising the weights", r"codegen-pax: .*: steps 1 to"),
    ("saving them, measuring the device", r"codegen-pax: compiling the training step"),
    ("compiling and making the first step", r"codegen-pax: step 1 of"),
)
_TIME = re.compile(r"^[IWE](\d{4} \d\d:\d\d:\d\d\.\d{6}) ")
_COMPILED = re.compile(r"^[IWE]\d{4} .*Finished XLA compilation.* in ([\d.e-]+) sec")


def start_run(job: Path) -> list[dict[str, Any]]:
    """Starts a run, stops it after its first step and its first checkpoint; returns the stages."""
    command = [sys.executable, "-m", "paxml.main", f"--exp={EXPERIMENT}", "--mode=train"]
    command += [f"--job_log_dir={job}", "--verbosity=0"]
    begun = time.time()
    process = subprocess.Popen(
        command,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    try:
        rows = stages(process.stdout, begun)
        while checkpoints.last_step(job) is None:
            process.stdout.readline()  # or the pipe would be full, and the run wait for ever
    finally:
        process.kill()
        process.wait()
    return rows


def stages(lines: Iterable[str], begun: float) -> list[dict[str, Any]]:
    """Returns the seconds of each stage, by the lines of a log up to the first step.

    Args:
        lines: The lines, as they are written.
        begun: When the process began, in seconds since the epoch.
    """
    rows: list[dict[str, Any]] = []
    waited, compiling, tail = list(STAGES), 0.0, []
    for line in lines:
        tail = [*tail[-20:], line]
        if compiled := _COMPILED.match(line):
            compiling += float(compiled[1])
        found = next((i for i, stage in enumerate(waited) if re.search(stage[1], line)), None)
        if found is None:
            continue
        stamp = _TIME.match(line)
        year = datetime.datetime.now().year
        now = datetime.datetime.strptime(f"{year} {stamp[1]}", "%Y %m%d %H:%M:%S.%f").timestamp()
        rows.append({"stage": waited[found][0], "seconds": now - begun, "of it in XLA": compiling})
        waited, begun, compiling = waited[found + 1 :], now, 0.0
        if not waited:
            return rows
    raise SystemExit("the run ended before its first step:\n" + "".join(tail))


def environment(**more: str) -> dict[str, str]:
    """Returns the variables of the processes that are measured."""
    root = str(Path(__file__).resolve().parents[1])
    paths = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, **ENVIRONMENT, "PYTHONPATH": paths, "PYTHONSAFEPATH": "1", **more}


def seconds(command: Sequence[str], **more: str) -> float:
    """Returns how long a command takes, in a process of its own."""
    begun = time.perf_counter()
    subprocess.run(
        [sys.executable, *command],
        env=environment(**more),
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    return time.perf_counter() - begun


def main() -> int:
    """Measures; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    rounds = 2 if parser.parse_args().quick else 5
    sample = ["-m", "codegen_pax.cli.core.main", "sample"]
    measured: dict[str, list[float]] = {"first sample": [], "second sample": [], "import": []}
    with tempfile.TemporaryDirectory() as name:
        job = Path(name) / "job"
        rows = start_run(job)
        sample += [str(job), "def parse(text):"]
        for number in range(rounds):
            cache = str(Path(name) / f"cache-{number}")
            measured["first sample"].append(seconds(sample, XDG_CACHE_HOME=cache))
            measured["second sample"].append(seconds(sample, XDG_CACHE_HOME=cache))
            measured["import"].append(seconds(["-c", "import paxml.main"]))
    rows.append({"stage": "together"} | {key: total(rows, key) for key in [*rows[0]][1:]})
    medians = {key: statistics.median(values) for key, values in measured.items()}
    for key, what in (
        ("import", "import paxml.main"),
        ("first sample", "sample, nothing compiled before"),
        ("second sample", "sample, programs kept"),
    ):
        rows.append({"stage": what, "seconds": medians[key], "of it in XLA": None})
    target = results.Target(
        "sample with kept programs, of the import of Pax",
        medians["second sample"] / medians["import"],
        most=MOST_OF_IMPORT,
    )
    return results.report("starting", rows, [target])


def total(rows: Sequence[dict[str, Any]], key: str) -> float:
    """Returns the sum of a column."""
    return sum(row[key] for row in rows)


if __name__ == "__main__":
    sys.exit(main())
