"""A user's own module: real sizes on prepared corpora, their networks made as small as Nano's."""

import dataclasses

import jax.numpy as jnp
from paxml import experiment_registry

from experiments import registry
from experiments.declaration import find_declaration
from experiments.sizes import SIZES, Attention

registry.register_all()

STEPS = 12


def small(name: str, context: int, rows: int, steps: int, attention: Attention = Attention.FLASH):
    """The declaration of `name`: its phase and data, the network of Nano, few steps."""
    declaration = find_declaration(name)
    nano = SIZES["Nano"]
    shape = {field: getattr(nano, field) for field in ("model_dims", "heads", "head_dims")}
    size = dataclasses.replace(
        declaration.size,
        **shape,
        layers=1,
        rotary_dims=nano.rotary_dims,
        context=context,
        attention=attention,
    )
    return dataclasses.replace(
        declaration,
        size=size,
        batch_rows=rows,
        micro_batch_rows=rows,
        steps=steps,
        warmup_steps=1,
        anneal_steps=steps,
    )


class _Short:
    """Evaluates every so many steps, on few batches, and saves on the same ones."""

    INTERVAL = BATCHES = 1

    def datasets(self):
        train, *evaluations = super().datasets()
        for evaluation in evaluations:
            evaluation.eval_loop_num_batches = self.BATCHES
        return [train, *evaluations]

    def task(self):
        task = super().task()
        task.train.save_interval_steps = task.train.eval_interval_steps = self.INTERVAL
        task.train.summary_interval_steps = 1
        task.model.fprop_dtype = jnp.float32
        return task


def _phase(phase: str):
    name = f"CodeGen350M{phase}"
    # Of 2,048 tokens the chunks of flash attention take long to compile: once is enough.
    attention = Attention.FLASH if phase == "NL" else Attention.PLAIN
    declaration = small(name, context=2048, rows=1, steps=2, attention=attention)
    body = {"DECLARATION": declaration, "INTERVAL": 2}
    made = type(name, (_Short, registry.experiment_class(name)), {"__module__": __name__, **body})
    return experiment_registry.register(made)


CodeGen350MNL, CodeGen350MMulti, CodeGen350MMono, CodeGen350MInstruct = map(
    _phase, ("NL", "Multi", "Mono", "Instruct")
)


@experiment_registry.register
class Resumed(_Short, registry.experiment_class("CodeGen350MMulti")):
    """Twelve steps over a mixture of six languages, shuffled."""

    INTERVAL, BATCHES = 4, 2
    DECLARATION = small("CodeGen350MMulti", context=64, rows=4, steps=STEPS)
