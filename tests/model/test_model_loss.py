"""The loss that holds the logits of some tokens at a time, against the whole one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import Mesh
from praxis import base_layer, pax_fiddle
from praxis.layers import linears

from codegen_pax.model import loss, split
from codegen_pax.model.softmax import Softmax

AXES = ("replica", "data", "mdl")


def random_batch(rows, length, dims, vocab, seed=0):
    """Inputs, weights of the network and of the tokens, a third of them 0, and labels."""
    rng = np.random.default_rng(seed)
    return (
        (2 * rng.standard_normal((rows, length, dims))).astype(np.float32),
        rng.standard_normal((dims, vocab)).astype(np.float32),
        rng.standard_normal(vocab).astype(np.float32),
        rng.integers(0, vocab, (rows, length), dtype=np.int32),
        (rng.random((rows, length)) < 0.67).astype(np.float32) / rows,
    )


def whole(inputs, w, b, labels, weights, z_loss):
    """The same with all logits."""
    logits = inputs @ w + b
    log_z = jax.nn.logsumexp(logits, axis=-1)
    xent = log_z - jnp.take_along_axis(logits, labels[..., jnp.newaxis], axis=-1)[..., 0]
    value = jnp.sum(weights * (xent + z_loss * log_z**2))
    return value, (xent, log_z, jnp.argmax(logits, axis=-1))


def in_chunks(inputs, w, b, labels, weights, z_loss, chunk, over=None):
    result = loss.chunked_loss(inputs, w, b, labels, weights, z_loss * weights, chunk, over)
    return result.value, (result.xent, result.log_z, result.argmax)


def assert_equal(actual, expected, tolerance=1e-5):
    """Within the tolerance, relative to the largest of each array."""
    jax.tree.map(
        lambda a, e: np.testing.assert_allclose(a, e, rtol=0, atol=tolerance * np.abs(e).max()),
        actual,
        expected,
    )


def compare(arrays, z_loss, chunk, over=None):
    gradient = lambda function: jax.value_and_grad(function, argnums=(0, 1, 2), has_aux=True)  # noqa: E731
    actual = jax.jit(gradient(lambda *a: in_chunks(*a, z_loss, chunk, over)))(*arrays)
    expected = jax.jit(gradient(lambda *a: whole(*a, z_loss)))(*arrays)
    assert_equal(actual, expected)
    np.testing.assert_array_equal(actual[0][1][2], expected[0][1][2])
    alone = jax.jit(lambda *a: in_chunks(*a, z_loss, chunk, over))(*arrays)
    assert_equal(alone, expected[0])


@pytest.mark.parametrize("z_loss", [0.0, 1e-4, 0.3])
@pytest.mark.parametrize("chunk", [1, 5, 8, 40, 1000])
def test_losses_and_gradients_are_those_of_the_whole_logits(chunk, z_loss):
    compare(random_batch(3, 13, 12, 61), z_loss, chunk)


@settings(max_examples=6, deadline=None)
@given(st.integers(1, 3), st.integers(1, 9), st.integers(1, 5), st.integers(2, 40), st.data())
def test_any_shape(rows, length, dims, vocab, data):
    chunk = data.draw(st.integers(1, rows * length + 3))
    compare(random_batch(rows, length, dims, vocab, seed=chunk), 1e-2, chunk)


@pytest.mark.parametrize("mesh_shape", [(1, 8, 1), (1, 2, 4), (2, 2, 2), (1, 1, 8)], ids=str)
def test_on_a_mesh_of_eight(mesh_shape):
    mesh = Mesh(np.array(jax.devices()[:8]).reshape(mesh_shape), AXES)
    with mesh:
        compare(random_batch(8, 7, 16, 64), 1e-2, 3, split.current(AXES))


def test_the_largest_array_has_the_logits_of_one_chunk():
    arrays = random_batch(2, 64, 8, 500)
    gradient = jax.grad(lambda *a: in_chunks(*a, 1e-4, 16)[0], argnums=(0, 1, 2))
    text = jax.jit(gradient).lower(*arrays).as_text()
    assert "16x500xf32" in text and "128x500xf32" not in text and "2x64x500xf32" not in text


def test_the_gradient_of_the_matrix_is_added_up_in_float32():
    """In bfloat16, 512 summands of one size would be lost from the 256th on."""
    tokens, dims = 512, 8
    w = jnp.zeros((dims, 2), jnp.bfloat16)
    inputs = jnp.ones((1, tokens, dims), jnp.bfloat16)
    ones = jnp.ones((1, tokens), jnp.float32)
    gradient = jax.grad(lambda w: in_chunks(inputs, w, w[0], 0 * ones.astype(int), ones, 0.0, 1)[0])
    np.testing.assert_allclose(gradient(w)[1].astype(np.float32), [-256, 256], rtol=1e-2)


def total(token_chunk, z_loss):
    """The layer's loss that is trained on, everything else, and gradients."""
    inputs, _, _, labels, weights = map(jnp.asarray, random_batch(3, 7, 12, 61))
    softmax = base_layer.instantiate(
        pax_fiddle.Config(
            Softmax,
            name="softmax",
            input_dims=12,
            num_classes=61,
            z_loss_weight=z_loss,
            token_chunk=token_chunk,
            feed_forward_tpl=pax_fiddle.Config(linears.FeedForward, has_bias=True),
        )
    )
    arguments = (weights[..., jnp.newaxis], labels[..., jnp.newaxis])
    variables = softmax.init(jax.random.PRNGKey(1), inputs, *arguments)

    def of(params, inputs):
        out, updated = softmax.apply(
            {"params": params}, inputs, *arguments, mutable=["aux_loss", "summaries"]
        )
        auxiliary = sum(map(jnp.sum, jax.tree.leaves(updated.get("aux_loss", {}))))
        return out.avg_xent + auxiliary, out

    gradient = jax.value_and_grad(of, argnums=(0, 1), has_aux=True)
    (value, out), gradients = jax.jit(gradient)(variables["params"], inputs)
    return value, dict(out), gradients


@pytest.mark.parametrize("z_loss", [0.0, 1e-4, 0.3])
def test_the_layer_in_chunks_is_the_layer(z_loss):
    value, out, gradients = total(0, z_loss)
    del out["logits"], out["log_probs"]
    assert_equal(total(4, z_loss), (value, out, gradients))
