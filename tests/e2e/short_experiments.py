"""A user's own module: Nano made short, and a language phase of its own."""

import dataclasses

from paxml import experiment_registry

from experiments import registry
from experiments.declaration import find_declaration
from experiments.phases import Phase

registry.register_all()

# The new phase: a name, its languages, where it starts, how long it is.
registry.declare_phase(Phase("Browser", languages=("c",), start="NL", tokens=10**9))


def short(name: str, steps: int):
    """The declaration of `name`: few steps of 16 rows of 64 tokens, in two micro-batches.

    Prompts are continued by the likeliest token, which two processes can be compared by.
    """
    declaration = find_declaration(name)
    profile = dataclasses.replace(declaration.profile, sampling=None)
    return dataclasses.replace(
        declaration,
        size=dataclasses.replace(declaration.size, profile=profile),
        row_length=64,
        batch_rows=16,
        micro_batch_rows=8,
        steps=steps,
        warmup_steps=2,
        anneal_steps=steps,
    )


class _Short:
    """Evaluates on few batches: on four devices of two cores each takes as long as a step."""

    def datasets(self):
        train, *evaluations = super().datasets()
        for evaluation in evaluations:
            evaluation.eval_loop_num_batches = 8
        return [train, *evaluations]


@experiment_registry.register
class ShortNL(_Short, registry.experiment_class("CodeGenNanoNL")):
    """Twenty steps."""

    DECLARATION = short("CodeGenNanoNL", 20)


@experiment_registry.register
class ShortBrowser(_Short, registry.experiment_class("CodeGenNanoBrowser")):
    """Three steps of the new phase, from the weights of the short NL."""

    DECLARATION = dataclasses.replace(short("CodeGenNanoBrowser", 3), start="ShortNL")
