"""A user's own module: the real 350M, by its real phases, with a batch that a laptop can carry."""

import dataclasses

from paxml import experiment_registry

from experiments import registry
from experiments.declaration import find_declaration

registry.register_all()


def small_batch(name: str, mixture: str, steps: int):
    """The declaration of `name`: a few steps of 2 rows of 8 tokens, of text every machine has.

    A CPU takes a third of a second for each token in bfloat16.
    """
    declaration = find_declaration(name)
    return dataclasses.replace(
        declaration,
        row_length=8,
        phase=dataclasses.replace(declaration.phase, mixture=mixture),
        batch_rows=2,
        micro_batch_rows=2,
        steps=steps,
        warmup_steps=1,
        anneal_steps=steps,
    )


@experiment_registry.register
class SmallBatch350MNL(registry.experiment_class("CodeGen350MNL")):
    """Two steps: the rate of the first is 0."""

    DECLARATION = small_batch("CodeGen350MNL", "codegen_nano_nl_gpt2", 2)


@experiment_registry.register
class SmallBatch350MMulti(registry.experiment_class("CodeGen350MMulti")):
    """Two steps."""

    DECLARATION = dataclasses.replace(
        small_batch("CodeGen350MMulti", "codegen_nano_multi_python_codegen", 2),
        start="SmallBatch350MNL",
    )
