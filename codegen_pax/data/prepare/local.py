"""Runs the pipeline in a process of its own, follows it, and says in one line what went wrong.

Beam's local runner logs much, starts processes, and waits for ever for one that was killed. So it
gets a process group that can be ended as a whole: `python -m codegen_pax.data.prepare.local`
reads what to do as JSON from its input, and answers with one line of JSON.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import os
import re
import signal
import site
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

import psutil

from codegen_pax.data.prepare import pipeline
from codegen_pax.data.prepare.settings import Settings
from codegen_pax.data.sources import partitions as input_partitions
from codegen_pax.data.sources import storage
from codegen_pax.errors import InvalidValueError, UserError
from codegen_pax.silent_imports import silenced

# Not DirectRunner: it may fetch and start Prism, a program that is not of this machine.
LOCAL_RUNNER = "FnApiRunner"
POLL_SECONDS = 0.5
_DEATH_SECONDS = 3  # in which the error that a worker died of is known

_RAISED = re.compile(
    r"^(?:\w+: )*?((?:[\w.]+\.)?\w*(?:Error|Exception|Interrupt)): (?!(?:\w+\.)*\w+Error: )(.*?)"
    r"(?: \[while running '([^']*)'[^\]]*\])?$",
    re.M,
)

_IN_STEP = "[while running '"  # is in every error of a step

# step -> share of the bytes of the partitions that it has seen
OnProgress = Callable[[dict[str, int]], None]


class PrepareError(UserError):
    """The pipeline failed: the corpus is unfinished."""


class RunnerError(InvalidValueError):
    """Beam has no such runner, or cannot read its options."""


def check(runner: str, options: Sequence[str]) -> None:
    """Raises RunnerError unless Beam knows the runner, and can read those options that it knows."""
    with silenced():
        from apache_beam.options.pipeline_options import PipelineOptions
        from apache_beam.runners.runner import create_runner
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            create_runner(runner)
            PipelineOptions(list(options)).get_all_options()
    except SystemExit:  # argparse has printed why
        raise RunnerError(said.getvalue().strip().rpartition("error: ")[2]) from None
    except (ValueError, ImportError, AttributeError) as error:
        raise RunnerError(f"--runner: {error}") from error


def run_here(
    settings: Settings,
    inputs: Sequence[storage.File],
    partitions: Sequence[input_partitions.Partition],
    options: Sequence[str] = (f"--runner={LOCAL_RUNNER}",),
) -> None:
    """Runs the pipeline in this process, with Beam's own options."""
    with silenced():
        import apache_beam as beam
        from apache_beam.options.pipeline_options import PipelineOptions
    with beam.Pipeline(options=PipelineOptions(list(options))) as built:
        pipeline.build(built, settings, inputs, partitions)


def run(
    settings: Settings,
    inputs: Sequence[storage.File],
    partitions: Sequence[input_partitions.Partition],
    *,
    workers: int,
    runner: str | None = None,
    options: Sequence[str] = (),
    on_progress: OnProgress = lambda seen: None,
) -> None:
    """Runs the pipeline in a process of its own.

    Args:
      settings: what to prepare; its output was made ready by `pipeline.begin`.
      inputs: what `discovery.find` found.
      partitions: what `partitions.plan` made of them.
      workers: processes of the local runner.
      runner: of Beam; the local one if None.
      options: of Beam, further ones.
      on_progress: called now and then with the bytes that each step has seen, where the output is
        a folder of this machine.

    Raises:
      PrepareError: it failed; the message is the error's own.
    """
    local = (
        f"--runner={LOCAL_RUNNER}",
        "--direct_running_mode=multi_processing",
        f"--direct_num_workers={workers}",
    )
    chosen = [f"--runner={runner}"] if runner else list(local)
    request = {
        "parent": os.getpid(),
        "settings": dataclasses.asdict(settings),
        "inputs": [dataclasses.asdict(file) for file in inputs],
        "options": [*chosen, *options],
    }
    # What a cluster's runner says while it works is for the person; the local one's is for a log.
    log = tempfile.NamedTemporaryFile(  # noqa: SIM115 (kept if it fails)
        "a", prefix="codegen-pax-prepare-", suffix=".log", delete=False, errors="backslashreplace"
    )
    process = subprocess.Popen(
        [sys.executable, "-m", __spec__.name],
        env=_environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=None if runner else log,
        text=True,
        start_new_session=True,
    )
    answer: list[str] = []
    talk = threading.Thread(
        target=lambda: answer.append(process.communicate(json.dumps(request))[0])
    )
    talk.start()
    try:
        while talk.is_alive():
            on_progress(_progress(settings))
            talk.join(POLL_SECONDS)
        on_progress(_progress(settings))
    except BaseException:  # interrupted: nobody asks for the log
        os.unlink(log.name)
        raise
    finally:  # no worker is left behind
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        talk.join()
    said = json.loads(answer[0].strip().rpartition("\n")[2] or "{}")
    if process.returncode == 0 and said.get("done"):
        os.unlink(log.name)
        return
    with log:
        log.write(said.get("traceback", ""))
    error = said.get("error") or f"the pipeline ended with status {process.returncode}"
    if said.get("died"):
        error = _last_step(Path(log.name).read_text(errors="replace"))
        error = error or said["died"] + _at_work(settings, partitions)
    raise PrepareError(f"{error}; {settings.output} is unfinished (whole log: {log.name})")


