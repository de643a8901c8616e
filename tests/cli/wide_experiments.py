"""A user's own network: small, with as many heads and layers as tell how its matrices are cut."""

import dataclasses

from paxml import experiment_registry

from experiments import registry
from experiments.declaration import find_declaration
from experiments.sizes import Vocabulary

registry.register_all()

SIZE = dataclasses.replace(
    find_declaration("CodeGenMicroMono").size,
    layers=4,
    model_dims=64,
    heads=8,
    head_dims=8,
    rotary_dims=4,
    vocab_size=2_048,
    vocabulary=Vocabulary.CODEGEN_2048,
)


@experiment_registry.register
class Wide(registry.experiment_class("CodeGenMicroMono")):
    """The phase Mono, in another size."""

    DECLARATION = dataclasses.replace(find_declaration("CodeGenMicroMono"), size=SIZE)


# With the real vocabulary, and nothing else that takes room.
CODED_SIZE = dataclasses.replace(
    SIZE,
    layers=2,
    model_dims=32,
    heads=4,
    vocab_size=51_200,
    vocabulary=None,
)


@experiment_registry.register
class Coded(registry.experiment_class("CodeGenMicroMono")):
    """The phase Mono, small, with the tokens that it has."""

    DECLARATION = dataclasses.replace(find_declaration("CodeGenMicroMono"), size=CODED_SIZE)


REAL = find_declaration("CodeGen350MMono")
SHALLOW_SIZE = dataclasses.replace(REAL.size, layers=2)


@experiment_registry.register
class Shallow(registry.experiment_class("CodeGen350MMono")):
    """The phase Mono at the width of the real 350M, with two of its layers."""

    DECLARATION = dataclasses.replace(REAL, size=SHALLOW_SIZE)
