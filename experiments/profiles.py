"""Profiles: on which data an experiment is run, for how long, and how often it reports.

The published sizes are run as the paper ran them; Nano is run so that a laptop's CPU finishes in
minutes. Standard library only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from experiments import checks

# The steps of the shortest phase of the tables, Instruct: intervals are fixed from there on.
LONG_RUN_STEPS = 3_000


class Data(StrEnum):
    """Which of a phase's two mixtures is read."""

    PREPARED = "prepared"  # `Phase.mixture`: a corpus that `codegen-pax prepare` wrote
    INSTALLED = "installed"  # `Phase.nano_mixture`: text that every machine has


class ComputeDtype(StrEnum):
    """The type of activations; weights are float32."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"


@dataclass(frozen=True)
class Budget:
    """The length of a phase, where its own is too long.

    Attributes:
        steps: Optimizer steps.
        warmup_steps: Steps of linear warm-up.

    Raises:
        ValueError: A number is not one of these.
    """

    steps: int
    warmup_steps: int

    def __post_init__(self):
        checks.integer("budget", "steps", self.steps)
        checks.count("budget", "warmup_steps", self.warmup_steps)


@dataclass(frozen=True)
class Intervals:
    """How often a run does what it does besides training.

    Attributes:
        record: Steps between records of loss, rate and speed in events and log.
        save: Steps between checkpoints.
        evaluate: Steps between evaluations on every held-out row.
        decode: Steps between decodings of the prompts.
        keep: How many of the newest checkpoints are kept.
    """

    record: int
    save: int
    evaluate: int
    decode: int
    keep: int


@dataclass(frozen=True)
class Profile:
    """How the experiments of a size are run.

    Attributes:
        name: 'published' or 'laptop'.
        data: Which of a phase's mixtures is read.
        budgets: Phase -> its length; an empty table leaves length and batch to the phase. A phase
            that is not in the table has the length of `default_phase`.
        default_phase: See `budgets`.
        compute_dtype: The type of activations.
        needs_start: Whether a later phase is refused that would start from random weights.
        evaluates_at_end_only: Whether a run is evaluated and decodes before its first step and
            after its last one alone.
        keep_checkpoints: How many of the newest checkpoints are kept.
        norm_summaries: Whether the norms of weights and updates are recorded.
    """

    name: str
    data: Data
    budgets: Mapping[str, Budget] = field(default_factory=dict)
    default_phase: str = "Mono"
    compute_dtype: ComputeDtype = ComputeDtype.BFLOAT16
    needs_start: bool = True
    evaluates_at_end_only: bool = False
    keep_checkpoints: int = 10
    norm_summaries: bool = True

    def budget(self, phase_name: str) -> Budget | None:
        """Returns the length of a phase; None if the phase's own holds."""
        if not self.budgets:
            return None
        return self.budgets.get(phase_name) or self.budgets[self.default_phase]

    def intervals(self, steps: int) -> Intervals:
        """Returns the intervals of a run of so many steps.

        A run as long as the published ones does each thing after a fixed number of steps; a shorter
        one as often as its length asks for, so that four steps show as much as four hundred. The
        first and the last step are recorded in any case, the loss is evaluated before the first
        step, and the last step is evaluated, saved and decoded (`codegen_pax.runs.programs`, and
        Pax itself).
        """
        record = 100 if steps >= LONG_RUN_STEPS else max(1, steps // 30)
        # A checkpoint or an evaluation takes as long as several steps: at most one in ten.
        save = 1_000 if steps >= LONG_RUN_STEPS else max(min(10, steps), steps // 4)
        evaluate = steps if self.evaluates_at_end_only else save
        return Intervals(record, save, evaluate, evaluate, self.keep_checkpoints)


PUBLISHED = Profile("published", Data.PREPARED)

# All of it is [ours]; what was tried, and what it came to, is in the documentation. The recipe is
# that of the published sizes: only length, batch and rate are chosen for a laptop.
LAPTOP = Profile(
    "laptop",
    Data.INSTALLED,
    budgets={
        # As many steps as five minutes leave on slow cores.
        "Mono": Budget(steps=180, warmup_steps=20),
        # Instruct starts from weights that have learnt already, and has little text.
        "Instruct": Budget(steps=150, warmup_steps=20),
    },
    compute_dtype=ComputeDtype.FLOAT32,
    needs_start=False,
    # Either takes as long as a tenth of the run.
    evaluates_at_end_only=True,
    keep_checkpoints=2,
    # On a CPU they take as long as the update itself.
    norm_summaries=False,
)
