"""The checkpoints of a job: where they are, which are complete, and how much room the next need.

Pax saves a checkpoint in a directory of its own below the job directory (`--job_log_dir`):

    checkpoints/checkpoint_00000010/
        state/<array>/          one zarr array each, for the weights, the optimizer and the step
        metadata/metadata       JSON: the shapes of the weights
        train_input/            the position in the training data, a file for each host
        lineage.json            the receipt (`runs.lineage`)
        checksums-*.json        sizes and checksums of the files (`runs.checksums`)

No other module spells these names. Nothing of Pax, JAX or TensorStore is imported here, so that a
command can tell at once which checkpoints a job has.
"""

from __future__ import annotations

import json
import math
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from etils import epath

from codegen_pax.errors import InvalidValueError, MissingFileError
from codegen_pax.messages import counted

DIRECTORY = "checkpoints"  # in the job directory
STATE = "state"  # in a checkpoint, like the names below
METADATA = "metadata/metadata"
TRAIN_INPUT = "train_input"
# The weight `params.lm.final_ln.bias` is the array `state/mdl_vars.params.lm.final_ln.bias`.
WEIGHT_PREFIX = "mdl_vars."
# Object storage cannot rename a directory. There Orbax writes this file once a checkpoint is
# complete, and ignores a checkpoint without it.
COMMIT_FILE = "commit_success.txt"

# On a disk, the name of a checkpoint has this suffix, and more, until it is complete.
_TEMPORARY_SUFFIX = ".orbax-checkpoint-tmp"
_NAME = re.compile(r"checkpoint_(\d+)")

# Pax stores three float32 numbers for a parameter: the weight and Adam's two moments.
BYTES_PER_PARAMETER = 12
# Before the first step the moments are zero, and TensorStore stores no chunk that is zero.
FIRST_BYTES_PER_PARAMETER = 4


def directory(job: epath.PathLike) -> epath.Path:
    """Returns the directory of all checkpoints of a job, whether it exists or not."""
    return epath.Path(job) / DIRECTORY


def path(job: epath.PathLike, step: int) -> epath.Path:
    """Returns the directory of the checkpoint of a step, whether it exists or not."""
    return directory(job) / f"checkpoint_{step:08d}"


def job_of(checkpoint: epath.PathLike) -> epath.Path:
    """Returns the job directory of a checkpoint."""
    return epath.Path(checkpoint).parent.parent


def is_below_job(checkpoint: epath.PathLike) -> bool:
    """Returns whether a directory lies where a job has its checkpoints, complete or not."""
    return epath.Path(checkpoint).parent.name == DIRECTORY


def complete_path(checkpoint: epath.PathLike) -> epath.Path:
    """Returns the path that a checkpoint has once it is complete."""
    checkpoint = epath.Path(checkpoint)
    return checkpoint.parent / checkpoint.name.partition(_TEMPORARY_SUFFIX)[0]


def step_of(checkpoint: epath.PathLike) -> int | None:
    """Returns the step of a complete checkpoint by its name; None for any other directory."""
    checkpoint = epath.Path(checkpoint)
    match = _NAME.fullmatch(checkpoint.name)
    if not match or ("://" in str(checkpoint) and not (checkpoint / COMMIT_FILE).exists()):
        return None
    return int(match[1])


def is_complete(checkpoint: epath.PathLike) -> bool:
    """Returns whether a checkpoint exists and is complete."""
    return epath.Path(checkpoint).is_dir() and step_of(checkpoint) is not None


def complete_steps(job: epath.PathLike) -> Iterator[int]:
    """Yields the steps of the complete checkpoints of a job, the newest first.

    In object storage each step takes a request; a caller may stop early.
    """
    named = [entry for entry in _entries(job) if _NAME.fullmatch(entry.name)]
    for entry in sorted(named, key=lambda entry: int(entry.name.rpartition("_")[2]), reverse=True):
        if (step := step_of(entry)) is not None:
            yield step


def last_step(job: epath.PathLike) -> int | None:
    """Returns the step of the newest complete checkpoint of a job; None if it has none."""
    return next(complete_steps(job), None)


def incomplete(job: epath.PathLike) -> list[str]:
    """Returns the names of the other entries beside a job's complete checkpoints, sorted."""
    complete = {path(job, step).name for step in complete_steps(job)}
    return sorted(entry.name for entry in _entries(job) if entry.name not in complete)


def weight_directories(checkpoint: epath.PathLike) -> list[epath.Path]:
    """Returns the zarr directories of the weights of a checkpoint, sorted.

    Raises:
        FileNotFoundError: The checkpoint has no weights.
    """
    state = epath.Path(checkpoint) / STATE
    # A glob would also interpret brackets in the names of the directories above.
    entries = state.iterdir() if state.is_dir() else ()
    arrays = sorted(entry for entry in entries if entry.name.startswith(WEIGHT_PREFIX))
    if not arrays:
        raise MissingFileError(
            f"{checkpoint} holds no weights: expected zarr arrays named {STATE}/{WEIGHT_PREFIX}*"
        )
    return arrays


