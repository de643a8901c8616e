"""The two recipes: how weights are learnt, for any size and phase. Standard library only.

`jaxformer` is what was really run; `paper` is what the paper says, with the common practice where
the paper is silent. The documentation has the table of their differences, and each difference has a
test. Sources are marked as in `sizes.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from codegen_pax import messages
from codegen_pax.errors import UnknownNameError
from experiments import checks


class Batch(StrEnum):
    """The batch of a size that is used: a key of `Size.batch_tokens`."""

    JAXFORMER = "jaxformer"
    PAPER = "paper"


class Decay(StrEnum):
    """The arrays that are decayed (see `OptaxAdam`)."""

    STACKED_RANK = "stacked_rank"  # more than one axis, the layer axis counted
    MATRICES = "matrices"  # neither layer norms nor biases


class SumDtype(StrEnum):
    """The type of the sum of gradients over micro-batches."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"


class CosineEnds(StrEnum):
    """The step at which the cosine ends."""

    ANNEAL_STEPS = "anneal_steps"  # `anneal_steps` after the warm-up, then flat
    LAST_STEP = "last_step"


class Floor(StrEnum):
    """The rate at the end of the cosine."""

    CONFIG = "config"  # the config's own, or a tenth of the maximum if it has none
    TENTH = "tenth"  # of the maximum


@dataclass(frozen=True)
class Recipe:
    """How weights are learnt: what does not depend on the size or the phase.

    Attributes:
        name: 'jaxformer' or 'paper'.
        batch: The batch of a size that is used.
        decay: Which arrays are decayed. 'stacked_rank': every array with more than one axis, the
            layer axis counted, so that the blocks' layer norms and biases are decayed too.
            'matrices': neither layer norms nor biases.
        accumulation_dtype: Type of the sum of gradients over micro-batches.
        cosine_ends: 'anneal_steps' after the warm-up, then flat, or at the 'last_step'.
        floor: 'config' uses the `learning_rate_end` of the tables if they have one; 'tenth' always
            uses a tenth of the maximum.
        embedding_bias: Whether the embedding is a linear layer with a bias.
        z_loss: Weight of log(Z)^2 in the loss.
        weight_decay: Weight of the decoupled decay, which is multiplied by the learning rate.
        beta1: Adam's decay rate of the first moment.
        beta2: Adam's decay rate of the second moment.
        epsilon: Adam's epsilon.
        clip_norm: Maximum of the global norm of the gradient.

    Raises:
        ValueError: A value is invalid.
    """

    name: str
    batch: Batch
    decay: Decay
    accumulation_dtype: SumDtype
    cosine_ends: CosineEnds
    floor: Floor
    embedding_bias: bool
    z_loss: float
    # These are the same in both recipes: [paper] and jaxformer `model.py` (optax's defaults).
    weight_decay: float = 0.1
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    clip_norm: float = 1.0

    def __post_init__(self):
        owner = f"recipe {self.name}"
        checks.text("recipe", "name", self.name)
        for name, choices in (
            ("batch", Batch),
            ("decay", Decay),
            ("accumulation_dtype", SumDtype),
            ("cosine_ends", CosineEnds),
            ("floor", Floor),
        ):
            checks.store(self, name, checks.choice(owner, name, getattr(self, name), choices))
        checks.boolean(owner, "embedding_bias", self.embedding_bias)
        for name, check in (
            ("z_loss", checks.number),
            ("weight_decay", checks.number),
            ("beta1", checks.decay_rate),
            ("beta2", checks.decay_rate),
            ("epsilon", checks.positive),
            ("clip_norm", checks.positive),
        ):
            checks.store(self, name, check(owner, name, getattr(self, name)))


RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            name="jaxformer",
            batch=Batch.JAXFORMER,
            decay=Decay.STACKED_RANK,
            accumulation_dtype=SumDtype.BFLOAT16,
            cosine_ends=CosineEnds.ANNEAL_STEPS,
            floor=Floor.CONFIG,
            embedding_bias=True,
            z_loss=1e-4,
        ),
        Recipe(
            name="paper",
            batch=Batch.PAPER,
            decay=Decay.MATRICES,
            accumulation_dtype=SumDtype.FLOAT32,
            cosine_ends=CosineEnds.LAST_STEP,
            floor=Floor.TENTH,
            embedding_bias=False,
            z_loss=0.0,
        ),
    )
}
DEFAULT_RECIPE = RECIPES["jaxformer"]


def find_recipe(name: str) -> Recipe:
    """Returns the recipe called `name`.

    Raises:
        KeyError: The name is unknown; the message has the nearest.
    """
    if name not in RECIPES:
        raise UnknownNameError(messages.unknown("recipe", name, RECIPES))
    return RECIPES[name]
