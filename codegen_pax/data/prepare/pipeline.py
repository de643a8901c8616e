"""The pipeline of steps, run by processes of this machine (`processes`) or by Beam (`on_beam`).

Beam is not used on this machine: its local runner reports errors as text in a log, waits forever
for a worker that was killed, and holds in memory what it shuffles.
"""

from __future__ import annotations

import collections
import contextlib
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence

from codegen_pax.data.prepare import on_beam, steps, work_files
from codegen_pax.data.prepare.processes import Processes, ThisProcess, WorkerDiedError, run_steps
from codegen_pax.data.prepare.settings import Settings
from codegen_pax.data.prepare.steps import StepError
from codegen_pax.data.sources.partitions import Partition
from codegen_pax.data.sources.storage import File
from codegen_pax.errors import UserError

POLL_SECONDS = 0.5
TRACEBACK = "traceback.txt"  # in the work folder, for a failure that the user did not cause

# Called with step -> bytes of the partitions that it has read.
OnProgress = Callable[[dict[str, int]], None]


class PrepareError(UserError):
    """The pipeline failed: the corpus is unfinished."""


def run(
    settings: Settings,
    inputs: Sequence[File],
    partitions: Sequence[Partition],
    *,
    workers: int = 1,
    runner: str | None = None,
    options: Sequence[str] = (),
    on_progress: OnProgress | None = None,
) -> None:
    """Run the pipeline.

    Several workers are started by `multiprocessing`, so a script that asks for them calls this
    under `if __name__ == "__main__"`.

    Args:
        settings: What to prepare; `output.begin` has made its output ready.
        inputs: What `discovery.find` found.
        partitions: What `partitions.plan` made of them.
        workers: Number of processes; with one, the steps run in this process.
        runner: A runner of Beam, to be used instead.
        options: Options of Beam.
        on_progress: Called now and then with the bytes that each step has read, if the output is a
            local folder.

    Raises:
        PrepareError: The pipeline failed; the message is one line.
    """
    try:
        with _report_progress(settings, on_progress):
            if runner:
                on_beam.run(settings, inputs, partitions, [f"--runner={runner}", *options])
            elif workers == 1:
                run_steps(ThisProcess(), settings, inputs, partitions)
            else:
                with Processes(workers) as processes:
                    run_steps(processes, settings, inputs, partitions)
    except WorkerDiedError as error:
        raise _failed(settings, f"{error}{_being_read(settings)}", error) from error
    except (UserError, OSError) as error:
        raise _failed(settings, str(error), error) from error


def _failed(settings: Settings, message: str, error: Exception) -> PrepareError:
    """Return the error of a failed pipeline; the traceback of a defect is written to a file."""
    where = ""
    if isinstance(error, StepError) and error.is_defect:
        path = settings.work_folder / TRACEBACK
        with contextlib.suppress(OSError):  # the disk may be full
            text = "".join(traceback.format_exception(error))
            work_files.write(settings, TRACEBACK, text.encode())
            where = f" (traceback: {path})"
    return PrepareError(f"{message}; {settings.output} is unfinished{where}")


@contextlib.contextmanager
def _report_progress(settings: Settings, on_progress: OnProgress | None) -> Iterator[None]:
    """Call `on_progress` every `POLL_SECONDS`, and once when the block has ended."""
    if on_progress is None:
        yield
        return
    is_done = threading.Event()

    def report() -> None:
        is_last = False
        while not is_last:
            is_last = is_done.wait(POLL_SECONDS)
            total: collections.Counter[str] = collections.Counter()
            for (step, _), reading in steps.read_progress(settings).items():
                total[step] += reading.done
            on_progress(dict(total))

    thread = threading.Thread(target=report, daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_done.set()
        thread.join()


def _being_read(settings: Settings) -> str:
    """Say which inputs were being read; '' if that is unknown."""
    sources = {
        source
        for reading in steps.read_progress(settings).values()
        if reading.done < reading.total
        for source in reading.sources
    }
    return f", while it read {' or '.join(sorted(sources))}" if sources else ""