def weight_shapes(checkpoint: epath.PathLike) -> dict[str, tuple[int, ...]]:
    """Returns the name and the shape of each weight, as Pax' metadata of a checkpoint have them.

    Raises:
        FileNotFoundError: The metadata are missing.
        ValueError: They are damaged.
    """
    file = epath.Path(checkpoint) / METADATA
    if not file.exists():
        raise MissingFileError(f"{file} is missing")
    try:
        tree = json.loads(file.read_text())["train_state_metadata"]["mdl_vars"]
        return dict(_leaf_shapes(tree))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InvalidValueError(f"{file} is damaged: {error!r}") from error


def _leaf_shapes(
    tree: Mapping[str, Any], prefix: str = ""
) -> Iterator[tuple[str, tuple[int, ...]]]:
    for name, value in tree.items():
        if "unpadded_shape" in value:
            yield f"{prefix}{name}", tuple(value["unpadded_shape"])
        else:
            yield from _leaf_shapes(value, f"{prefix}{name}.")


def _entries(job: epath.PathLike) -> list[epath.Path]:
    folder = directory(job)
    return [*folder.iterdir()] if folder.is_dir() else []


def check_writable(job: epath.PathLike) -> None:
    """Raises ValueError if a job directory cannot be made, or is not writable for this user.

    It makes no directory, and accepts any URL without a request to object storage.
    """
    if "://" in os.fspath(job):
        return
    nearest = _nearest_existing(job)
    if not nearest.is_dir():
        raise InvalidValueError(f"{job} cannot be a job directory: {nearest} is not a directory")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise InvalidValueError(f"{job} is not writable: this user may not write to {nearest}")


def num_remaining(newest: int | None, steps: int, interval: int) -> int:
    """Returns how many checkpoints a run has still to save.

    Args:
        newest: The step of its newest checkpoint; None if it has none; Pax then saves step 0 too.
        steps: The steps of the whole run, after which Pax saves in any case.
        interval: The steps between two checkpoints.
    """
    done = newest or 0
    if steps <= done:
        return 0
    between = range((done // interval + 1) * interval, steps, interval)
    return len(between) + 1 + (newest is None)


def check_room(
    job: epath.PathLike, *, parameters: int, steps: int, interval: int, max_to_keep: int
) -> str:
    """Checks that the disk has room for the checkpoints of a run until it ends.

    A checkpoint takes 12 bytes a parameter, that of step 0 takes 4. Pax keeps the first and the
    newest `max_to_keep`, and writes a checkpoint before it removes another. (It also keeps one
    every twelve hours. Those are not counted, as the duration of a run is not known here.)

    Args:
        job: The job directory, whether it exists or not.
        parameters: The number of trained parameters.
        steps: The steps of the whole run.
        interval: The steps between two checkpoints.
        max_to_keep: How many of the newest checkpoints Pax keeps.

    Returns:
        The room needed and the room free, in words; '' for object storage, and if the run has
        nothing to save.

    Raises:
        ValueError: There is less room than is needed.
    """
    if "://" in os.fspath(job):
        return ""
    saved = list(complete_steps(job))
    remaining = num_remaining(max(saved, default=None), steps, interval)
    if not remaining:
        return ""
    first = not saved
    more = max(1, min(remaining, max_to_keep + 2 - len(saved)))
    needed = parameters * (first * FIRST_BYTES_PER_PARAMETER + (more - first) * BYTES_PER_PARAMETER)
    free = shutil.disk_usage(_nearest_existing(job)).free
    if needed > free:
        raise InvalidValueError(
            f"{job}: the disk has {_gigabytes(free)} free; expected {_gigabytes(needed)}, for "
            f"{counted(more, 'more checkpoint')} at a time of up to "
            f"{_gigabytes(parameters * BYTES_PER_PARAMETER)} each "
            f"({parameters:,} parameters of {BYTES_PER_PARAMETER} bytes): make room, or keep fewer "
            "checkpoints (train.save_max_to_keep, in a task of your own)"
        )
    return (
        f"{_gigabytes(needed)} of {_gigabytes(free)} free are enough for "
        f"{counted(more, 'checkpoint')}"
    )


def _gigabytes(size: float) -> str:
    """Formats a size as `'4.28 GB'`, or in megabytes below 10 MB."""
    return f"{size / 1e9:.2f} GB" if size >= 1e7 else f"{math.ceil(size / 1e4) / 100:.2f} MB"


def _nearest_existing(job: epath.PathLike) -> Path:
    """Returns the directory, or the nearest one above it that exists."""
    absolute = Path(job).absolute()
    return next(place for place in (absolute, *absolute.parents) if place.exists())
