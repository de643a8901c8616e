"""Nano's own budget, chosen for a laptop. Standard library only.

Everything here is [ours]. The recipe (optimizer, decay, clipping, schedule's form, loss) is that
of the real sizes; only the length, the batch and the learning rate are Nano's.
"""

from __future__ import annotations

from dataclasses import dataclass

from experiments import checks


@dataclass(frozen=True)
class Budget:
    """What Nano is given for a phase. Raises ValueError for numbers that are none."""

    steps: int
    learning_rate: float
    warmup_steps: int

    def __post_init__(self):
        checks.whole("Nano's budget", "steps", self.steps)
        checks.rate("Nano's budget", "learning_rate", self.learning_rate)
        checks.count("Nano's budget", "warmup_steps", self.warmup_steps)


# What was tried, and what it came to, is in the README. What a mesh of 4 can share, in rows that
# hold an instruction pair; as many steps as five minutes leave on slow cores.
BUDGET = Budget(steps=180, learning_rate=5e-3, warmup_steps=20)
# A gentle one: Instruct starts from weights that have learnt already, and has little text.
INSTRUCT_BUDGET = Budget(steps=150, learning_rate=1e-3, warmup_steps=20)


def budget(phase_name: str) -> Budget:
    """Nano's budget for a phase; a phase without one of its own gets the common one."""
    return INSTRUCT_BUDGET if phase_name == "Instruct" else BUDGET
