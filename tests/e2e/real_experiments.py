"""A user's own module: the real 350M, by its real phases, with a batch that a laptop can carry."""

import dataclasses

from paxml import experiment_registry

from experiments import registry
from experiments.declaration import find_declaration
from experiments.phases import nano_mixture

registry.register_all()


def small_batch(name: str, steps: int):
    """The declaration of `name`: a few steps of 2 rows of 32 tokens, of text every machine has."""
    declaration = find_declaration(name)
    installed = nano_mixture(declaration.size, declaration.phase)
    return dataclasses.replace(
        declaration,
        row_length=32,
        phase=dataclasses.replace(declaration.phase, mixture=installed),
        batch_rows=2,
        micro_batch_rows=2,
        steps=steps,
        warmup_steps=1,
        anneal_steps=steps,
    )


@experiment_registry.register
class SmallBatch350MNL(registry.experiment_class("CodeGen350MNL")):
    """Two steps: the rate of the first is 0."""

    DECLARATION = small_batch("CodeGen350MNL", 2)


@experiment_registry.register
class SmallBatch350MMulti(registry.experiment_class("CodeGen350MMulti")):
    """Two steps."""

    DECLARATION = dataclasses.replace(small_batch("CodeGen350MMulti", 2), start="SmallBatch350MNL")
