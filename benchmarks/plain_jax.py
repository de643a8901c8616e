"""The plainest training step of CodeGen in JAX, the limit of benchmarks/training.py.

One function of arrays, no layers, no mesh, no metrics: a scan over the stacked blocks, attention
that holds its scores, the whole logits, and Adam with decoupled decay written out.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8
WEIGHT_DECAY, CLIP_NORM = 0.1, 1.0


def initialise(size: Any, key: jax.Array) -> dict[str, Any]:
    """Returns the weights of a size, its blocks stacked on a leading axis."""
    layers, dims, vocab = size.layers, size.model_dims, size.vocab_size
    keys = iter(jax.random.split(key, 8))

    def matrix(*shape: int) -> jax.Array:
        return jax.random.normal(next(keys), shape) / math.sqrt(dims)

    return {
        "embedding": matrix(vocab, dims),
        "blocks": {
            "scale": jnp.ones((layers, dims)),
            "bias": jnp.zeros((layers, dims)),
            "qkv": matrix(layers, dims, 3 * dims),
            "out": matrix(layers, dims, dims),
            "up": matrix(layers, dims, 4 * dims),
            "up_bias": jnp.zeros((layers, 4 * dims)),
            "down": matrix(layers, 4 * dims, dims),
            "down_bias": jnp.zeros((layers, dims)),
        },
        "scale": jnp.ones(dims),
        "bias": jnp.zeros(dims),
        "head": matrix(dims, vocab),
        "head_bias": jnp.zeros(vocab),
    }


def _norm(x: jax.Array, scale: jax.Array, bias: jax.Array) -> jax.Array:
    mean = x.mean(-1, keepdims=True)
    variance = jnp.square(x - mean).mean(-1, keepdims=True)
    return (x - mean) * lax.rsqrt(variance + 1e-5) * scale + bias


def _rotate(x: jax.Array, dims: int) -> jax.Array:
    """Rotates the first `dims` dimensions of x [B, T, N, H] by position, in interleaved pairs."""
    frequency = 10_000.0 ** -(jnp.arange(0, dims, 2) / dims)
    angle = jnp.arange(x.shape[1])[:, None, None] * frequency
    sin, cos = jnp.sin(angle), jnp.cos(angle)
    even, odd = x[..., 0:dims:2], x[..., 1:dims:2]
    turned = jnp.stack([even * cos - odd * sin, odd * cos + even * sin], -1)
    return jnp.concatenate([turned.reshape(*x.shape[:-1], dims), x[..., dims:]], -1)


def loss(weights: dict[str, Any], ids: jax.Array, size: Any) -> jax.Array:
    """Returns the mean cross-entropy of ids [B, T + 1], each token from those before it."""
    inputs, labels = ids[:, :-1], ids[:, 1:]
    batch, length = inputs.shape
    causal = jnp.tril(jnp.ones((length, length), bool))

    def block(x, w):
        normed = _norm(x, w["scale"], w["bias"])
        qkv = (normed @ w["qkv"]).reshape(batch, length, 3, size.heads, size.head_dims)
        q, k, v = (qkv[:, :, i] for i in range(3))
        q, k = _rotate(q, size.rotary_dims), _rotate(k, size.rotary_dims)
        scores = jnp.einsum("btnh,bsnh->bnts", q, k) / math.sqrt(size.head_dims)
        attended = jnp.einsum(
            "bnts,bsnh->btnh", jax.nn.softmax(jnp.where(causal, scores, -1e30)), v
        )
        forward = jax.nn.gelu(normed @ w["up"] + w["up_bias"], approximate=True) @ w["down"]
        return x + attended.reshape(x.shape) @ w["out"] + forward + w["down_bias"], None

    x, _ = lax.scan(block, weights["embedding"][inputs], weights["blocks"])
    x = _norm(x, weights["scale"], weights["bias"])
    logits = x.reshape(-1, size.model_dims) @ weights["head"] + weights["head_bias"]
    log_z = jax.nn.logsumexp(logits, axis=-1)
    return jnp.mean(log_z - jnp.take_along_axis(logits, labels.reshape(-1, 1), axis=1)[:, 0])


def make_step(size: Any, rate: float):
    """Returns a compiled step: (weights, m, v, count), ids [B, T + 1] -> the same, and the loss."""

    def step(state, ids):
        weights, m, v, count = state
        value, gradient = jax.value_and_grad(loss)(weights, ids, size)
        norm = jnp.sqrt(sum(jnp.sum(jnp.square(g)) for g in jax.tree.leaves(gradient)))
        gradient = jax.tree.map(lambda g: g * jnp.minimum(1.0, CLIP_NORM / norm), gradient)
        count += 1
        m = jax.tree.map(lambda m, g: BETA1 * m + (1 - BETA1) * g, m, gradient)
        v = jax.tree.map(lambda v, g: BETA2 * v + (1 - BETA2) * g * g, v, gradient)

        def update(w, m, v):
            change = m / (1 - BETA1**count) / (jnp.sqrt(v / (1 - BETA2**count)) + EPSILON)
            return w - rate * (change + WEIGHT_DECAY * w * (w.ndim > 1))

        return (jax.tree.map(update, weights, m, v), m, v, count), value

    return jax.jit(step, donate_argnums=0)


def initial_state(size: Any, key: jax.Array):
    """Returns the weights, both moments and the count of steps."""
    weights = initialise(size, key)
    zeros = jax.tree.map(jnp.zeros_like, weights)
    return weights, zeros, jax.tree.map(jnp.zeros_like, weights), jnp.float32(0)
