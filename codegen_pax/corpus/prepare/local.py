"""Runs the pipeline in a process of its own, follows it, and says in one line what went wrong.

Beam's local runner logs much, starts processes, and waits for ever for one that was killed. So it
gets a process group that can be ended as a whole: `python -m codegen_pax.corpus.prepare.local`
reads what to do as JSON from its input, and answers with one line of JSON.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import signal
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

from codegen_pax.corpus.prepare import pipeline
from codegen_pax.corpus.prepare.settings import Settings
from codegen_pax.corpus.raw import inputs as raw_inputs
from codegen_pax.corpus.raw import splits as raw_splits
from codegen_pax.quiet import quietly

# Not DirectRunner: it may fetch and start Prism, a program that is not of this machine.
LOCAL_RUNNER = "FnApiRunner"
POLL_SECONDS = 0.5

_RAISED = re.compile(
    r"^(?:\w+: )*?((?:[\w.]+\.)?\w*(?:Error|Exception|Interrupt)): (?!(?:\w+\.)*\w+Error: )(.*?)"
    r"(?: \[while running '([^']*)'[^\]]*\])?$",
    re.M,
)

# step -> share of the bytes of the splits that it has seen
OnProgress = Callable[[dict[str, int]], None]


class PrepareError(RuntimeError):
    """The pipeline failed: the corpus is unfinished."""


def run_here(
    settings: Settings,
    inputs: Sequence[raw_inputs.Input],
    splits: Sequence[raw_splits.Split],
    options: Sequence[str] = (f"--runner={LOCAL_RUNNER}",),
) -> None:
    """Runs the pipeline in this process, with Beam's own options."""
    with quietly():
        import apache_beam as beam
        from apache_beam.options.pipeline_options import PipelineOptions
    with beam.Pipeline(options=PipelineOptions(list(options))) as built:
        pipeline.build(built, settings, inputs, splits)


def run(
    settings: Settings,
    inputs: Sequence[raw_inputs.Input],
    splits: Sequence[raw_splits.Split],
    *,
    workers: int,
    runner: str | None = None,
    options: Sequence[str] = (),
    on_progress: OnProgress = lambda seen: None,
) -> None:
    """Runs the pipeline in a process of its own.

    Args:
      settings: what to prepare; its output was made ready by `pipeline.begin`.
      inputs: what `raw.inputs.find` found.
      splits: what `raw.splits.split` made of them.
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
        "settings": dataclasses.asdict(settings),
        "inputs": [dataclasses.asdict(file) for file in inputs],
        "options": [*chosen, *options],
    }
    # What a cluster's runner says while it works is for the person; the local one's is for a log.
    log = None if runner else tempfile.NamedTemporaryFile(  # noqa: SIM115 (kept if it fails)
        "w", prefix="codegen-pax-prepare-", suffix=".log", delete=False
    )  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-m", __spec__.name],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
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
    finally:  # also when interrupted: no worker is left behind
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        talk.join()
    said = json.loads(answer[0].strip().rpartition("\n")[2] or "{}")
    if process.returncode == 0 and said.get("done"):
        if log:
            os.unlink(log.name)
        return
    where = f" (whole log: {log.name})" if log else ""
    reason = said.get("error") or f"the pipeline ended with status {process.returncode}"
    raise PrepareError(f"{reason}; {settings.output} is unfinished{where}")


def _progress(settings: Settings) -> dict[str, int]:
    if "://" in settings.output:
        return {}
    seen: dict[str, int] = {}
    with contextlib.suppress(OSError, ValueError):  # a file that is being written, or going
        for path in Path(settings.work / "progress").iterdir():
            step = path.name.partition("-")[0]
            seen[step] = seen.get(step, 0) + int(path.read_text() or 0)
    return seen


def reason(text: str) -> str:
    """What went wrong, in one line, from what Beam raised."""
    raised = _RAISED.findall(text)
    if not raised:
        return text.strip().rpartition("\n")[2] or "it failed without a word"
    kind, message, step = raised[-1]
    if kind.startswith("codegen_pax.") or kind in {"ValueError", "OSError"}:
        return message
    return f"{kind.rpartition('.')[2]}: {message}" + (f" (in step {step})" if step else "")


def _killed(args: threading.ExceptHookArgs) -> None:
    """Ends this process when a worker has: Beam itself would wait for it for ever."""
    if "Worker subprocess exited" in str(args.exc_value):
        status = re.search(r"code (-?\d+)", str(args.exc_value))
        code = int(status[1]) if status else 1
        how = f"signal {code - 128 if code > 128 else -code}" if code < 0 or code > 128 else code
        _answer({"error": f"a worker process was ended from outside ({how}: out of memory?)"})
        _end(1)
    threading.__excepthook__(args)


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
    inputs = [raw_inputs.Input(**file) for file in request["inputs"]]
    threading.excepthook = _killed
    try:
        run_here(settings, inputs, raw_splits.split(settings.corpus, inputs), request["options"])
    except BaseException as error:  # told to the parent, whatever it is
        traceback.print_exc()
        # A killed worker also breaks its connection: give its thread time to say so.
        time.sleep(2)
        _answer({"error": reason(f"{type(error).__name__}: {error}")})
        return 1
    _answer({"done": True})
    return 0


if __name__ == "__main__":
    _end(main())
