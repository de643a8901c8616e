"""Nano's own budget, chosen for a laptop. Standard library only.

Everything here is [ours]. The recipe (optimizer, decay, clipping, schedule's form, loss) is that
of the real sizes; only the length, the batch and the learning rate are Nano's.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Budget:
    """What Nano is given for a phase."""

    steps: int
    learning_rate: float
    warmup_steps: int


BUDGET = Budget(steps=600, learning_rate=6e-3, warmup_steps=60)
INSTRUCT_BUDGET = Budget(steps=300, learning_rate=1e-3, warmup_steps=30)


def budget(phase_name: str) -> Budget:
    """Nano's budget for a phase; a phase without one of its own gets the common one."""
    return INSTRUCT_BUDGET if phase_name == "Instruct" else BUDGET
