"""What a run came to: files to look at, and a few numbers."""

from __future__ import annotations

import dataclasses
import json
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from praxis import base_hyperparams

from codegen_pax.data import TRAIN, VALIDATION, entropy
from codegen_pax.data.stream import inputs
from codegen_pax.runs import completions, events
from codegen_pax.runs.loss_curve import draw_loss_curve

LOSS_CURVE = "loss_curve.png"
COMPLETIONS = "completions.txt"
SUMMARY = "summary.json"


@dataclasses.dataclass(frozen=True)
class Summary:
    """Losses and entropies in nats a predicted token, all over the same held-out rows.

    Attributes:
      experiment: its name.
      steps: trained.
      tokens: read in training.
      validation_loss: cross-entropy, without the z-loss.
      validation_tokens: that were predicted.
      unigram_entropy, bigram_entropy: of the held-out rows themselves (see `data/entropy.py`).
      fitted_bigram: cross-entropy of an interpolated bigram that was counted on all training files.
      first_validation_loss: the same before the first step; None of a run that had no such
        evaluation.
      tokens_per_second: median over the run; None if it was too short for one without compilation.
    """

    experiment: str
    steps: int
    tokens: int
    validation_loss: float
    validation_tokens: int
    unigram_entropy: float
    bigram_entropy: float
    fitted_bigram: float
    first_validation_loss: float | None
    tokens_per_second: float | None


def summarise(
    job: Path,
    *,
    experiment: str,
    mixture: str,
    row_length: int,
    batch_tokens: int,
    vocab_size: int,
    to_text: Callable[[Sequence[int]], str],
) -> Summary:
    """Reads a finished job, leaves curve, completions and summary in it, and returns the last.

    Args:
      job: directory of a job that was trained, evaluated and decoded.
      experiment: its name, for titles.
      mixture: the seqio mixture it was evaluated on.
      row_length: T.
      batch_tokens: tokens a step.
      vocab_size: V.
      to_text: from ids to text.

    Raises:
      FileNotFoundError: the job was not evaluated or not decoded.
    """
    training = events.training_losses(job)
    validation = events.evaluation_losses(job, mixture)
    rates = events.read_scalars(job / "summaries" / "train", events.STEPS_PER_SECOND)
    held_out_rows = list(_rows(mixture, row_length, VALIDATION))
    held_out = entropy.empirical(held_out_rows)
    counted = entropy.fitted(_rows(mixture, row_length, TRAIN), held_out_rows, vocab_size)
    first, last = validation[0], validation[-1]
    summary = Summary(
        experiment=experiment,
        steps=last.step,
        tokens=last.step * batch_tokens,
        validation_loss=last.value,
        validation_tokens=held_out.tokens,
        unigram_entropy=held_out.unigram,
        bigram_entropy=held_out.bigram,
        fitted_bigram=counted.bigram,
        first_validation_loss=first.value if first.step == 0 else None,
        # The first is of the steps since the program began, compilation included.
        tokens_per_second=statistics.median(scalar.value for scalar in rates[1:]) * batch_tokens
        if len(rates) > 1
        else None,
    )
    draw_loss_curve(
        job / LOSS_CURVE,
        f"{experiment}: {summary.steps} steps, {summary.tokens:,} tokens",
        training,
        validation,
        {
            "unigram entropy": held_out.unigram,
            "bigram of the training files": counted.bigram,
            "bigram entropy": held_out.bigram,
        },
    )
    text = completions.render(completions.read_decoded(job), to_text)
    _write(job / COMPLETIONS, text)
    _write(job / SUMMARY, json.dumps(dataclasses.asdict(summary), indent=2) + "\n")
    return summary


def _rows(mixture: str, row_length: int, split: str) -> Iterator[Mapping[str, np.ndarray]]:
    """Every batch of a split once, as an evaluation reads it."""
    config = inputs.evaluation_input(mixture, batch_size=64, row_length=row_length, split=split)
    rows = base_hyperparams.instantiate(config)
    while True:
        try:
            yield rows.get_next_padded()
        except StopIteration:
            return


def _write(path: Path, text: str) -> None:
    unfinished = path.with_name(f"{path.name}.unfinished")
    unfinished.write_text(text)
    unfinished.rename(path)
