"""The pipeline of steps, run by processes of this machine."""

from __future__ import annotations

import collections
import contextlib
import itertools
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent import futures
from concurrent.futures.process import BrokenProcessPool
from typing import Any, Protocol

from codegen_pax.data.prepare import examine, held_out, output, shuffle, stages
from codegen_pax.data.prepare.settings import Settings
from codegen_pax.data.prepare.stages import Survey
from codegen_pax.data.prepare.steps import Step, StepError
from codegen_pax.data.sources.partitions import Partition
from codegen_pax.data.sources.storage import File
from codegen_pax.errors import UserError


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

    wait_for_examined = workers.start(stages.EXAMINE, partitions, settings)
    others = stages.to_describe(inputs, partitions)
    wait_for_entries = workers.start(stages.DESCRIBE_INPUT, others, settings.corpus)
    first = stages.survey(examine.merge(wait_for_examined()), settings)

    drops = find_duplicates(workers, settings, first)
    with_drops = [(batch, drops.get(batch.number, [])) for batch in first.batches]
    tokenised = apply(stages.TOKENISE, with_drops, settings, first.num_buckets)
    totals = held_out.merge_totals((one.totals for one in tokenised), settings)
    extra = held_out.extra_key_ranges(totals, settings)

    segments = _flat(one.segments for one in tokenised)
    is_coarse = [shuffle.is_coarse(bucket, first.num_buckets) for bucket, _ in segments]
    coarse = _group(itertools.compress(segments, is_coarse))
    divisions = [one for keyed in coarse for one in shuffle.plan_divisions(keyed, settings)]
    divided = _flat(apply(stages.DIVIDE, divisions, settings, first.num_buckets))
    fine = itertools.compress(segments, (not one for one in is_coarse))
    buckets = _group(itertools.chain(fine, divided))
    written = apply(stages.WRITE_BUCKET, buckets, settings, first.num_buckets, extra)
    results = _group(_flat(written))
    splits = apply(stages.FINISH_SPLIT, results, settings, first.num_buckets, extra)
    reports = [first.report, *(one.report for one in tokenised)]
    entries = [*first.inputs, *wait_for_entries()]
    output.write_result(settings, reports, first.faulty, splits, entries)


def find_duplicates(workers: Workers, settings: Settings, first: Survey) -> dict[int, list]:
    """Return number of a batch -> segments of the documents that it drops."""

    def apply(step: Step, elements: Iterable, *arguments: Any) -> list:
        return workers.start(step, elements, settings, *arguments)()

    digests = _group(_flat(apply(stages.SORT_HASHES, first.digest_groups)))
    dropped = _flat(apply(stages.FIND_EXACT, digests, first.batches))
    if settings.near_duplicates:
        apply(stages.SIGN, first.chunks)
        bands = _group(_flat(apply(stages.SORT_HASHES, first.band_groups)))
        shared = apply(stages.FIND_SHARED, bands, first.band_groups)
        wanted = ((group, (one.number, part)) for one in shared for group, part in one.wanted)
        by_group = [(first.band_groups[number], several) for number, several in _group(wanted)]
        gathered = dict(_group(_flat(apply(stages.GATHER_SIGNATURES, by_group))))
        pairs = apply(stages.FIND_PAIRS, [(one, gathered.get(one.number, [])) for one in shared])
        dropped += stages.FIND_NEAR.run(pairs, settings, first.batches)
    return dict(_group(_flat(apply(stages.SORT_DROPS, _group(dropped), first.batches))))


def _flat(lists: Iterable[list]) -> list:
    return [one for several in lists for one in several]


def _group(pairs: Iterable[tuple[Any, Any]]) -> list[tuple[Any, list]]:
    """Return (key, its values) for each key, sorted."""
    groups: dict[Any, list] = collections.defaultdict(list)
    for key, value in pairs:
        groups[key].append(value)
    return sorted(groups.items())


class ThisProcess:
    """Applies steps in this process."""

    def start(self, step: Step, elements: Iterable, *arguments: Any) -> Callable[[], list]:
        """Return a function that runs the step, see `Workers`."""
        return lambda: [step.run(element, *arguments) for element in elements]


class WorkerDiedError(UserError):
    """A worker process ended before its work was done."""


class Processes:
    """Applies steps in processes of this machine; none of them outlives the block."""

    def __init__(self, count: int):
        self._others = set(multiprocessing.active_children())
        self._processes: set[multiprocessing.process.BaseProcess] = set()
        self._executor = futures.ProcessPoolExecutor(
            count, multiprocessing.get_context("spawn"), initializer=_exit_with_parent
        )

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, kind, error, trace) -> None:
        del error, trace
        if kind:  # failed or interrupted: do not wait for running workers
            for process in multiprocessing.active_children():
                if process not in self._others:
                    process.kill()
        self._executor.shutdown(cancel_futures=True)

    def start(self, step: Step, elements: Iterable, *arguments: Any) -> Callable[[], list]:
        """Send the elements to the processes, see `Workers`."""
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
        return WorkerDiedError(f"a worker process was ended from outside ({how})")


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
