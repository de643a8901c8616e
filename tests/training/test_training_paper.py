"""The paper's recipe through Pax's train step, against the same recipe written out in optax.

It differs from jaxformer's in every way a recipe can: no z-loss, no bias on the embedding, no
decay of layer norms and biases, float32 sums, a cosine that ends with the training.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from tests.training.jaxformer_run import (
    ACCUMULATION,
    NETWORK,
    RECIPE,
    Run,
    batch,
    differences,
    plain,
    weights,
)

STEPS, WARMUP = 10, 3
DECAYED = ("emb_var", "combined_qkv/w", "post/w", "linear/w")


def test_train_step_is_the_recipe_written_out():
    network = {**NETWORK, "embedding_bias": False, "z_loss": 0.0}
    recipe = {
        **RECIPE,
        "warmup_steps": WARMUP,
        "anneal_steps": STEPS - WARMUP,
        "decay": "matrices",
    }
    run = Run((1, 1, 1), network, recipe)
    lm = run.task.model

    def loss(params, rows):
        """Mean cross-entropy, and nothing else, of logits [B, T, V]."""
        predictions = lm.apply(
            {"params": {"lm": params}}, rows, method=lm.compute_predictions, mutable=False
        )
        return optax.softmax_cross_entropy_with_integer_labels(
            predictions.logits, rows.labels
        ).mean()

    def decays(path, _):
        return "/".join(key.key for key in path).endswith(DECAYED)

    expected = weights("init", embedding_bias=False)
    mask = jax.tree_util.tree_map_with_path(decays, expected)
    assert sum(jax.tree.leaves(mask)) == 6  # of 13: two tables, four matrices of a block
    assert len(jax.tree.leaves(mask)) == 13
    rate = optax.warmup_cosine_decay_schedule(
        0.0, RECIPE["learning_rate"], WARMUP, STEPS, RECIPE["learning_rate"] / 10
    )
    chain = optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.adamw(rate, b1=0.9, b2=0.999, eps=1e-8, weight_decay=0.1, mask=mask),
    )

    loss_and_gradient = jax.jit(jax.value_and_grad(loss))  # of one micro-batch: compiled once

    @jax.jit
    def apply(params, state, grads):
        mean = jax.tree.map(lambda *g: sum(g) / ACCUMULATION, *grads)
        updates, state = chain.update(mean, state, params)
        return optax.apply_updates(params, updates), state

    def expected_step(params, state, rows):
        micro_batches = [jax.tree.map(lambda x, a=a: x[a::ACCUMULATION], rows) for a in range(4)]
        losses, grads = zip(
            *(loss_and_gradient(params, micro) for micro in micro_batches), strict=True
        )
        return *apply(params, state, grads), sum(losses) / ACCUMULATION

    state = chain.init(jax.tree.map(jnp.asarray, expected))
    for step in range(STEPS):
        _, found_loss, _, found_rate = run.step(batch(step))
        expected, state, expected_loss = expected_step(expected, state, batch(step))
        np.testing.assert_allclose(found_loss, expected_loss, rtol=1e-6)
        np.testing.assert_allclose(found_rate, rate(step), rtol=1e-6)
    actual = differences(run.weights, plain(expected))
    assert max(jax.tree.leaves(actual)) < 5e-6, actual
