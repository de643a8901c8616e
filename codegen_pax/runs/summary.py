"""The results of a run: its losses from TensorBoard events, a curve of them, and a few numbers."""

from __future__ import annotations

import dataclasses
import json
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # draws to a file, without a window

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from praxis import base_hyperparams
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from tensorboard.util import tensor_util

from codegen_pax.data import TRAIN, VALIDATION, entropy
from codegen_pax.data.stream import inputs
from codegen_pax.errors import MissingFileError
from codegen_pax.runs import completions, utilisation
from codegen_pax.text import tokenizer
from codegen_pax.text.vocabulary import vocabulary

LOSS_CURVE = "loss_curve.png"
COMPLETIONS = "completions.txt"
SUMMARY = "summary.json"

# Tags of Pax. The first is cross-entropy in nats a predicted token, without the z-loss.
CROSS_ENTROPY = "Metrics/log_pplx"
STEPS_PER_SECOND = "Steps/sec"

_MAX_MARKED = 40  # a curve of at most this many losses marks each: a single loss makes no line


@dataclasses.dataclass(frozen=True)
class Scalar:
    """A value of a tag of TensorBoard.

    Attributes:
        step: The training step.
        seconds: When it was written, since the epoch.
        value: The scalar.
    """

    step: int
    seconds: float
    value: float


def read_scalars(directory: Path, tag: str) -> list[Scalar]:
    """Reads all values of a tag from the event files of a directory, by step.

    A resumed run writes another file, and repeats the steps since its checkpoint. The newest value
    of each step counts.
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
    """Reads the cross-entropy of the training batches, in nats a token."""
    return read_scalars(job / "summaries" / "train", CROSS_ENTROPY)


def evaluation_losses(job: Path, mixture: str) -> list[Scalar]:
    """Reads the cross-entropy on the validation split of a mixture, in nats a token.

    Raises:
        FileNotFoundError: The job was never evaluated on it.
    """
    directories = sorted((job / "summaries").glob(f"eval_*{mixture}_validation"))
    if not directories:
        raise MissingFileError(
            f"{job} has no evaluation of {mixture}; found: "
            + (", ".join(p.name for p in sorted((job / "summaries").iterdir())) or "nothing")
        )
    return read_scalars(directories[-1], CROSS_ENTROPY)


@dataclasses.dataclass(frozen=True)
class Summary:
    """Losses and entropies in nats a predicted token, all over the same validation rows.

    Attributes:
        experiment: Its name.
        steps: Trained steps.
        tokens: Tokens read in training.
        validation_loss: The cross-entropy, without the z-loss.
        validation_tokens: The predicted tokens.
        validation_bytes: The bytes of their text: a loss a byte can be compared between
            vocabularies.
        unigram_entropy: That of the validation rows themselves (see `data.entropy`).
        bigram_entropy: The same for pairs of tokens.
        fitted_bigram: The cross-entropy of an interpolated bigram counted on the training split.
        first_validation_loss: The validation loss before the first step; None if it was not
            evaluated.
        tokens_per_second: The median over the run, without evaluations and checkpoints; None if it
            was too short to measure it without compilation.
        model_flops_utilisation: The median share of the peak, with attention counted whole (see
            `runs.utilisation`); None if it was not recorded.
        model_flops_utilisation_causal: The same with causal attention halved.
        input_wait_share: The mean share of the steps' time that the first host waited for its
            input; None if it was not recorded.
    """

    experiment: str
    steps: int
    tokens: int
    validation_loss: float
    validation_tokens: int
    validation_bytes: int
    unigram_entropy: float
    bigram_entropy: float
    fitted_bigram: float
    first_validation_loss: float | None
    tokens_per_second: float | None
    model_flops_utilisation: float | None
    model_flops_utilisation_causal: float | None
    input_wait_share: float | None

    def per_byte(self, loss: float) -> float:
        """Returns a loss on the validation rows in nats a byte of their text."""
        return loss * self.validation_tokens / self.validation_bytes


def summarise(
    job: Path,
    *,
    experiment: str,
    mixture: str,
    row_length: int,
    batch_tokens: int,
    vocab_size: int,
    vocabulary_name: str,
) -> Summary:
    """Writes the loss curve, the completions and the summary of a finished job into its directory.

    Args:
        job: The directory of a job that was trained, evaluated and decoded.
        experiment: Its name, for titles.
        mixture: The seqio mixture that it was evaluated on.
        row_length: T.
        batch_tokens: The tokens of a step.
        vocab_size: V.
        vocabulary_name: The vocabulary of its ids.

    Returns:
        The summary.

    Raises:
        FileNotFoundError: The job was not evaluated or not decoded.
    """
    training = training_losses(job)
    validation = evaluation_losses(job, mixture)
    train = job / "summaries" / "train"
    validation_rows = list(_rows(mixture, row_length, VALIDATION))
    empirical = entropy.empirical(validation_rows)
    training_rows = _rows(mixture, row_length, TRAIN)
    fitted = entropy.fitted(training_rows, validation_rows, vocab_size)
    first, last = validation[0], validation[-1]
    summary = Summary(
        experiment=experiment,
        steps=last.step,
        tokens=last.step * batch_tokens,
        validation_loss=last.value,
        validation_tokens=empirical.tokens,
        validation_bytes=_predicted_bytes(validation_rows, vocabulary_name),
        unigram_entropy=empirical.unigram,
        bigram_entropy=empirical.bigram,
        fitted_bigram=fitted.bigram,
        first_validation_loss=first.value if first.step == 0 else None,
        tokens_per_second=_over(train, utilisation.TOKENS_PER_SECOND, statistics.median)
        or _older_tokens_per_second(train, batch_tokens),
        model_flops_utilisation=_over(train, utilisation.MFU, statistics.median),
        model_flops_utilisation_causal=_over(train, utilisation.CAUSAL_MFU, statistics.median),
        input_wait_share=_over(train, utilisation.INPUT_WAIT, statistics.fmean),
    )
    write_loss_curve(
        job / LOSS_CURVE,
        f"{experiment}: {summary.steps:,} steps, {summary.tokens:,} tokens",
        training,
        validation,
        {
            "unigram entropy": empirical.unigram,
            "bigram of the training files": fitted.bigram,
            "bigram entropy": empirical.bigram,
        },
    )
    text = completions.render(completions.read_decoded(job), vocabulary(vocabulary_name).decode)
    _write(job / COMPLETIONS, text)
    _write(job / SUMMARY, json.dumps(dataclasses.asdict(summary), indent=2) + "\n")
    return summary


def _over(train: Path, tag: str, average: Callable[[Iterable[float]], float]) -> float | None:
    """Returns the average of a tag; None if it was not recorded."""
    values = [scalar.value for scalar in read_scalars(train, tag)]
    return average(values) if values else None


def _older_tokens_per_second(train: Path, batch_tokens: int) -> float | None:
    """Returns the median speed by Pax's own rate, which is all that older runs have."""
    # The first rate is since the program began, compilation included.
    rates = [scalar.value for scalar in read_scalars(train, STEPS_PER_SECOND)[1:]]
    return statistics.median(rates) * batch_tokens if rates else None


