"""A run's checkpoints: checksums for each that is saved, and a look before one is restored.

Pax tells the training input when a checkpoint is being saved, and nobody when it is whole. So each
host has a thread that waits for that, reads back the host's part of the files, which the machine
mostly still has in memory, and writes down their checksums (`weights.checksums`). What a run that
was killed could not do is done by the next one, for the newest checkpoint, and marked as later.
"""

from __future__ import annotations

import atexit
import os
import queue
import threading
import time

import jax
import numpy as np
from absl import logging
from etils import epath
from jax.experimental import multihost_utils

from codegen_pax.runs import checksums, job_lock, lineage

# Of a checkpoint's files those that Pax restores; a receipt that is missing keeps nobody from it.
RESTORED = (f"{lineage.STATE}/", "metadata/", "train_input/")
WEIGHTS = f"{lineage.STATE}/{lineage.WEIGHTS}"

_UNFINISHED = ".orbax-checkpoint-tmp"  # in the name of a checkpoint's folder until it is whole
_LOOK_SECONDS = 0.5
_NICER = 10  # of the thread, than the run is: a step goes first
_LEAST_URGENT = 19  # of Linux
_PARTS = tuple[tuple[int, int], ...]


def follow() -> None:
    """From now on this process refuses to save in a directory that another run has taken, and gives
    its checksums to each checkpoint that it saves.
    """
    from codegen_pax.data.stream import training  # TensorFlow; `check` needs none of it

    training.on_save[:] = [lambda folder: job_lock.check_held(folder.parent.parent), is_saved]


def is_saved(checkpoint: epath.PathLike) -> None:
    """Sees to it that a checkpoint that is being saved gets this host's checksums when it is whole.

    Args:
      checkpoint: `<job>/checkpoints/checkpoint_<step>`, whatever it is called while unfinished.
    """
    folder = epath.Path(checkpoint)
    whole = folder.parent / folder.name.partition(_UNFINISHED)[0]
    if whole.parent.name == lineage.CHECKPOINTS:
        _writer().add(whole, ((jax.process_index(), jax.process_count()),), later=False)


def complete(job: epath.PathLike) -> None:
    """Begins to write what the newest checkpoint lacks of checksums.

    Each host of a run that goes on from it calls this, and does a share.
    """
    step = lineage.last_step(job)
    if step is None:
        return
    checkpoint = lineage.checkpoint(job, step)
    known = checksums.read(checkpoint)
    hosts, own = jax.process_count(), jax.process_index()
    missing = known.missing if known else tuple((part, hosts) for part in range(hosts))
    if mine := tuple(one for one in missing if one[0] % hosts == own):
        _writer().add(checkpoint, mine, later=True)


def check(checkpoint: epath.PathLike | None, prefix: str | tuple[str, ...] = RESTORED) -> None:
    """Refuses a checkpoint that would be restored otherwise than it was saved.

    Looks whether every chunk is there, with its size; each host looks at its share, and so each has
    to call it.

    Args:
      checkpoint: its folder; None if this host finds none.
      prefix: which of its files will be read: those whose names begin with it, or with one of it.

    Raises:
      checksums.DamagedCheckpointError: it is damaged; raised on every host.
    """
    hosts = jax.process_count()
    found: list[str] = []
    error: checksums.DamagedCheckpointError | None = None
    try:
        if checkpoint is not None:
            share = (jax.process_index(), hosts)
            found = checksums.problems(checkpoint, prefix=prefix, share=share)
    except checksums.DamagedCheckpointError as raised:
        error = raised
    bad = np.int32(bool(found or error))
    if hosts > 1:
        others = np.flatnonzero(multihost_utils.process_allgather(bad)).tolist()
        found = found or [f"host {host} found what is wrong" for host in others]
    if error:
        raise error
    if found:
        raise checksums.damaged(checkpoint or "the checkpoint", found)


class _Writer:
    """The thread that writes checksums, one checkpoint after another."""

    def __init__(self):
        self._waiting: queue.SimpleQueue[tuple[epath.Path, _PARTS, bool] | None]
        self._waiting = queue.SimpleQueue()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._work, name="checksums", daemon=True)
        self._thread.start()
        # Python waits for the threads that save before it comes to this.
        atexit.register(self.finish)

    def add(self, checkpoint: epath.Path, parts: _PARTS, *, later: bool) -> None:
        self._waiting.put((checkpoint, parts, later))

    def finish(self) -> None:
        """Does what is left to do; of a checkpoint that has not become whole there is nothing."""
        self._end.set()
        self._waiting.put(None)
        self._thread.join()

    def _work(self) -> None:
        thread = threading.get_native_id()  # of Linux: the niceness of this thread alone
        niceness = os.getpriority(os.PRIO_PROCESS, thread) + _NICER
        os.setpriority(os.PRIO_PROCESS, thread, min(niceness, _LEAST_URGENT))
        while found := self._waiting.get():
            checkpoint, parts, later = found
            try:
                if self._becomes_whole(checkpoint) and not self._is_behind():
                    _write(checkpoint, parts, later)
            except Exception as error:  # whatever a file system raises: the run goes on without
                if checkpoint.exists():  # and was not removed to make room for newer ones
                    logging.warning("%s has no checksums from this host: %s", checkpoint, error)

    def _becomes_whole(self, checkpoint: epath.Path) -> bool:
        while not (checkpoint.is_dir() and lineage.step_of(checkpoint) is not None):
            # The next one is saved only when this one is whole, or will never be.
            if self._end.is_set() or self._is_behind():
                return checkpoint.is_dir() and lineage.step_of(checkpoint) is not None
            self._end.wait(_LOOK_SECONDS)
        return True

    def _is_behind(self) -> bool:
        """Whether a newer one is waiting: Pax may be about to remove this one."""
        return not self._end.is_set() and not self._waiting.empty()


def _write(checkpoint: epath.Path, parts: _PARTS, later: bool) -> None:
    begun = time.monotonic()
    # Threads cannot be started when Python is about to end; there is time.
    sizes = [checksums.write(checkpoint, part, of, later=later, threads=1) for part, of in parts]
    logging.info(
        "%s: checksums of %.2f GB in %.1f s",
        checkpoint,
        sum(sizes) / 1e9,
        time.monotonic() - begun,
    )


_made: list[_Writer] = []


def _writer() -> _Writer:
    if not _made:
        _made.append(_Writer())
    return _made[0]
