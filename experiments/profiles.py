"""Profiles: the data and the length of a run, and how often it reports.

The published sizes are run as the paper ran them; Nano and Micro are run so that a laptop's CPU
finishes in minutes. Standard library only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from experiments import checks

# The steps of Instruct, the shortest phase of the tables. Runs of at least this length have fixed
# intervals.
LONG_RUN_STEPS = 3_000


class Data(StrEnum):
    """The choice between a phase's two mixtures."""

    PREPARED = "prepared"  # `Phase.mixture`: a corpus that `codegen-pax prepare` wrote
    INSTALLED = "installed"  # `Phase.nano_mixture`: text that every machine has


class ComputeDtype(StrEnum):
    """The type of activations; weights are float32."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"


@dataclass(frozen=True)
class Budget:
    """A length that replaces a phase's own where that is too long.

    Attributes:
        steps: Optimizer steps.
        warmup_steps: Steps of linear warm-up.

    Raises:
        ValueError: A number is invalid.
    """

    steps: int
    warmup_steps: int

    def __post_init__(self):
        checks.integer("budget", "steps", self.steps)
        checks.count("budget", "warmup_steps", self.warmup_steps)


@dataclass(frozen=True)
class Intervals:
    """How often a run records, saves, evaluates and decodes.

    Attributes:
        record: Steps between records of loss, rate and speed in events and log.
        save: Steps between checkpoints.
        evaluate: Steps between evaluations on every held-out row.
        decode: Steps between decodings of the prompts.
        keep: The number of newest checkpoints that are kept.
    """

    record: int
    save: int
    evaluate: int
    decode: int
    keep: int


@dataclass(frozen=True)
class Sampling:
    """How a run draws the continuations of its prompts.

    Attributes:
        temperature: The logits are divided by it.
        top_p: The probability mass of the nucleus.
    """

    temperature: float
    top_p: float


@dataclass(frozen=True)
class Profile:
    """How the experiments of a size are run.

    Attributes:
        name: 'published', 'laptop' or 'laptop, short'.
        data: Which of a phase's mixtures is read.
        budgets: Phase -> its length; if empty, length and batch are the phase's own. A phase that
            is not in the table has the length of `default_phase`.
        default_phase: The phase whose length a phase missing from `budgets` has.
        compute_dtype: The type of activations.
        needs_start: Whether to refuse a later phase that would start from random weights.
        evaluates_at_end_only: Whether a run evaluates and decodes only before its first step and
            after its last.
        keep_checkpoints: The number of newest checkpoints that are kept.
        norm_summaries: Whether the norms of weights and updates are recorded.
        sampling: How the run's prompts are continued; None for the likeliest token each time.
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
    sampling: Sampling | None = None

    @property
    def on_laptop(self) -> bool:
        """Whether the data is text that every machine has, and nothing is published of the run."""
        return self.data == Data.INSTALLED

    def budget(self, phase_name: str) -> Budget | None:
        """Returns the length of a phase; None for the phase's own."""
        if not self.budgets:
            return None
        return self.budgets.get(phase_name) or self.budgets[self.default_phase]

    def intervals(self, steps: int) -> Intervals:
        """Returns the intervals of a run of `steps` steps.

        A run as long as the published ones has fixed intervals; those of a shorter run are in
        proportion to its length, so that four steps show as much as four hundred. In any case the
        first and the last step are recorded, the loss is evaluated before the first step, and the
        last step is evaluated, saved and decoded (`codegen_pax.runs.programs`, and Pax itself).
        """
        record = 100 if steps >= LONG_RUN_STEPS else max(1, steps // 30)
        # A checkpoint or an evaluation takes as long as several steps, so at most one in ten steps
        # has one.
        save = 1_000 if steps >= LONG_RUN_STEPS else max(min(10, steps), steps // 4)
        evaluate = steps if self.evaluates_at_end_only else save
        return Intervals(record, save, evaluate, evaluate, self.keep_checkpoints)


PUBLISHED = Profile("published", Data.PREPARED)

# All values are [ours]; the documentation has the alternatives that were tried and their results.
# The recipe is that of the published sizes: only length, batch and rate are chosen for a laptop.
LAPTOP = Profile(
    "laptop",
    Data.INSTALLED,
    budgets={
        # As many steps as slow cores finish in five minutes.
        "Mono": Budget(steps=3_300, warmup_steps=50),
        # Instruct starts from trained weights, and has little text.
        "Instruct": Budget(steps=600, warmup_steps=50),
    },
    compute_dtype=ComputeDtype.FLOAT32,
    needs_start=False,
    # An evaluation or a decoding takes as long as a tenth of the run.
    evaluates_at_end_only=True,
    keep_checkpoints=2,
    # On a CPU the norms take as long as the update itself.
    norm_summaries=False,
    # The likeliest tokens of so small a network repeat themselves.
    sampling=Sampling(temperature=0.4, top_p=0.8),
)
# A step of the full vocabulary takes as long as fifteen of Nano's. Its prompts are continued by
# the likeliest token, which another library can be compared with.
LAPTOP_SHORT = replace(
    LAPTOP,
    name="laptop, short",
    budgets={
        "Mono": Budget(steps=180, warmup_steps=20),
        "Instruct": Budget(steps=150, warmup_steps=20),
    },
    sampling=None,
)
