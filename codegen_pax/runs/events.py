"""Reads the TensorBoard events that a run of Pax leaves."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from tensorboard.util import tensor_util

from codegen_pax.errors import MissingFileError

# Pax's tags, and what they are: cross-entropy in nats a predicted token, without the z-loss.
CROSS_ENTROPY = "Metrics/log_pplx"
STEPS_PER_SECOND = "Steps/sec"


@dataclass(frozen=True)
class Scalar:
    """One value of one tag.

    Attributes:
      step: of training.
      seconds: when it was written, since the epoch.
      value: the scalar.
    """

    step: int
    seconds: float
    value: float


def read_scalars(directory: Path, tag: str) -> list[Scalar]:
    """Every value of `tag` in the event files of one directory, by step; the newest of each step.

    A resumed run writes a file of its own and repeats the steps since its checkpoint.
    """
    by_step: dict[int, Scalar] = {}
    for path in sorted(directory.glob("events.out.tfevents.*")):
        for event in EventFileLoader(str(path)).Load():
            for value in event.summary.value:
                if value.tag == tag:
                    number = float(tensor_util.make_ndarray(value.tensor))
                    by_step[event.step] = Scalar(event.step, event.wall_time, number)
    return [by_step[step] for step in sorted(by_step)]


def training_losses(job: Path) -> list[Scalar]:
    """Cross-entropy of the training batches, in nats a token."""
    return read_scalars(job / "summaries" / "train", CROSS_ENTROPY)


def evaluation_losses(job: Path, mixture: str) -> list[Scalar]:
    """Cross-entropy on the held-out files of `mixture`, in nats a token.

    Raises:
      FileNotFoundError: the job was never evaluated on it.
    """
    directories = sorted((job / "summaries").glob(f"eval_*{mixture}_validation"))
    if not directories:
        raise MissingFileError(
            f"{job} has no evaluation of {mixture}; found: "
            + (", ".join(p.name for p in sorted((job / "summaries").iterdir())) or "nothing")
        )
    return read_scalars(directories[-1], CROSS_ENTROPY)
