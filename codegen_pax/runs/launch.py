"""Runs the stock Pax binary in a child process, keeps its log, and follows the lines it reports."""

from __future__ import annotations

import collections
import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from codegen_pax.environment import allocator
from codegen_pax.errors import UserError
from codegen_pax.runs import log

_TAIL_LINES = 2_000  # of the log, searched for the cause of a failure
_TABLES_MODULE = "codegen"  # registers the experiments of the tables


class PaxFailedError(UserError):
    """The Pax binary failed; the message has its last error and the path of its log."""


class RefusedError(UserError):
    """The Pax binary refused to start, and left no files; the message says why."""


def run_pax(
    experiment: str,
    job: Path,
    *,
    flags: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    on_line: Callable[[log.Line], None] = lambda _: None,
) -> Path:
    """Trains with `python -m paxml.main --exp=<experiment> --job_log_dir=<job>`.

    Args:
        experiment: `module.Class`, as the binary takes it.
        job: The job directory, which is made if it does not exist; the log goes to
            `logs/train.log` in it.
        flags: More flags of the binary.
        environment: Variables to add to the environment of this process.
        on_line: Called with each line that the run reports about itself.

    Returns:
        The path of the log.

    Raises:
        RefusedError: The run was refused before it began; the files made for its log are removed.
        PaxFailedError: The binary exited with a status other than 0.
    """
    log_path = job / "logs" / "train.log"
    created = [path for path in (log_path, *log_path.parents) if not path.exists()]
    log_path.parent.mkdir(parents=True, exist_ok=True)
    command = [
        sys.executable,
        "-m",
        "paxml.main",
        f"--exp={experiment}",
        f"--job_log_dir={job.resolve()}",
        "--mode=train",
        *flags,
    ]
    tail: collections.deque[str] = collections.deque(maxlen=_TAIL_LINES)
    process = subprocess.Popen(
        command,
        env={
            **allocator.environment(),  # first, so that the user's own counts
            **os.environ,
            **(environment or {}),
            **_search_path(experiment),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    try:
        with log_path.open("a") as file:
            for line in process.stdout or ():
                file.write(line)
                tail.append(line.rstrip())
                if parsed := log.parse(line):
                    file.flush()
                    on_line(parsed)
        status = process.wait()
    finally:
        if process.poll() is None:  # after an interrupt, or an error of ours
            process.terminate()
            process.wait()
    if status:
        refusal = log.refusal(tail)
        if refusal is not None and _remove_log_of_refusal(created, job):
            raise RefusedError(refusal)
        raise PaxFailedError(
            f"paxml.main --exp={experiment} exited with status {status}: "
            f"{log.last_error(tail)} (whole log: {log_path})"
        )
    return log_path


def _search_path(experiment: str) -> dict[str, str]:
    """Returns the variables that say where the binary looks for modules.

    For an experiment of the tables this is never the working directory. That may be a job
    directory, which is data: no file in it may run.
    """
    if experiment.rpartition(".")[0] != _TABLES_MODULE:
        return {}
    root = Path(__file__).resolve().parents[2]
    checkout = [str(root)] if (root / "setup.py").is_file() else []  # else installed
    paths = [*checkout, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {"PYTHONSAFEPATH": "1", "PYTHONPATH": os.pathsep.join(paths)}


def _remove_log_of_refusal(created: Sequence[Path], job: Path) -> bool:
    """Removes the files made for the log of a refused run, if the run has left nothing else.

    Args:
        created: The log and the directories above it that did not exist before, the log first.
        job: The job directory.

    Returns:
        Whether they were removed.
    """
    if not created or [path for path in job.rglob("*") if not path.is_dir()] != [created[0]]:
        return False  # an earlier run has left something, or this one had begun
    created[0].unlink()
    for folder in created[1:]:
        with contextlib.suppress(OSError):  # another process has put something there
            folder.rmdir()
    return True
