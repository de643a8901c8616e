"""The vocabulary's loss, against praxis' own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from praxis import base_layer, pax_fiddle
from praxis.layers import embedding_softmax, linears

from codegen_pax.model.softmax import Softmax

B, T, D, V = 3, 7, 12, 61


def layer(cls, z_loss):
    config = pax_fiddle.Config(
        cls,
        name="softmax",
        input_dims=D,
        num_classes=V,
        z_loss_weight=z_loss,
        feed_forward_tpl=pax_fiddle.Config(linears.FeedForward, has_bias=True),
    )
    return base_layer.instantiate(config)


def batch(dtype=np.float32):
    rng = np.random.default_rng(0)
    weights = (rng.random((B, T, 1)) < 0.7).astype(np.float32)
    inputs = (3 * rng.standard_normal((B, T, D))).astype(dtype)
    return jnp.asarray(inputs), jnp.asarray(weights), jnp.asarray(rng.integers(0, V, (B, T, 1)))


def total(cls, z_loss):
    """The loss that is trained on, auxiliary part included, and everything else."""
    softmax = layer(cls, z_loss)
    variables = softmax.init(jax.random.PRNGKey(1), *batch())

    def loss(variables, inputs):
        _, weights, ids = batch()
        out, updated = softmax.apply(
            variables, inputs, weights, ids, mutable=["aux_loss", "summaries"]
        )
        auxiliary = sum(map(jnp.sum, jax.tree.leaves(updated.get("aux_loss", {}))))
        return out.avg_xent + auxiliary, out

    gradient = jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)
    (value, out), gradients = jax.jit(gradient)({"params": variables["params"]}, batch()[0])
    return value, out, gradients


@pytest.mark.parametrize("z_loss", [0.0, 1e-4, 0.3])
def test_losses_and_gradients_are_those_of_praxis(z_loss):
    wanted_value, expected, wanted_gradients = total(embedding_softmax.FullSoftmax, z_loss)
    value, actual, gradients = total(Softmax, z_loss)
    np.testing.assert_allclose(value, wanted_value, rtol=1e-6)
    assert actual.keys() == expected.keys()
    for name in expected:
        assert actual[name].shape == expected[name].shape, name
        np.testing.assert_allclose(actual[name], expected[name], rtol=2e-6, atol=2e-6, err_msg=name)
    np.testing.assert_array_equal(actual.per_example_argmax, expected.per_example_argmax)
    for ours, theirs in zip(
        jax.tree.leaves(gradients), jax.tree.leaves(wanted_gradients), strict=True
    ):
        scale = np.abs(theirs).max()
        assert np.abs(ours - theirs).max() < 1e-6 * scale


def test_the_first_of_equal_logits_is_the_largest():
    softmax = layer(Softmax, 0.0)
    inputs, weights, ids = batch()
    variables = softmax.init(jax.random.PRNGKey(1), inputs, weights, ids)
    out = softmax.apply(variables, jnp.zeros_like(inputs), weights, ids)
    np.testing.assert_array_equal(out.per_example_argmax, np.zeros((B, T)))


def test_probabilities_for_labels_are_refused():
    softmax = layer(Softmax, 0.0)
    inputs, weights, ids = batch()
    variables = softmax.init(jax.random.PRNGKey(1), inputs, weights, ids)
    with pytest.raises(ValueError, match="class_ids"):
        softmax.apply(variables, inputs, weights, class_probabilities=jnp.ones((B, T, V)) / V)
