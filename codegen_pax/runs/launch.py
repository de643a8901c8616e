"""Starts the stock Pax binary in a child process, keeps its log, and follows its steps."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from codegen_pax.errors import UserError

# What a run says of itself begins so, behind the date and the place of a logged line; what it was
# refused for begins its line.
MARK = "codegen-pax: "
_OURS = re.compile(rf"\] {MARK}(.+)")
_STEP = re.compile(r"step ([\d,]+) of [\d,]+: loss (\S+)")
# The last line of a Python traceback: `ValueError: ...`, perhaps with the module in front.
_ERROR = re.compile(r"^(?:[\w.]+\.)?[A-Z]\w*(?:Error|Exception|Interrupt): .+")
_TAIL_LINES = 2_000
_DOOR = "codegen"  # the module of the experiments of the tables

# glibc gives each large array fresh pages of 4 KiB and takes them back: on a CPU, adding 1 to 52
# million floats took 114 ms, 25 ms with pages of 2 MiB. A value of the user's own goes before.
_HUGE_PAGES = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}


class PaxFailedError(UserError):
    """The Pax binary did not end well; the message is its last error and where its log lies."""


class RefusedError(UserError):
    """The Pax binary was refused what it was to do, and has left nothing; the message says why."""


@dataclasses.dataclass(frozen=True)
class Line:
    """What a run says of itself.

    Attributes:
      text: what it says.
      step: of a line about a step, which; of any other None.
    """

    text: str
    step: int | None = None


def run_pax(
    experiment: str,
    job_dir: Path,
    *,
    flags: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    on_line: Callable[[Line], None] = lambda line: None,
) -> Path:
    """Runs `python -m paxml.main --exp=<experiment> --job_log_dir=<job_dir>`, which trains.

    Args:
      experiment: `module.Class`, as the binary takes it.
      job_dir: made if it is not there; the log goes to `logs/train.log` under it.
      flags: further flags of the binary.
      environment: settings added to this process's own.
      on_line: called with each line that the run says of itself.

    Returns:
      The log's path.

    Raises:
      RefusedError: it was refused before it began; what was made for its log is gone.
      PaxFailedError: the binary exited with another status than 0.
    """
    log_path = job_dir / "logs" / "train.log"
    made = [path for path in (log_path, *log_path.parents) if not path.exists()]
    log_path.parent.mkdir(parents=True, exist_ok=True)
    command = [
        sys.executable,
        "-m",
        "paxml.main",
        f"--exp={experiment}",
        f"--job_log_dir={job_dir.resolve()}",
        "--mode=train",
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
                if match := _OURS.search(line):
                    log.flush()
                    on_line(_line(match[1]))
        status = process.wait()
    finally:
        if process.poll() is None:  # an interrupt or an error of ours: do not leave it behind
            process.terminate()
            process.wait()
    if status:
        if _leave_nothing(made, job_dir, tail):
            raise RefusedError(_refusal(tail))
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


def _line(text: str) -> Line:
    match = _STEP.match(text)
    return Line(text, match and int(match[1].replace(",", "")))


def _leave_nothing(made: Sequence[Path], job_dir: Path, lines: Sequence[str]) -> bool:
    """Removes what was made for the log of a run that was refused; whether that was all there was.

    Args:
      made: the log and the folders above it that were not there before, the log first.
      job_dir: the run's folder.
      lines: the end of the log.
    """
    if not made or _refusal(lines) is None:
        return False
    if [path for path in job_dir.rglob("*") if not path.is_dir()] != made[:1]:
        return False  # it had begun
    made[0].unlink()
    for folder in made[1:]:
        with contextlib.suppress(OSError):  # somebody else has put something there
            folder.rmdir()
    return True


def _refusal(lines: Sequence[str]) -> str | None:
    """What a run was refused for, which is the last line that it says, without date and place."""
    said = (line.removeprefix(MARK) for line in reversed(lines) if line.startswith(MARK))
    return next(said, None)


def _last_error(lines: Sequence[str]) -> str:
    if refusal := _refusal(lines):
        return refusal
    errors = [line for line in lines if _ERROR.match(line)]
    return errors[-1] if errors else next((line for line in reversed(lines) if line), "no output")
