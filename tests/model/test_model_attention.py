"""Attention that does not hold [B, N, T, T], against the plain one; documents stay apart."""

import functools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.experimental import pallas
from jax.experimental.pallas.ops.tpu import flash_attention as kernel
from jax.sharding import Mesh
from praxis import py_utils
from praxis.layers import attentions

from codegen_pax.model import attention, split
from tests.model.random_models import Shape, training_batch, training_model

AXES = ("replica", "data", "mdl")


def random_arrays(rows, length, heads=2, dims=8, seed=0):
    """Queries, keys and values, and documents of random lengths."""
    rng = np.random.default_rng(seed)
    arrays = rng.standard_normal((3, rows, length, heads, dims)).astype(np.float32)
    ids = np.cumsum(rng.random((rows, length)) < 0.05, axis=1).astype(np.int32)
    return (*arrays, ids)


def plain(query, key, value, ids):
    """All pairs at once, under praxis' mask."""
    scores = jnp.einsum("btnh,bsnh->bnts", query, key)
    weights = jax.nn.softmax(scores + attentions.causal_segment_mask(ids), axis=-1)
    return jnp.einsum("bnts,bsnh->btnh", weights, value)


def assert_equal(function, arrays, tolerance=1e-5):
    """The output and the three gradients, relative to the largest of each."""
    *arrays, ids = arrays

    def both(function):
        def loss(*arrays):
            output = function(*arrays, ids)
            return jnp.sum(jnp.sin(output)), output

        return jax.jit(jax.grad(loss, argnums=(0, 1, 2), has_aux=True))(*arrays)

    jax.tree.map(
        lambda a, e: np.testing.assert_allclose(a, e, rtol=0, atol=tolerance * np.abs(e).max()),
        both(function),
        both(plain),
    )


@settings(max_examples=6, deadline=None)
@given(st.integers(1, 2), st.integers(1, 40), st.integers(1, 45))
def test_chunks_of_any_length_give_the_plain_output_and_gradients(rows, length, chunk):
    arrays = random_arrays(rows, length, seed=length)
    assert_equal(functools.partial(attention.chunked_attention, chunk=chunk), arrays)


def test_the_largest_array_has_the_scores_of_one_chunk():
    arrays = random_arrays(1, 64)
    gradient = jax.grad(lambda *a: attention.chunked_attention(*a, 16).sum(), argnums=(0, 1, 2))
    text = jax.jit(gradient).lower(*arrays).as_text()
    assert "1x2x16x64xf32" in text and "64x64xf32" not in text


def test_documents_are_told_apart_by_their_first_columns():
    ids = np.array([[4, 4, 4, 2, 2, 9, 0, 0]])
    found = attention.documents(attentions.causal_segment_mask(jnp.asarray(ids), jnp.bfloat16))
    np.testing.assert_array_equal(found, [[0, 0, 0, 3, 3, 5, 6, 6]])


def test_a_mask_that_is_the_same_for_all_queries_is_refused():
    with pytest.raises(ValueError, match=r"found a mask \(2, 1, 1, 5\); expected \[B, 1, 5, 5\]"):
        attention.documents(jnp.zeros((2, 1, 1, 5)))


@pytest.fixture
def interpreted(monkeypatch):
    """JAX's kernel, interpreted on a CPU; its interpreter takes no Python number as an index."""

    def load(ref, indices, **keywords):
        indices = (jnp.int32(i) if isinstance(i, int) else i for i in indices)
        return pallas.load(ref, tuple(indices), **keywords)

    call = functools.partial(pallas.pallas_call, interpret=True)
    changed = types.SimpleNamespace(**{**vars(pallas), "pallas_call": call, "load": load})
    monkeypatch.setattr(kernel, "pl", changed)


@pytest.mark.parametrize("length", [256, 300])
def test_the_kernel_gives_the_plain_output_and_gradients(length, interpreted):
    assert_equal(attention.flash_attention, random_arrays(1, length))


def test_each_device_runs_the_kernel_on_its_rows_and_heads(interpreted):
    mesh = Mesh(np.array(jax.devices()[:4]).reshape(1, 2, 2), AXES)
    with mesh:
        over = split.current(AXES)
        flash = functools.partial(attention.flash_attention, over=over)
        assert_equal(flash, random_arrays(2, 128))


SHAPE = Shape(2, 2, 8, 4, vocab_size=47, batch=2, length=300)


def losses_and_gradients(kind, loss_chunk=0):
    """Of a network, on rows of several documents."""
    network = training_model(SHAPE, z_loss=1e-2, attention_kind=kind, loss_chunk=loss_chunk)
    ids = np.concatenate([SHAPE.random_ids(), SHAPE.random_ids(seed=9)[:, :1]], axis=1)
    batch = training_batch(ids)
    batch.segment_ids = random_arrays(SHAPE.batch, SHAPE.length)[-1] + 1
    variables = network.init(jax.random.PRNGKey(0), batch)

    def loss(params):
        (metrics, _), _ = network.apply(
            {"params": params}, batch, mutable=["aux_loss", "summaries"]
        )
        return metrics.total_loss[0], py_utils.NestedMap(metrics)

    return jax.jit(jax.value_and_grad(loss, has_aux=True))(variables["params"])


@pytest.fixture(scope="module")
def expected():
    return losses_and_gradients("plain")


@pytest.mark.parametrize("settings", [("chunked", 0), ("flash", 0), ("plain", 64), ("flash", 64)])
def test_a_network_gives_the_same_losses_and_gradients(settings, expected):
    jax.tree.map(
        lambda a, e: np.testing.assert_allclose(a, e, rtol=0, atol=1e-4 * np.abs(e).max()),
        losses_and_gradients(*settings),
        expected,
    )


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="nearest: flash"):
        SHAPE.language_model(attention_kind="flush")
    with pytest.raises(ValueError, match="loss_chunk=-1"):
        SHAPE.language_model(loss_chunk=-1)