def _rows(mixture: str, row_length: int, split: str) -> Iterator[Mapping[str, np.ndarray]]:
    """Yields each batch of a split once, as an evaluation reads it."""
    config = inputs.evaluation_input(mixture, batch_size=64, row_length=row_length, split=split)
    rows = base_hyperparams.instantiate(config)
    while True:
        try:
            yield rows.get_next_padded()
        except StopIteration:
            return


def _predicted_bytes(batches: Iterable[Mapping[str, np.ndarray]], vocabulary_name: str) -> int:
    """Returns the bytes of the text of all positions with weight above 0."""
    lengths = np.asarray(tokenizer.byte_lengths(vocabulary_name))
    return sum(int(lengths[batch["labels"][batch["weights"] > 0]].sum()) for batch in batches)


def _write(path: Path, text: str) -> None:
    """Writes a file atomically."""
    unfinished = path.with_name(f"{path.name}.unfinished")
    unfinished.write_text(text)
    unfinished.rename(path)


def write_loss_curve(
    path: Path,
    title: str,
    training: Sequence[Scalar],
    validation: Sequence[Scalar],
    references: Mapping[str, float],
) -> None:
    """Writes a picture of losses over steps, atomically.

    Args:
        path: The PNG file.
        title: The title above the picture.
        training: Training losses, in nats a token: a line.
        validation: Validation losses, in nats a token: points.
        references: Entropies in nats a token, by name: dashed lines.
    """
    figure = draw_loss_curve(title, training, validation, references)
    unfinished = path.with_suffix(".unfinished.png")
    figure.savefig(unfinished)
    plt.close(figure)
    unfinished.rename(path)


def draw_loss_curve(
    title: str,
    training: Sequence[Scalar],
    validation: Sequence[Scalar],
    references: Mapping[str, float],
) -> Figure:
    """Draws the figure of `write_loss_curve`, which documents the arguments."""
    figure, axes = plt.subplots(figsize=(8, 4.5), dpi=120)
    axes.plot(
        [scalar.step for scalar in training],
        [scalar.value for scalar in training],
        linewidth=1,
        marker="." if len(training) <= _MAX_MARKED else None,
        label="training",
    )
    axes.plot(
        [scalar.step for scalar in validation],
        [scalar.value for scalar in validation],
        "o",
        color="tab:red",
        label="validation",
        zorder=4,  # above the names of the references
    )
    for name, value in references.items():
        axes.axhline(value, linestyle="--", linewidth=1, color="0.5")
        # Placed by the width of the axes, as the first step need not be 0.
        axes.text(
            0.99,
            value,
            f"{name} {value:.2f}",
            transform=axes.get_yaxis_transform(),
            horizontalalignment="right",
            verticalalignment="bottom",
            fontsize=8,
            bbox={"facecolor": "white", "alpha": 0.7, "edgecolor": "none", "pad": 1},
        )
    axes.set(title=title, xlabel="step", ylabel="cross-entropy, nats a token")
    axes.legend()
    axes.grid(alpha=0.3)
    figure.tight_layout()
    return figure
