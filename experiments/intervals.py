"""How often a run records its loss, saves, evaluates and decodes. Standard library only.

A run as long as the published ones does each after a fixed number of steps; a shorter one does it
as often as its length asks for, so that four steps tell as much of themselves as four hundred. What
is between does not matter to the first and the last step: those are recorded in any case, the
validation loss before the first step is there to compare with, and the last step is evaluated,
saved and decoded (`codegen_pax.runs.programs`, and Pax itself).
"""

from __future__ import annotations

from dataclasses import dataclass

# The steps of the shortest phase of the tables, Instruct: from there on intervals are fixed.
LONG = 3_000


@dataclass(frozen=True)
class Intervals:
    """Steps from one to the next.

    Attributes:
      record: loss, rate and speed, to the events and to the log.
      save: a checkpoint.
      evaluate: on every row of the held-out data.
      decode: the prompts.
      kept: how many of the newest checkpoints stay.
    """

    record: int
    save: int
    evaluate: int
    decode: int
    kept: int


def intervals(steps: int, embedded: bool) -> Intervals:
    """The intervals of a run.

    Args:
      steps: its length.
      embedded: whether it is of the size for a laptop (`sizes.Size.embedded`), which an evaluation
        or a decoding costs as long as a tenth of the run: once before it and once at its end.
    """
    record = 100 if steps >= LONG else max(1, steps // 30)
    # A checkpoint or an evaluation takes as long as several steps: at most one in ten.
    save = 1_000 if steps >= LONG else max(min(10, steps), steps // 4)
    if embedded:
        return Intervals(record=record, save=save, evaluate=steps, decode=steps, kept=2)
    return Intervals(record=record, save=save, evaluate=save, decode=save, kept=10)
