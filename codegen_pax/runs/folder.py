"""Whether a run's folder can be written to, and has room for what the run saves there."""

from __future__ import annotations

import math
import os
import shutil
from pathlib import Path

from etils import epath

from codegen_pax.errors import InvalidValueError
from codegen_pax.names import counted
from codegen_pax.runs import lineage

# What Pax stores of a parameter: the weight and Adam's two moments, in float32.
CHECKPOINT_BYTES = 12
# Of moments that are still zero tensorstore stores nothing.
FIRST_CHECKPOINT_BYTES = 4


def check_writable(job: epath.PathLike) -> None:
    """Refuses a folder that cannot be made or written to. Makes nothing; a bucket is not asked.

    Raises:
      ValueError: there is a file of this name or above it, or this user may not write there.
    """
    if "://" in os.fspath(job):
        return
    there = _nearest(job)
    if not there.is_dir():
        raise InvalidValueError(f"{job} cannot be a run's folder: {there} is no folder")
    if not os.access(there, os.W_OK | os.X_OK):
        raise InvalidValueError(f"{job} cannot be written to: {there} is closed to this user")


def checkpoints_to_come(first: int | None, steps: int, interval: int) -> int:
    """How many checkpoints a run saves from here on.

    Args:
      first: the step of its newest checkpoint; None if it has none, and Pax saves step 0 too.
      steps: of the whole run; the last is saved in any case.
      interval: between two.
    """
    done = first or 0
    if steps <= done:
        return 0
    between = range((done // interval + 1) * interval, steps, interval)
    return len(between) + 1 + (first is None)


def check_room(
    job: epath.PathLike, *, parameters: int, steps: int, interval: int, kept: int
) -> str:
    """Refuses a disk that would be full before the run ends.

    A checkpoint is 12 bytes a parameter, the one before the first step 4. Pax keeps the newest
    `kept`, and the first; and writes one before it removes another. (It keeps one every twelve
    hours besides, which is not counted: how long a run takes is not known here.)

    Args:
      job: the run's folder, there or not.
      parameters: that are trained.
      steps: of the whole run.
      interval: steps between two checkpoints.
      kept: how many of the newest stay.

    Returns:
      What is needed and what there is, in words; '' of a bucket, or if nothing is to be saved.

    Raises:
      ValueError: there is less room than is needed.
    """
    if "://" in os.fspath(job):
        return ""
    there = list(lineage.steps(job))
    first = not there
    to_come = checkpoints_to_come(max(there, default=None), steps, interval)
    if not to_come:
        return ""
    more = max(1, min(to_come, kept + 2 - len(there)))
    needed = parameters * (first * FIRST_CHECKPOINT_BYTES + (more - first) * CHECKPOINT_BYTES)
    free = shutil.disk_usage(_nearest(job)).free
    if needed > free:
        raise InvalidValueError(
            f"{job}: the disk has {gigabytes(free)} free; wanted {gigabytes(needed)}, for "
            f"{counted(more, 'more checkpoint')} at a time of up to "
            f"{gigabytes(parameters * CHECKPOINT_BYTES)} each "
            f"({parameters:,} parameters of {CHECKPOINT_BYTES} bytes): make room, or save fewer "
            "(train.save_max_to_keep of a task of your own)"
        )
    return (
        f"{gigabytes(needed)} of {gigabytes(free)} free are enough for "
        f"{counted(more, 'checkpoint')}"
    )


def gigabytes(size: float) -> str:
    """`'4.28 GB'`; of less than 10 MB, megabytes."""
    return f"{size / 1e9:.2f} GB" if size >= 1e7 else f"{math.ceil(size / 1e4) / 100:.2f} MB"


def _nearest(job: epath.PathLike) -> Path:
    """The folder, or the nearest above it that is there."""
    path = Path(job).absolute()
    return next(place for place in (path, *path.parents) if place.exists())
