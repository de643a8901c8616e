"""The loss over the vocabulary without the logits [B, T, V]: those of some tokens at a time."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import PartitionSpec

from codegen_pax.model.split import Split


class Loss(NamedTuple):
    """What is known of a batch without its logits.

    Attributes:
        value: The weighted sum; the only one that has gradients.
        xent: [B, T], the cross-entropy of each token.
        log_z: [B, T], logsumexp of its logits.
        argmax: [B, T], its likeliest label, the first of equals.
    """

    value: jax.Array
    xent: jax.Array
    log_z: jax.Array
    argmax: jax.Array


class _Sums(NamedTuple):
    """What is added up over chunks: the value, and its gradients for `w` [D, V] and `b` [V]."""

    value: jax.Array
    w: jax.Array | None
    b: jax.Array | None


@functools.partial(jax.custom_vjp, nondiff_argnums=(6, 7))
def chunked_loss(
    inputs: jax.Array,
    w: jax.Array,
    b: jax.Array,
    labels: jax.Array,
    xent_weights: jax.Array,
    square_weights: jax.Array,
    chunk: int,
    over: Split | None = None,
) -> Loss:
    """Returns a weighted sum of cross-entropies and squares of log_z, `chunk` tokens at a time.

    logits:  [C, V] = inputs[a:b] @ w + b, in float32
    xent:    [C]    = logsumexp(logits) - logits[label]
    value:   []     = sum(xent_weights * xent + square_weights * log_z^2)

    The value is linear in weights that are known beforehand, so its gradient is computed in the
    same pass, while a chunk's logits are there: no product is computed twice, as it would be if the
    backward pass made the logits again. The gradient of `w` is added up in float32.

    Args:
        inputs: [B, T, D].
        w: [D, V].
        b: [V].
        labels: [B, T] int32.
        xent_weights: [B, T] float32; has no gradient.
        square_weights: [B, T] float32; has no gradient.
        chunk: C, the tokens of each device whose logits it holds at once.
        over: The mesh that rows, D and vocabulary are split over.
    """
    arrays = (inputs, w, b, labels, xent_weights, square_weights)
    return _compute(arrays, chunk, over, with_gradients=False)[0]


def _forward(inputs, w, b, labels, xent_weights, square_weights, chunk, over):
    arrays = (inputs, w, b, labels, xent_weights, square_weights)
    loss, gradients = _compute(arrays, chunk, over, with_gradients=True)
    types = jnp.zeros((), w.dtype), jnp.zeros((), b.dtype)
    return loss, (gradients, types)


def _backward(chunk, over, residuals, cotangents: Loss):
    del chunk, over
    (inputs, w, b), (w_like, b_like) = residuals
    scale = cotangents.value
    return (
        (scale * inputs).astype(inputs.dtype),
        (scale * w).astype(w_like.dtype),
        (scale * b).astype(b_like.dtype),
        None,
        None,
        None,
    )


chunked_loss.defvjp(_forward, _backward)


def _compute(arrays: tuple, chunk: int, over: Split | None, *, with_gradients: bool) -> Any:
    """Returns the loss, and the gradients for inputs, w and b, which are None without."""
    local = functools.partial(_of_device, chunk=chunk, over=over, with_gradients=with_gradients)
    if over is None:
        return local(*arrays)
    tokens = PartitionSpec(over.rows, None)
    inputs = PartitionSpec(over.rows, None, None)
    w, b = PartitionSpec(None, over.model), PartitionSpec(over.model)
    gradients = (inputs, PartitionSpec(over.data, over.model), b)
    return over.apply(
        local,
        (inputs, w, b, tokens, tokens, tokens),
        (
            Loss._make((PartitionSpec(), tokens, tokens, tokens)),
            gradients if with_gradients else None,
        ),
        *arrays,
    )


def _of_device(inputs, w, b, labels, xent_weights, square_weights, *, chunk, over, with_gradients):
    """Computes the part of a device: its rows [B, T], and its columns V of the vocabulary."""
    rows, dims = labels.shape, inputs.shape[-1]
    tokens = labels.size
    chunk = min(chunk, tokens)
    model = over and over.model
    columns = jnp.arange(w.shape[1]) + (lax.axis_index(model) * w.shape[1] if model else 0)

    def over_model(reduce, array):
        return reduce(array, model) if model else array

    def in_chunks(array):
        flat = array.reshape(tokens, *array.shape[2:])
        padding = ((0, -tokens % chunk), *((0, 0) for _ in flat.shape[1:]))
        return jnp.pad(flat, padding).reshape(-1, chunk, *flat.shape[1:])

    def add(sums: _Sums, parts):
        x, label, xent_weight, square_weight = parts
        logits = jnp.dot(x, w, preferred_element_type=jnp.float32) + b.astype(jnp.float32)
        largest = over_model(lax.pmax, jnp.max(logits, axis=-1))[:, jnp.newaxis]
        is_label = columns == label[:, jnp.newaxis]
        summands = jnp.exp(logits - largest), jnp.where(is_label, logits, 0.0)
        # One collective for both, as a device of 8 on a CPU may start two in another order.
        sums_of_row = jnp.stack([jnp.sum(summand, axis=-1) for summand in summands])
        power_sum, label_logit = over_model(lax.psum, sums_of_row)
        log_z = largest[:, 0] + jnp.log(power_sum)
        xent = log_z - label_logit
        argmax = jnp.min(jnp.where(logits == largest, columns, jnp.iinfo(jnp.int32).max), axis=-1)
        value = jnp.sum(xent_weight * xent + square_weight * jnp.square(log_z))
        out = (xent, log_z, argmax)
        if not with_gradients:
            return _Sums(sums.value + value, None, None), (*out, None)
        # d log_z / d logits is the softmax.
        softmax_weight = (xent_weight + 2 * square_weight * log_z)[:, jnp.newaxis]
        d_logits = softmax_weight * jnp.exp(logits - log_z[:, jnp.newaxis])
        d_logits -= jnp.where(is_label, xent_weight[:, jnp.newaxis], 0.0)
        narrow = d_logits.astype(w.dtype)
        d_x = jnp.dot(narrow, w.T, preferred_element_type=jnp.float32)
        d_w = jnp.dot(x.T, narrow, preferred_element_type=jnp.float32)
        sums = _Sums(sums.value + value, sums.w + d_w, sums.b + jnp.sum(d_logits, axis=0))
        return sums, (*out, d_x)

    zeros = _Sums(
        jnp.float32(0),
        jnp.zeros(w.shape, jnp.float32) if with_gradients else None,
        jnp.zeros(b.shape, jnp.float32) if with_gradients else None,
    )
    parts = tuple(map(in_chunks, (inputs, labels, xent_weights, square_weights)))
    sums, (xent, log_z, argmax, d_inputs) = lax.scan(add, zeros, parts)
    value, d_w, d_b = sums
    argmax = over_model(lax.pmin, argmax)
    if over:
        value = lax.psum(value, over.rows)
    of_tokens = (array.reshape(-1)[:tokens].reshape(rows) for array in (xent, log_z, argmax))
    loss = Loss(value, *of_tokens)
    if not with_gradients:
        return loss, None
    if over:
        d_b = lax.psum(d_b, over.rows)
        d_w = lax.psum_scatter(d_w, over.data, scatter_dimension=0, tiled=True)
        d_w = lax.psum(d_w, over.replica)
    d_inputs = over_model(lax.psum, d_inputs).reshape(-1, dims)[:tokens]
    return loss, (d_inputs.reshape(inputs.shape).astype(inputs.dtype), d_w, d_b)
