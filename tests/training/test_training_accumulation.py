"""Accumulated gradients against the whole batch's, and against sums written out in numpy."""

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from paxml import sgf
from praxis import pax_fiddle
from praxis.py_utils import NestedMap

from codegen_pax.training import accumulation
from codegen_pax.training.accumulation import AccumulatedGradient
from codegen_pax.training.learner import learner

B, T, D, A = 24, 5, 7, 4


def batch(seed=0, weights=None):
    """Rows of inputs x [B, T, D], targets y [B, T] and weights [B, T]."""
    rng = np.random.default_rng(seed)
    return NestedMap(
        x=rng.standard_normal((B, T, D)).astype(np.float32),
        y=rng.standard_normal((B, T)).astype(np.float32),
        weights=np.ones((B, T), np.float32) if weights is None else weights,
    )


def uneven_weights():
    """Rows of 0 to T weighted tokens, and none at all in the rows of micro-batch 2."""
    lengths = np.random.default_rng(5).integers(0, T + 1, B)
    lengths[2::A] = 0
    return (np.arange(T) < lengths[:, None]).astype(np.float32)


def model_vars():
    return NestedMap(w=jnp.linspace(-1, 1, D, dtype=jnp.float32), b=jnp.float32(0.5))


def loss_fn(weights, fixed_and_batch, key):
    """Squared error of a linear model, and what a Pax loss function reports beside it."""
    del key
    fixed, rows = fixed_and_batch
    errors = jnp.square(rows.x @ weights.w + weights.b - rows.y) * fixed.scale
    count = rows.weights.sum()
    loss = (errors * rows.weights).sum() / count
    metrics = NestedMap(
        total_loss=(loss, count), error=(errors.mean(), jnp.float32(rows.x.shape[0]))
    )
    summaries = {"error_scalar": errors.mean(), "errors_image": errors[:1]}
    per_example = NestedMap(y=rows.y)
    return loss, sgf.GradAuxInfo(
        loss_weight=count, aux_info=(loss, metrics, {}, summaries, per_example, {})
    )


def gradient(rows, dtype="float32", steps=A, loss=loss_fn):
    config = pax_fiddle.Config(
        AccumulatedGradient, accumulation_steps=steps, accumulation_dtype=dtype
    )
    fixed = NestedMap(scale=jnp.float32(0.25))
    return jax.jit(
        lambda v, r: config.Instantiate().grad_fn(loss, v, (fixed, r), jax.random.PRNGKey(0))
    )(model_vars(), rows)


def whole(rows):
    fixed = NestedMap(scale=jnp.float32(0.25))
    return jax.value_and_grad(loss_fn, has_aux=True)(model_vars(), (fixed, rows), None)


def micro_gradients(rows):
    """Each micro-batch's gradient of `w`, [A, D], micro-batch a holding rows a, a + A, ..."""
    return np.stack(
        [whole(jax.tree.map(lambda x, a=a: x[a::A], rows))[1].w for a in range(A)]
    ).astype(np.float32)


@pytest.mark.parametrize("weights", [None, uneven_weights()], ids=["even", "uneven"])
def test_equals_the_whole_batch(weights):
    rows = batch(weights=weights)
    (loss, aux), grads = gradient(rows)
    (expected_loss, expected_aux), expected = whole(rows)
    np.testing.assert_allclose(loss, expected_loss, rtol=1e-6)
    np.testing.assert_allclose(grads.w, expected.w, rtol=2e-6)
    np.testing.assert_allclose(grads.b, expected.b, rtol=2e-6)
    mean_loss, metrics, _, summaries, per_example, _ = aux.aux_info
    _, expected_metrics, _, expected_summaries, _, _ = expected_aux.aux_info
    np.testing.assert_allclose(mean_loss, expected_loss, rtol=1e-6)
    np.testing.assert_allclose(aux.loss_weight, expected_aux.loss_weight)
    for name in ("total_loss", "error"):
        np.testing.assert_allclose(metrics[name], expected_metrics[name], rtol=1e-6)
    np.testing.assert_allclose(
        summaries["error_scalar"], expected_summaries["error_scalar"], rtol=1e-6
    )
    assert summaries["errors_image"].shape == (1, T)
    np.testing.assert_array_equal(per_example.y, rows.y)


