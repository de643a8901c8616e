"""The pipeline of steps, run by processes of this machine or by Beam.

`run_steps` is the pipeline for this machine, and `build_beam` the same pipeline for Beam's runners.
Beam is not used on this machine: its local runner reports errors as text in a log, and waits
forever for a worker that was killed.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import io
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent import futures
from concurrent.futures.process import BrokenProcessPool
from typing import Any, Protocol

from codegen_pax.data.prepare import duplicates, examine, held_out, order, output, steps, tokenise
from codegen_pax.data.prepare.settings import BucketCounts, Settings
from codegen_pax.data.prepare.steps import Report, Step, StepError
from codegen_pax.data.sources import storage
from codegen_pax.data.sources.partitions import Partition
from codegen_pax.data.sources.storage import File
from codegen_pax.errors import InvalidValueError, UserError
from codegen_pax.silent_imports import silenced

POLL_SECONDS = 0.5
TRACEBACK = "traceback.txt"  # in the work folder, for a failure that the user did not cause

EXAMINE = Step(examine.examine, examine.describe)
FIND_EXACT = Step(duplicates.find_exact, duplicates.describe)
FIND_NEAR_PAIRS = Step(duplicates.find_near_pairs, duplicates.describe)
TOKENISE = Step(tokenise.tokenise, tokenise.describe)
WRITE_BUCKET = Step(order.write_bucket, order.describe_bucket)
FINISH_SPLIT = Step(order.finish_split, order.describe_split)
DESCRIBE_INPUT = Step(output.describe_input, output.describe)

# Called with step -> bytes of the partitions that it has read.
OnProgress = Callable[[dict[str, int]], None]


class PrepareError(UserError):
    """The pipeline failed: the corpus is unfinished."""


class RunnerError(InvalidValueError):
    """Beam has no such runner, or cannot read its options."""


@dataclasses.dataclass(frozen=True)
class Survey:
    """The result of the first reading of all partitions.

    Attributes:
        report: the merged reports.
        faulty: source -> description, of inputs that are damaged or mostly unreadable.
        num_buckets: number of buckets of each split of a part.
    """

    report: Report
    faulty: dict[str, str]
    num_buckets: BucketCounts


def survey(report: Report, settings: Settings) -> Survey:
    """Decide from the first reading how documents are shuffled.

    Raises:
        InvalidValueError: The inputs cannot be read, see `output.faulty_inputs`.
    """
    faulty = output.faulty_inputs(report.damaged, settings.corpus, report.records)
    num_buckets = {key: settings.num_buckets(size) for key, size in report.sizes.items()}
    return Survey(report, faulty, num_buckets)


SURVEY = Step(survey, lambda _: "the reports of all partitions")


class Workers(Protocol):
    """Something that applies a step to many elements."""

    def start(self, step: Step, elements: Iterable, *arguments: Any) -> Callable[[], list]:
        """Begin `step.run(element, *arguments)` for each; return a function that awaits results."""


def run_steps(
    workers: Workers, settings: Settings, inputs: Sequence[File], partitions: Sequence[Partition]
) -> None:
    """Run every step; the last writes `output.RESULT` in the work folder."""

    def apply(step: Step, elements: Iterable, *arguments: Any) -> list:
        return workers.start(step, elements, *arguments)()

    wait_for_examined = workers.start(EXAMINE, partitions, settings)
    wait_for_inputs = workers.start(DESCRIBE_INPUT, inputs, settings.corpus)
    examined = wait_for_examined()
    first = survey(steps.merge_reports(one.report for one in examined), settings)

    digests = _group(pair for one in examined for pair in one.digests)
    dropped = [pair for pairs in apply(FIND_EXACT, digests, settings) for pair in pairs]
    if settings.near_duplicates:
        bands = _group(pair for one in examined for pair in one.bands)
        pairs_files = apply(FIND_NEAR_PAIRS, bands, settings)
        dropped += duplicates.find_near(pairs_files, settings)

    drops = dict(_group(dropped))
    with_drops = [(partition, drops.get(partition.number, [])) for partition in partitions]
    tokenised = apply(TOKENISE, with_drops, settings, first.num_buckets)
    totals = held_out.merge_totals((one.totals for one in tokenised), settings)
    extra = held_out.extra_key_ranges(totals, settings)

    buckets = _group(pair for one in tokenised for pair in one.blocks)
    written = apply(WRITE_BUCKET, buckets, settings, first.num_buckets, extra)
    results = _group(pair for pairs in written for pair in pairs)
    splits = apply(FINISH_SPLIT, results, settings, first.num_buckets, extra)
    reports = [first.report, *(one.report for one in tokenised)]
    output.write_result(settings, reports, first.faulty, splits, wait_for_inputs())


def _group(pairs: Iterable[tuple[Any, Any]]) -> list[tuple[Any, list]]:
    """Return (key, its values) for each key, sorted."""
    groups: dict[Any, list] = collections.defaultdict(list)
    for key, value in pairs:
        groups[key].append(value)
    return sorted(groups.items())


def build_beam(
    pipeline: Any, settings: Settings, inputs: Sequence[File], partitions: Sequence[Partition]
) -> None:
    """Put the steps of `run_steps` into a `beam.Pipeline`."""
    import apache_beam as beam
    from apache_beam.pvalue import AsList, AsSingleton

    spread = (
        pipeline
        | "Partitions" >> beam.Create(list(partitions))
        | "SpreadPartitions" >> beam.Reshuffle()
    )
    described = (
        pipeline
        | "Inputs" >> beam.Create(list(inputs))
        | "SpreadInputs" >> beam.Reshuffle()
        | "DescribeInput" >> beam.Map(DESCRIBE_INPUT.run, settings.corpus)
    )
    examined = spread | "Examine" >> beam.Map(EXAMINE.run, settings)
    first = (
        examined
        | "ExamineReport" >> beam.Map(lambda one: one.report)
        | "ExamineReports" >> beam.CombineGlobally(steps.merge_reports)
        | "Survey" >> beam.Map(SURVEY.run, settings)
    )
    num_buckets = AsSingleton(first | "NumBuckets" >> beam.Map(lambda one: one.num_buckets))

    dropped = [
        examined
        | "Digests" >> beam.FlatMap(lambda one: one.digests)
        | "ByDigest" >> beam.GroupByKey()
        | "FindExact" >> beam.FlatMap(FIND_EXACT.run, settings)
    ]
    if settings.near_duplicates:
        dropped.append(
            examined
            | "Bands" >> beam.FlatMap(lambda one: one.bands)
            | "ByBand" >> beam.GroupByKey()
            | "FindNearPairs" >> beam.Map(FIND_NEAR_PAIRS.run, settings)
            | "ToOneWorker" >> beam.Map(lambda path: (None, path))
            | "AllPairs" >> beam.GroupByKey()
            | "FindNear" >> beam.FlatMap(lambda keyed: duplicates.find_near(keyed[1], settings))
        )

    tokenised = (
        (
            spread | "ByPartition" >> beam.Map(lambda one: (one.number, one)),
            dropped | "Dropped" >> beam.Flatten(),
        )
        | "WithDrops" >> beam.CoGroupByKey()
        | "PartitionAndDrops" >> beam.Map(lambda keyed: (keyed[1][0][0], keyed[1][1]))
        | "Tokenise" >> beam.Map(TOKENISE.run, settings, num_buckets)
    )
    extra = AsSingleton(
        tokenised
        | "Totals" >> beam.Map(lambda one: one.totals)
        | "AllTotals" >> beam.CombineGlobally(held_out.merge_totals, settings)
        | "ExtraKeyRanges" >> beam.Map(held_out.extra_key_ranges, settings)
    )
    splits = (
        tokenised
        | "Blocks" >> beam.FlatMap(lambda one: one.blocks)
        | "ByBucket" >> beam.GroupByKey()
        | "WriteBucket" >> beam.FlatMap(WRITE_BUCKET.run, settings, num_buckets, extra)
        | "BySplit" >> beam.GroupByKey()
        | "FinishSplit" >> beam.Map(FINISH_SPLIT.run, settings, num_buckets, extra)
    )
    reports = tokenised | "TokeniseReport" >> beam.Map(lambda one: one.report)
    _ = first | "WriteResult" >> beam.Map(
        lambda first, reports, splits, described: output.write_result(
            settings, [first.report, *reports], first.faulty, splits, described
        ),
        AsList(reports),
        AsList(splits),
        AsList(described),
    )


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
                _run_beam(settings, inputs, partitions, [f"--runner={runner}", *options])
            elif workers == 1:
                run_steps(_ThisProcess(), settings, inputs, partitions)
            else:
                with _Processes(workers) as processes:
                    run_steps(processes, settings, inputs, partitions)
    except _WorkerDiedError as error:
        raise _failed(settings, f"{error}{_being_read(settings, partitions)}", error) from error
    except (UserError, OSError) as error:
        raise _failed(settings, str(error), error) from error


def _failed(settings: Settings, message: str, error: Exception) -> PrepareError:
    """Return the error of a failed pipeline; the traceback of a defect is written to a file."""
    where = ""
    if isinstance(error, StepError) and error.is_defect:
        path = settings.work_folder / TRACEBACK
        with contextlib.suppress(OSError):  # the disk may be full
            steps.write(path, "".join(traceback.format_exception(error)).encode())
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
            for (step, _), num_bytes in steps.read_progress(settings).items():
                total[step] += num_bytes
            on_progress(dict(total))

    thread = threading.Thread(target=report, daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_done.set()
        thread.join()


def _being_read(settings: Settings, partitions: Sequence[Partition]) -> str:
    """Say which inputs were being read; '' if that is unknown."""
    by_number = {partition.number: partition for partition in partitions}
    sources = {
        storage.escape_path(by_number[number].source)
        for (_, number), num_bytes in steps.read_progress(settings).items()
        if num_bytes < by_number[number].size
    }
    return f", while it read {' or '.join(sorted(sources))}" if sources else ""


class _ThisProcess:
    """Applies steps in this process."""

    def start(self, step: Step, elements: Iterable, *arguments: Any) -> Callable[[], list]:
        return lambda: [step.run(element, *arguments) for element in elements]


class _WorkerDiedError(UserError):
    """A worker process ended before its work was done."""


class _Processes:
    """Applies steps in processes of this machine; none of them outlives the block."""

    def __init__(self, count: int):
        self._others = set(multiprocessing.active_children())
        self._processes: set[multiprocessing.process.BaseProcess] = set()
        self._executor = futures.ProcessPoolExecutor(
            count, multiprocessing.get_context("spawn"), initializer=_exit_with_parent
        )

    def __enter__(self) -> _Processes:
        return self

    def __exit__(self, kind, error, trace) -> None:
        del error, trace
        if kind:  # failed or interrupted: do not wait for running workers
            for process in multiprocessing.active_children():
                if process not in self._others:
                    process.kill()
        self._executor.shutdown(cancel_futures=True)

    def start(self, step: Step, elements: Iterable, *arguments: Any) -> Callable[[], list]:
        with _environment_of_workers():
            started = [self._executor.submit(step.run, element, *arguments) for element in elements]
        self._processes |= set(multiprocessing.active_children()) - self._others

        def wait() -> list:
            done, _ = futures.wait(started, return_when=futures.FIRST_EXCEPTION)
            errors = [error for one in done if (error := one.exception())]
            if errors:
                raise next((one for one in errors if isinstance(one, StepError)), None) or (
                    self._describe(errors[0])
                )
            return [one.result() for one in started]

        return wait

    def _describe(self, error: BaseException) -> BaseException:
        if not isinstance(error, BrokenProcessPool):
            return error
        self._executor.shutdown()  # so that all statuses are known
        statuses = {process.exitcode for process in self._processes if process.exitcode}
        # The executor terminates the other workers when one has died.
        status = min(statuses - {-signal.SIGTERM} or statuses, default=0)
        how = f"signal {-status}: out of memory?" if status < 0 else f"status {status}"
        return _WorkerDiedError(f"a worker process was ended from outside ({how})")


@contextlib.contextmanager
def _environment_of_workers() -> Iterator[None]:
    """Set the environment that workers inherit, for a block that starts them.

    Workers block the interrupt of the terminal, which all processes get, so that only the command
    handles it. They do not import modules from the current folder, which may hold a `socket.py`.
    """
    before = os.environ.get("PYTHONSAFEPATH")
    os.environ["PYTHONSAFEPATH"] = "1"
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        if before is None:
            del os.environ["PYTHONSAFEPATH"]
        else:
            os.environ["PYTHONSAFEPATH"] = before


def _exit_with_parent() -> None:
    """End this worker when the command has ended in any way; else it would wait forever."""

    def wait() -> None:
        parent = multiprocessing.parent_process()
        if parent:
            multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def check_runner(runner: str, options: Sequence[str]) -> None:
    """Check that Beam knows a runner and can read the options that it knows.

    Raises:
        RunnerError: Beam does not know the runner, or cannot read an option.
    """
    with silenced():
        from apache_beam.options.pipeline_options import PipelineOptions
        from apache_beam.runners.runner import create_runner
    usage = io.StringIO()
    try:
        with contextlib.redirect_stderr(usage):
            create_runner(runner)
            PipelineOptions(list(options)).get_all_options()
    except SystemExit:  # argparse has printed why
        raise RunnerError(usage.getvalue().strip().rpartition("error: ")[2]) from None
    except (ValueError, ImportError, AttributeError) as error:
        raise RunnerError(f"--runner: {error}") from error


def _run_beam(
    settings: Settings,
    inputs: Sequence[File],
    partitions: Sequence[Partition],
    options: Sequence[str],
) -> None:
    """Run the pipeline by Beam.

    Raises:
        StepError: The pipeline failed.
    """
    with silenced():
        import apache_beam as beam
        from apache_beam.options.pipeline_options import PipelineOptions
    try:
        with beam.Pipeline(options=PipelineOptions(list(options))) as pipeline:
            build_beam(pipeline, settings, inputs, partitions)
    except Exception as error:
        raise StepError(_beam_message(error), is_defect=True) from error


def _beam_message(error: Exception) -> str:
    """Describe an error of Beam in one line; a runner reports the error of a step as text."""
    lines = "".join(traceback.format_exception_only(error)).strip().splitlines()
    name = f"{StepError.__name__}: "
    messages = [line.partition(name)[2] for line in lines if name in line]
    if messages:
        return messages[-1]
    return lines[-1] if "Traceback (most recent call last):" in lines else " ".join(lines)