def _environment() -> dict[str, str]:
    """Of the process and its workers: what lies in the current folder is not imported by them."""
    root = str(Path(__file__).parents[3])
    paths = [os.environ.get("PYTHONPATH"), None if root in site.getsitepackages() else root]
    return {
        **os.environ,
        "PYTHONSAFEPATH": "1",
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
    }


def _progress(settings: Settings) -> dict[str, int]:
    if "://" in settings.output:
        return {}
    seen: dict[str, int] = {}
    with contextlib.suppress(OSError, ValueError):  # a file that is being written, or going
        for path in Path(settings.work / "progress").iterdir():
            step = path.name.partition("-")[0]
            seen[step] = seen.get(step, 0) + int(path.read_text() or 0)
    return seen


def _at_work(settings: Settings, partitions: Sequence[input_partitions.Partition]) -> str:
    """Which inputs were being read, in words; '' if that cannot be known."""
    found: set[str] = set()
    if not storage.is_url(settings.output):
        with contextlib.suppress(OSError, ValueError):
            for path in Path(settings.work / "progress").iterdir():
                partition = partitions[int(path.name.partition("-")[2])]
                if int(path.read_text() or 0) < partition.size:
                    found.add(storage.escape_path(partition.source))
    return f", while it read {' or '.join(sorted(found))}" if found else ""


def _last_step(log: str) -> str | None:
    """What went wrong in a step last, of a log; None if nothing did."""
    found = [line for line in log.splitlines() if _IN_STEP in line and _RAISED.match(line)]
    return reason(found[-1]) if found else None


def reason(text: str) -> str:
    """What went wrong, in one line, from what Beam raised."""
    if "Traceback (most recent call last)" not in text:  # not a step's: all of it is the message
        text = " ".join(text.split())
    raised = _RAISED.findall(text)
    if not raised:
        return text.strip().rpartition("\n")[2] or "it failed without a word"
    kind, message, step = raised[-1]
    if kind.startswith("codegen_pax.") or kind in {"ValueError", "OSError"}:
        return message
    return f"{kind.rpartition('.')[2]}: {message}" + (f" (in step {step})" if step else "")


def _kind(error: BaseException) -> str:
    """The name of an error's class, as a traceback has it."""
    module, name = type(error).__module__, type(error).__qualname__
    return name if module == "builtins" else f"{module}.{name}"


_deaths: list[str] = []  # of workers


def _killed(args: threading.ExceptHookArgs) -> None:
    """Ends this process when a worker has: Beam itself may wait for it for ever.

    A worker also ends, or even aborts, after an error in a step. If `main` does not get to tell
    that, the log does.
    """
    status = re.search(r"Worker subprocess exited with return code (-?\d+)", str(args.exc_value))
    if not status:
        threading.__excepthook__(args)
        return
    code = int(status[1])
    how = f"signal {code - 128 if code > 128 else -code}" if code < 0 or code > 128 else code
    _deaths.append(f"a worker process was ended from outside ({how}: out of memory?)")
    time.sleep(_DEATH_SECONDS)
    _answer({"died": _deaths[0]})
    _end(1)


def _follow(parent: int) -> None:
    """Ends this process when the one that started it is no more, however that ended."""
    while os.getppid() == parent:
        time.sleep(POLL_SECONDS)
    _end(1)


def _end(status: int) -> NoReturn:
    """Ends this process and its workers: threads of Beam's, and workers that lost it, may wait."""
    for worker in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            worker.kill()
    os._exit(status)


def _answer(said: dict) -> None:
    print("\n" + json.dumps(said), flush=True)


def main() -> int:
    """The process that `run` starts."""
    request = json.load(sys.stdin)
    settings = Settings(
        **{
            name: tuple(value) if isinstance(value, list) else value
            for name, value in request["settings"].items()
        }
    )
    inputs = [storage.File(**file) for file in request["inputs"]]
    threading.excepthook = _killed
    threading.Thread(target=_follow, args=(request["parent"],), daemon=True).start()
    try:
        run_here(
            settings, inputs, input_partitions.plan(settings.corpus, inputs), request["options"]
        )
    except BaseException as error:  # told to the parent, whatever it is
        text = f"{_kind(error)}: {error}"
        said = {"error": reason(text), "traceback": traceback.format_exc()}
        if _IN_STEP not in text:
            # A killed worker also breaks its connection: give its thread time to say so.
            time.sleep(_DEATH_SECONDS - 1)
            if _deaths:
                said["died"] = _deaths[0]
        _answer(said)
        return 1
    _answer({"done": True})
    return 0


if __name__ == "__main__":
    _end(main())
