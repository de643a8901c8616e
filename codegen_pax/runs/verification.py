"""Checks that the checkpoints of a job are as they were saved.

This happens on three occasions:

- When a checkpoint is saved, each host reads back its share of the files in a background thread
  (they are mostly still in memory), and writes their checksums. Pax tells the training input that a
  checkpoint is being saved, but not when it is complete, so the thread waits for that. If a run is
  killed before then, the next run writes the missing checksums of the newest checkpoint.
- Before a checkpoint is restored, `check_restored` compares the sizes of its files.
- On request (`codegen-pax verify`), `verify` reads all files of all checkpoints.
"""

from __future__ import annotations

import atexit
import concurrent.futures
import functools
import os
import queue
import shlex
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import jax
import numpy as np
from absl import logging
from etils import epath
from jax.experimental import multihost_utils

from codegen_pax.errors import MissingFileError, UserError
from codegen_pax.messages import counted
from codegen_pax.runs import checkpoints, checksums, job_lock, lineage
from codegen_pax.runs.checkpoint_arrays import count_not_finite

# Prefixes of the files of a checkpoint that Pax restores. A missing receipt does not stop a run.
RESTORED_FILES = (f"{checkpoints.STATE}/", "metadata/", f"{checkpoints.TRAIN_INPUT}/")
WEIGHT_FILES = f"{checkpoints.STATE}/{checkpoints.WEIGHT_PREFIX}"

_POLL_SECONDS = 0.5
_NICENESS = 10  # of the background thread, above that of the run: training steps go first
_MAX_NICENESS = 19  # of Linux
_READERS = 4  # threads that decompress arrays

_Shares = Sequence[tuple[int, int]]  # (host, hosts) of each


def watch_saves() -> None:
    """Makes this process act on each checkpoint that it saves from now on.

    It refuses to save if another run has taken the job directory, copies the receipt of the job
    into the checkpoint, and writes the checksums of a checkpoint once that is complete.
    """
    from codegen_pax.data.stream import training  # imports TensorFlow, which a check does not need

    training.on_save[:] = [
        lambda checkpoint: job_lock.check_held(checkpoints.job_of(checkpoint)),
        _copy_receipt,
        lambda checkpoint: background_writer().add_saved(checkpoint),
    ]


def _copy_receipt(checkpoint: epath.Path) -> None:
    if jax.process_index() == 0:
        lineage.copy_to(checkpoint)


def complete_checksums(job: epath.PathLike) -> None:
    """Begins to write the checksums that the newest checkpoint of a job lacks.

    Each host of a run that resumes from this checkpoint calls it, and writes a share.
    """
    background_writer().add_missing(job)


def check_restored(
    checkpoint: epath.PathLike | None, prefix: str | tuple[str, ...] = RESTORED_FILES
) -> None:
    """Checks, before a checkpoint is restored, that each chunk exists and has its size.

    Each host checks a share, so that all of them have to call this.

    Args:
        checkpoint: The directory of the checkpoint; None if this host finds none.
        prefix: The files to be restored: their names begin with it, or with one of a tuple.

    Raises:
        checksums.DamagedCheckpointError: The checkpoint is damaged; raised on every host.
        OSError: This host cannot read a file; the others raise DamagedCheckpointError.
    """
    hosts = jax.process_count()
    problems: list[str] = []
    error: Exception | None = None
    try:
        if checkpoint is not None:
            share = (jax.process_index(), hosts)
            problems = checksums.find_problems(checkpoint, prefix=prefix, share=share)
    except (checksums.DamagedCheckpointError, OSError) as raised:
        error = raised  # once the other hosts know: they would wait for this one
    is_damaged = np.int32(bool(problems or error))
    if hosts > 1:
        others = np.flatnonzero(multihost_utils.process_allgather(is_damaged)).tolist()
        problems = problems or [f"host {host} has found problems" for host in others]
    if error:
        raise error
    if problems:
        raise checksums.damaged_error(checkpoint or "the checkpoint", problems)


