"""The network against transformers' CodeGen, on random weights in float32.

The tolerances are the project's: 1e-4 for a whole network, 1e-5 for a block.
"""

import jax
import jax.numpy as jnp
import pytest
import torch
from praxis import base_layer
from praxis.layers import attentions

from tests.model.random_models import (
    Shape,
    reference,
    reference_logits,
    relative_difference,
    variables,
)

SHAPES = {
    "rotary below head": Shape(2, 4, 16, 8, vocab_size=97, batch=5, length=33),
    "rotary whole head": Shape(3, 4, 8, 8, vocab_size=64, batch=1, length=17),
    "24 heads": Shape(2, 24, 8, 4, vocab_size=101, batch=5, length=7),
    "24 heads, rotary whole head": Shape(1, 24, 4, 4, vocab_size=53, batch=1, length=9),
    "as 350M, narrow": Shape(4, 16, 64, 32, vocab_size=51, batch=1, length=5),
    "as 2B, narrow": Shape(2, 8, 80, 64, vocab_size=130, batch=2, length=129),
    "one token": Shape(2, 12, 6, 2, vocab_size=33, batch=5, length=1),
}


@pytest.fixture(scope="module", params=SHAPES.values(), ids=SHAPES.keys())
def pair(request):
    """A shape, transformers' network and the same weights in Pax."""
    shape = request.param
    network = reference(shape)
    return shape, network, variables(network, shape)


def test_logits_equal_transformers(pair):
    shape, network, weights = pair
    ids = shape.random_ids()
    lm = base_layer.instantiate(shape.language_model())
    apply = jax.jit(lm.apply)
    actual = apply({"params": weights}, jnp.asarray(ids), jnp.zeros(ids.shape)).logits
    assert relative_difference(actual, reference_logits(network, ids)) < 1e-4


def test_each_block_equals_transformers(pair):
    shape, network, weights = pair
    seen = []
    for block in network.transformer.h:
        block.register_forward_hook(lambda _, args, output: seen.append((args[0], output[0])))
    with torch.no_grad():
        network(torch.tensor(shape.random_ids(), dtype=torch.long))
    assert len(seen) == shape.layers

    stack_config = shape.language_model().stacked_transformer_tpl.block
    stack_config.set(
        name="stack",
        mask_self_attention=True,
        packed_input=True,
        fold_padding_with_segment_mask=True,
    )
    apply = jax.jit(base_layer.instantiate(stack_config).apply)
    stacked = weights["transformer"]["repeat"]["sub"]
    ones = jnp.ones((shape.batch, shape.length), jnp.int32)
    mask = attentions.causal_segment_mask(ones, jnp.float32)
    for layer, (entered, left) in enumerate(seen):
        one = jax.tree.map(lambda weight, i=layer: weight[i], stacked)
        entered = jnp.asarray(entered.numpy())
        actual = apply({"params": one}, entered, 0.0 * ones, segment_mask=mask)
        assert relative_difference(actual, left.numpy()) < 1e-5, f"block {layer}"
