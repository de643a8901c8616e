"""Starts the stock Pax binary in a child process, keeps its log, and follows its steps."""

from __future__ import annotations

import collections
import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from codegen_pax.errors import UserError

# What Pax logs after each summary (paxml/summary_utils.py).
_STEP = re.compile(r"Wrote summary entry at step `(\d+)` \(loss=`([^`]+)`\)")
# The last line of a Python traceback: `ValueError: ...`, perhaps with the module in front.
_ERROR = re.compile(r"^(?:[\w.]+\.)?[A-Z]\w*(?:Error|Exception|Interrupt): .+")
_TAIL_LINES = 2_000
_DOOR = "codegen"  # the module of the experiments of the tables

# glibc gives each large array fresh pages of 4 KiB and takes them back: on a CPU, adding 1 to 52
# million floats took 114 ms, 25 ms with pages of 2 MiB. A value of the user's own goes before.
_HUGE_PAGES = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}


class PaxFailedError(UserError):
    """The Pax binary did not end well; the message is its last error and where its log lies."""


def run_pax(
    experiment: str,
    job_dir: Path,
    *,
    flags: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    on_step: Callable[[int, float], None] = lambda step, loss: None,
) -> Path:
    """Runs `python -m paxml.main --exp=<experiment> --job_log_dir=<job_dir>`, which trains.

    Args:
      experiment: `module.Class`, as the binary takes it.
      job_dir: made if it is not there; the log goes to `logs/train.log` under it.
      flags: further flags of the binary.
      environment: settings added to this process's own.
      on_step: called with the step and its loss whenever the binary has written a summary.

    Returns:
      The log's path.

    Raises:
      PaxFailedError: the binary exited with another status than 0.
    """
    log_path = job_dir / "logs" / "train.log"
    log_path.parent.mkdir(parents=True, exist_ok=True)
    command = [
        sys.executable,
        "-m",
        "paxml.main",
        f"--exp={experiment}",
        f"--job_log_dir={job_dir.resolve()}",
        "--mode=train",
        "--verbosity=0",  # INFO: the steps are followed in the log
        *flags,
    ]
    tail: collections.deque[str] = collections.deque(maxlen=_TAIL_LINES)
    process = subprocess.Popen(
        command,
        env={**_HUGE_PAGES, **os.environ, **(environment or {}), **_search_path(experiment)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    try:
        with log_path.open("a") as log:
            for line in process.stdout:
                log.write(line)
                tail.append(line.rstrip())
                if match := _STEP.search(line):
                    log.flush()
                    on_step(int(match[1]), float(match[2]))
        status = process.wait()
    finally:
        if process.poll() is None:  # an interrupt or an error of ours: do not leave it behind
            process.terminate()
            process.wait()
    if status:
        raise PaxFailedError(
            f"paxml.main --exp={experiment} exited with status {status}: "
            f"{_last_error(tail)} (whole log: {log_path})"
        )
    return log_path


def _search_path(experiment: str) -> dict[str, str]:
    """Where the binary looks for modules: for an experiment of the tables not where it is started.

    That may be a run's folder, and nothing in it is code.
    """
    if experiment.rpartition(".")[0] != _DOOR:
        return {}
    root = Path(__file__).resolve().parents[2]
    checkout = [str(root)] if (root / "setup.py").is_file() else []  # else it is installed
    paths = [*checkout, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {"PYTHONSAFEPATH": "1", "PYTHONPATH": os.pathsep.join(paths)}


def _last_error(lines: Sequence[str]) -> str:
    errors = [line for line in lines if _ERROR.match(line)]
    return errors[-1] if errors else next((line for line in reversed(lines) if line), "no output")