class ChecksumWriter:
    """Writes checksums in a background thread, one checkpoint after another."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[tuple[epath.Path, _Shares, bool] | None]
        self._queue = queue.SimpleQueue()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="checksums", daemon=True)
        self._thread.start()

    def add_saved(self, checkpoint: epath.PathLike) -> None:
        """Queues a checkpoint that is being saved, to write this host's checksums of it.

        Args:
            checkpoint: The directory of the checkpoint, by its present or its final name. One that
                is not below a job directory is left alone.
        """
        complete = checkpoints.complete_path(checkpoint)
        if checkpoints.is_below_job(complete):
            self._queue.put((complete, [(jax.process_index(), jax.process_count())], False))

    def add_missing(self, job: epath.PathLike) -> None:
        """Queues this host's share of the checksums that the newest checkpoint lacks."""
        step = checkpoints.last_step(job)
        if step is None:
            return
        checkpoint = checkpoints.path(job, step)
        known = checksums.read(checkpoint)
        host, hosts = jax.process_index(), jax.process_count()
        missing = known.missing if known else [(number, hosts) for number in range(hosts)]
        if shares := [share for share in missing if share[0] % hosts == host]:
            self._queue.put((checkpoint, shares, True))

    def finish(self) -> None:
        """Writes the remaining checksums, and ends; drops checkpoints that are still incomplete."""
        self._stop.set()
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        thread = threading.get_native_id()  # on Linux each thread has its own niceness
        niceness = os.getpriority(os.PRIO_PROCESS, thread) + _NICENESS
        os.setpriority(os.PRIO_PROCESS, thread, min(niceness, _MAX_NICENESS))
        while item := self._queue.get():
            checkpoint, shares, later = item
            try:
                if self._wait_until_complete(checkpoint) and not self._is_behind():
                    _write_checksums(checkpoint, shares, later)
            except Exception as error:  # any error of a file system: the run continues
                if checkpoint.exists():  # if not, it was removed to make room for newer ones
                    logging.warning("%s has no checksums from this host: %s", checkpoint, error)

    def _wait_until_complete(self, checkpoint: epath.Path) -> bool:
        """Returns False if the checkpoint will never be complete."""
        while not checkpoints.is_complete(checkpoint):
            # Pax saves the next checkpoint only when this one is complete, or has failed.
            if self._stop.is_set() or self._is_behind():
                return checkpoints.is_complete(checkpoint)
            self._stop.wait(_POLL_SECONDS)
        return True

    def _is_behind(self) -> bool:
        """Returns whether a newer checkpoint waits, so that Pax may be about to remove this one."""
        return not self._stop.is_set() and not self._queue.empty()


@functools.cache
def background_writer() -> ChecksumWriter:
    """Returns the writer of this process, which finishes before the process ends."""
    writer = ChecksumWriter()
    # Python waits for the threads that save a checkpoint before it calls this.
    atexit.register(writer.finish)
    return writer


def _write_checksums(checkpoint: epath.Path, shares: _Shares, later: bool) -> None:
    start = time.monotonic()
    # A process that is about to end cannot start threads, and there is no hurry.
    sizes = [
        checksums.write(checkpoint, host, hosts, later=later, threads=1) for host, hosts in shares
    ]
    seconds = time.monotonic() - start
    logging.info("%s: checksums of %.2f GB in %.1f s", checkpoint, sum(sizes) / 1e9, seconds)


@dataclass
class CheckpointReport:
    """The findings about a checkpoint.

    Attributes:
        step: Its step.
        folder: Its directory.
        checksums: 'when saved'; 'later', by another run than the one that saved it; 'in part', if
            those of a host are missing; 'none'.
        problems: What is wrong, a line each.
        notes: Remarks that are not problems, a line each.
    """

    step: int
    folder: str
    checksums: str = "none"
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass
class JobReport:
    """The findings about a job.

    Attributes:
        job: Its directory.
        checkpoints: Its complete checkpoints, the newest first.
        problems: What is wrong with the job itself, a line each.
        notes: Remarks that are not problems, a line each.
    """

    job: str
    checkpoints: list[CheckpointReport] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def good_step(self) -> int | None:
        """The newest step of a checkpoint without a problem; None if there is none."""
        return next((report.step for report in self.checkpoints if not report.problems), None)

    @property
    def is_good(self) -> bool:
        """Whether there is no problem at all."""
        return not self.problems and not any(report.problems for report in self.checkpoints)

    def how_to_go_on(self) -> list[str]:
        """Returns instructions for continuing the job, a line each."""
        good = self.good_step
        if good is None:
            return ["no checkpoint is good: start again, or from a copy of the job"]
        newer = [report for report in self.checkpoints if report.step > good]
        if not newer:
            return [f"the same command as before goes on from step {good}"]
        move = ["gcloud", "storage", "mv"] if "://" in self.job else ["mv"]
        moves = [
            shlex.join([*move, report.folder, f"{self.job}/damaged_{report.step}"])
            for report in newer
        ]
        return [
            f"Pax restores the newest checkpoint: to go on from step {good}, move what is newer",
            *moves,
            "and give the same command as before",
        ]


def verified_bytes(job: epath.PathLike) -> int:
    """Returns how many bytes `verify` reads of a job: those of arrays count twice."""
    paths = (checkpoints.path(job, step) for step in checkpoints.complete_steps(job))
    sizes = [entry for path in paths for entry in checksums.file_sizes(path).items()]
    return sum(size * (1 + name.startswith(f"{checkpoints.STATE}/")) for name, size in sizes)


