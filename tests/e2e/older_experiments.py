"""A user's own module, as it was when the job in `older_job.tar.xz` was trained by it.

`test_e2e_older.py` says how that was made.
"""

import dataclasses
import os

from paxml import experiment_registry

from experiments import registry
from experiments.declaration import find_declaration

registry.register_all()

MONO = find_declaration("CodeGen350MMono")


@experiment_registry.register
class Older(registry.experiment_class("CodeGen350MMono")):
    """Six steps of 4 rows of 16 tokens, on one device, of a network of 8 dims."""

    # The schedule is not named: what the project derives of it may change, not this run.
    DECLARATION = dataclasses.replace(
        MONO,
        size=dataclasses.replace(
            MONO.size, layers=2, model_dims=8, heads=4, head_dims=2, rotary_dims=2, context=16
        ),
        batch_rows=4,
        micro_batch_rows=2,
        steps=int(os.environ.get("OLDER_STEPS", 6)),
    )

    def task(self):
        task = super().task()
        task.train.save_interval_steps = 3
        task.train.summary_interval_steps = 1
        return task