def test_float32_sums_are_the_mean_of_the_micro_batches():
    rows = batch(1)
    _, grads = gradient(rows)
    expected = micro_gradients(rows).astype(np.float64).mean(0)
    np.testing.assert_allclose(grads.w, expected, rtol=1e-6)


def test_bfloat16_sums_round_every_gradient_and_every_sum():
    """What jaxformer's scan does: bfloat16 zeros plus bfloat16 gradients, then 1 / steps."""
    rows = batch(1)
    _, grads = gradient(rows, "bfloat16")
    micro = micro_gradients(rows)
    total = np.zeros(D, ml_dtypes.bfloat16)
    for g in micro:
        total = (total + g.astype(ml_dtypes.bfloat16)).astype(ml_dtypes.bfloat16)
    assert grads.w.dtype == jnp.float32
    np.testing.assert_array_equal(grads.w, total.astype(np.float32) / A)
    # The rounding is there to be seen: a float32 sum is not this one.
    assert np.abs(grads.w / micro.mean(0) - 1).max() > 1e-3


def test_micro_batches_keep_the_sharding_of_rows():
    """Every device's rows are split among all micro-batches: none moves to another device."""
    mesh = Mesh(np.array(jax.devices()), ("data",))
    sharded = NamedSharding(mesh, PartitionSpec("data"))
    rows = jnp.arange(64 * 3).reshape(64, 3)
    compiled = (
        jax.jit(lambda x: accumulation.split_batch(x, 4), in_shardings=sharded)
        .lower(rows)
        .compile()
    )
    assert compiled.output_shardings.is_equivalent_to(
        NamedSharding(mesh, PartitionSpec(None, "data")), 3
    )
    for collective in ("all-to-all", "all-gather", "collective-permute"):
        assert collective not in compiled.as_text()
    out = compiled(jax.device_put(rows, sharded))
    np.testing.assert_array_equal(out, [rows[a::4] for a in range(4)])


def test_refuses_a_batch_that_does_not_divide():
    with pytest.raises(
        ValueError, match=r"batch field \S*weights\S* has 24 rows; expected a multiple of 5"
    ):
        gradient(NestedMap(weights=batch().weights), steps=5)


def test_refuses_variables_that_a_step_changes_without_a_gradient():
    def counting(weights, fixed_and_batch, key):
        loss, aux = loss_fn(weights, fixed_and_batch, key)
        info = list(aux.aux_info)
        info[2] = {"non_trainable": NestedMap(steps=jnp.float32(1))}
        return loss, aux.replace(aux_info=tuple(info))

    with pytest.raises(ValueError, match=r"updated variables \['non_trainable'\]"):
        gradient(batch(), loss=counting)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"accumulation_steps": 0}, "accumulation_steps is 0; expected at least 1"),
        ({"accumulation_dtype": "float16"}, "accumulation_dtype is 'float16'; expected one of"),
    ],
)
def test_refuses_impossible_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        pax_fiddle.Config(AccumulatedGradient, **settings).Instantiate()


def test_learner_accumulates_only_where_there_is_something_to_sum():
    settings = {"learning_rate": 1.0, "warmup_steps": 1, "anneal_steps": 1, "decay": "matrices"}
    assert learner(**settings).stochastic_gradient is None
    accumulated = learner(**settings, accumulation_steps=4, accumulation_dtype="bfloat16")
    assert accumulated.stochastic_gradient.accumulation_steps == 4
    assert accumulated.stochastic_gradient.accumulation_dtype == "bfloat16"
