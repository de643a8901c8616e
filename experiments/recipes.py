"""The two recipes, and the batch each size is trained with. Standard library only.

`jaxformer` is what was really run; `paper` is what the paper says, with the field's habit where
it is silent. Where they differ is written once, in the README's table of differences, and each
difference has a test. Sources as in `phases.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from codegen_pax import names
from codegen_pax.errors import UnknownNameError
from experiments import checks
from experiments.choices import CosineEnds, Decay, Floor, SumDtype
from experiments.sizes import SIZES


@dataclass(frozen=True)
class Recipe:
    """How weights are learnt: what does not depend on the size or the phase.

    Attributes:
      name: 'jaxformer' or 'paper'.
      batch_tokens: tokens a step, by size.
      decay: which arrays are decayed. 'stacked_rank': every array with more than one axis, the
        layer axis counted, so that the blocks' layer norms and biases are decayed too.
        'matrices': neither layer norms nor biases.
      accumulation_dtype: of the sum of gradients over micro-batches.
      cosine_ends: 'anneal_steps' after the warm-up, then flat, or at the 'last_step'.
      floor: 'config' uses a phase's own `learning_rate_end` where it has one; 'tenth' never.
      embedding_bias: the embedding is a linear layer with a bias.
      z_loss: weight of log(Z)^2 in the loss.
      weight_decay: decoupled, times the learning rate.
      beta1, beta2, epsilon: of Adam.
      clip_norm: of the whole gradient.

    Raises ValueError for a value that is none of these.
    """

    name: str
    batch_tokens: Mapping[str, int]
    decay: Decay
    accumulation_dtype: SumDtype
    cosine_ends: CosineEnds
    floor: Floor
    embedding_bias: bool
    z_loss: float
    # The same in both recipes. [paper] and jaxformer `model.py` (optax's defaults).
    weight_decay: float = 0.1
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    clip_norm: float = 1.0

    def __post_init__(self):
        owner = f"recipe {self.name}"
        checks.text("recipe", "name", self.name)
        batches = checks.by_size(owner, "batch_tokens", self.batch_tokens, SIZES, checks.whole)
        checks.store(self, "batch_tokens", batches)
        for name, choices in (
            ("decay", Decay),
            ("accumulation_dtype", SumDtype),
            ("cosine_ends", CosineEnds),
            ("floor", Floor),
        ):
            checks.store(self, name, checks.choice(owner, name, getattr(self, name), choices))
        checks.flag(owner, "embedding_bias", self.embedding_bias)
        for name, check in (
            ("z_loss", checks.number),
            ("weight_decay", checks.number),
            ("beta1", checks.share),
            ("beta2", checks.share),
            ("epsilon", checks.rate),
            ("clip_norm", checks.rate),
        ):
            checks.store(self, name, check(owner, name, getattr(self, name)))


# Rows of one micro-batch, over the whole mesh. [config]: per-replica batch x data-parallel
# replicas (TPU v3 cores / 8): 350M 1 x 8, 2B 2 x 16, 6B 1 x 32. 16B [ours]: one row for each of
# its mesh's 64 data shards. The batch over this is the number of accumulation steps:
# 350M 32, 2B 16, 6B 16, as in the configs.
MICRO_BATCH_ROWS = MappingProxyType({"Nano": 4, "350M": 8, "2B": 32, "6B": 32, "16B": 64})

NANO_BATCH_TOKENS = 4 * 256  # [ours]: see `nano.py`

RECIPES: dict[str, Recipe] = {
    "jaxformer": Recipe(
        name="jaxformer",
        batch_tokens=MappingProxyType(
            {
                "Nano": NANO_BATCH_TOKENS,
                "350M": 32 * 8 * 2048,  # [config]: 524,288
                "2B": 16 * 32 * 2048,  # [config]: 1,048,576
                "6B": 16 * 32 * 2048,  # [config]: 1,048,576, where the paper says 2M
                "16B": 16 * 64 * 2048,  # no config published; the paper's 2M: 2,097,152
            }
        ),
        decay=Decay.STACKED_RANK,
        accumulation_dtype=SumDtype.BFLOAT16,
        cosine_ends=CosineEnds.ANNEAL_STEPS,
        floor=Floor.CONFIG,
        embedding_bias=True,
        z_loss=1e-4,
    ),
    "paper": Recipe(
        name="paper",
        batch_tokens=MappingProxyType(
            {
                "Nano": NANO_BATCH_TOKENS,
                "350M": 256 * 2048,  # [paper]: 0.5M = 524,288
                "2B": 512 * 2048,  # [paper]: 1M = 1,048,576
                "6B": 1024 * 2048,  # [paper]: 2M = 2,097,152
                "16B": 1024 * 2048,  # [paper]: 2M = 2,097,152
            }
        ),
        decay=Decay.MATRICES,
        accumulation_dtype=SumDtype.FLOAT32,
        cosine_ends=CosineEnds.LAST_STEP,
        floor=Floor.TENTH,
        embedding_bias=False,
        z_loss=0.0,
    ),
}
DEFAULT_RECIPE = "jaxformer"


def find_recipe(name: str) -> Recipe:
    """Returns the recipe called `name`.

    Raises:
        KeyError: there is none; names the nearest.
    """
    if name not in RECIPES:
        raise UnknownNameError(names.unknown("recipe", name, RECIPES))
    return RECIPES[name]