def verify(job: epath.PathLike, on_bytes: Callable[[int], None] = lambda _: None) -> JobReport:
    """Reads all checkpoints of a job.

    Args:
        job: The job directory, local or a URL.
        on_bytes: Called with the bytes of each file that was checked, from any thread.

    Raises:
        FileNotFoundError: There is no such directory.
        OSError: A file cannot be read.
    """
    job = epath.Path(job)
    if not job.is_dir():
        raise MissingFileError(f"{job} is not a directory; expected a job directory")
    report = JobReport(str(job), problems=_receipt_problems(job))
    if holder := job_lock.read_holder(job):
        report.notes.append(
            f"{holder.get('experiment')} trains in it, if process {holder.get('pid')} on "
            f"{holder.get('host')} is alive: the newest checkpoint may not be complete yet"
        )
    if incomplete := checkpoints.incomplete(job):
        report.notes.append(f"incomplete, and ignored by Pax: {', '.join(incomplete)}")
    steps = [*checkpoints.complete_steps(job)]
    if not steps:
        report.problems.append("there is no complete checkpoint")
    for step in steps:
        checkpoint = checkpoints.path(job, step)
        try:
            result = _verify_checkpoint(checkpoint, step, on_bytes)
        except FileNotFoundError as error:
            result = CheckpointReport(step, str(checkpoint), problems=[str(error)])
        if checkpoint.exists():  # a run that trains removes its old checkpoints
            report.checkpoints.append(result)
    return report


def _verify_checkpoint(
    checkpoint: epath.Path, step: int, on_bytes: Callable[[int], None]
) -> CheckpointReport:
    report = CheckpointReport(step, str(checkpoint))
    sizes: dict[str, int] = {}
    weights: Mapping[str, object] = {}
    try:
        known = checksums.read(checkpoint)
        if known is not None:
            report.checksums = (
                "in part" if known.missing else "later" if known.later else "when saved"
            )
        if known is None or known.missing:
            report.notes.append(
                "no checksums: an older version saved it, or its run was killed too soon"
                if known is None
                else "the checksums of some hosts are missing: the run was killed too soon"
            )
        report.problems += checksums.find_problems(checkpoint, contents=True, on_bytes=on_bytes)
        sizes = checksums.file_sizes(checkpoint)
        report.problems += _additional_files(sizes, known)
    except checksums.DamagedCheckpointError as error:
        report.problems.append(str(error))
    try:
        weights = checkpoints.weight_shapes(checkpoint)
    except UserError as error:
        report.problems.append(str(error).removeprefix(f"{checkpoint}/"))
    report.problems += _receipt_problems(checkpoint)
    if not report.problems:
        report.problems += _missing_weights(checkpoint, weights)
        report.problems += _array_problems(checkpoint, sizes, on_bytes)
    # A file may be reported twice, for its checksum and for its content.
    report.problems = [*dict.fromkeys(report.problems)]
    return report


def _additional_files(sizes: Mapping[str, int], known: checksums.Checksums | None) -> Iterator[str]:
    """Yields files of arrays that were not saved: an additional chunk would be read."""
    if known is None or known.missing:
        return
    for name in sizes:
        if name.startswith(f"{checkpoints.STATE}/") and name not in known.files:
            yield f"{name} was not saved with it"


def _receipt_problems(folder: epath.Path) -> list[str]:
    """Returns what is wrong with the receipt of a job or a checkpoint."""
    try:
        return [] if lineage.read(folder) else [f"{lineage.FILE} is missing"]
    except UserError as error:
        return [str(error)]


def _missing_weights(checkpoint: epath.Path, weights: Mapping[str, object]) -> list[str]:
    """Returns the weights of the metadata whose arrays are missing."""
    state = checkpoint / checkpoints.STATE
    present = {entry.name for entry in state.iterdir()}
    arrays = sorted(f"{checkpoints.WEIGHT_PREFIX}{name}" for name in weights)
    return [f"{checkpoints.STATE}/{name} is missing" for name in arrays if name not in present]


def _array_problems(
    checkpoint: epath.Path, sizes: Mapping[str, int], on_bytes: Callable[[int], None]
) -> list[str]:
    """Returns the arrays that cannot be decompressed, or hold numbers that are not finite."""

    def problem(array: epath.Path) -> str | None:
        name = f"{checkpoints.STATE}/{array.name}"
        try:
            count = count_not_finite(array)
        except (OSError, ValueError) as error:
            return f"{name} cannot be read: {error}"
        on_bytes(sum(size for file, size in sizes.items() if file.startswith(f"{name}/")))
        return f"{name} has {counted(count, 'number')} not finite" if count else None

    # Orbax also keeps a file of its own there.
    arrays = [path for path in (checkpoint / checkpoints.STATE).iterdir() if path.is_dir()]
    with concurrent.futures.ThreadPoolExecutor(_READERS) as pool:
        return sorted(filter(None, pool.map(problem, arrays)))
