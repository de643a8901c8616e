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


# Tried in 160 to 210 seconds of training on 2 cores (validation loss of Mono, nats a token):
#   D=128, 8 rows of 128, 250 steps: rate 8e-3 4.71, 2e-2 worse by 0.2 at step 200
#   D=128, 4 rows of 256, 250 steps: rate 5e-3 4.74
#   D=128, 2 rows of 256, 420 steps: rate 4e-3 4.71
# (these on rows shuffled as a whole and 137,000 held-out tokens of another split: 1.5 below its
# unigram entropy; `make run` itself, 250 steps of 4 rows of 256: 4.91, 1.33 below; 180 steps, which
# a slower machine has time for in five minutes: 5.11, 1.13 below).
# Within each other's noise, so the longer rows, which hold more instruction pairs, and a batch that
# a mesh of 4 can share. D=64 is a fifth faster a step only: the softmax over 51,200 ids is what a
# step is made of.
BUDGET = Budget(steps=180, learning_rate=5e-3, warmup_steps=20)
# A gentle one: Instruct starts from weights that have learnt already, and has little text.
INSTRUCT_BUDGET = Budget(steps=150, learning_rate=1e-3, warmup_steps=20)


def budget(phase_name: str) -> Budget:
    """Nano's budget for a phase; a phase without one of its own gets the common one."""
    return INSTRUCT_BUDGET if phase_name == "Instruct" else BUDGET
