"""The network in plain JAX with its layers apart, for decoding.

praxis' decoding loop scans over the stacked layers and so copies each layer's weights out of the
stack at every step, on a CPU transposed besides. Here each matrix is split off once, before the
loop, in the layout that the loop reads: [outputs, inputs], against activations with the rows of the
batch as the last axis, so that a step reads every weight once.

The network is that of `layers.py`, and a test keeps the two equal. This module imports JAX alone,
so that a command that only decodes does not wait for Pax.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

NORM_EPSILON = 1e-5
ROTARY_BASE = 10_000.0
# What an axis of an array that is placed on a mesh means: rows of the batch, or parts of the model.
BATCH, MODEL = "batch", "model"

Array = jax.Array
Shard = Callable[..., Array]


def leave(array: Array, *axes: str | None) -> Array:
    """Leaves an array where it is: for one device."""
    del axes
    return array


@dataclasses.dataclass(frozen=True)
class Form:
    """What is not in the shapes of the weights.

    Attributes:
        head_dims: H.
        rotary_dims: The leading dimensions of each head that are rotated by position.
        dtype: The type of activations.
        shard: Places an array on a mesh; called with the meaning of each of its axes.
    """

    head_dims: int
    rotary_dims: int
    dtype: str = "float32"
    shard: Shard = leave


class Norm(NamedTuple):
    """The scale [D] and bias [D] of a layer norm."""

    scale: Array
    bias: Array


class Block(NamedTuple):
    """The weights of one layer, each matrix as [outputs, inputs].

    Attributes:
        norm: The layer norm.
        qkv: [N 3 H, D], a head's query, key and value after one another.
        out: [D, N H].
        ff_in: [F, D].
        ff_in_bias: [F].
        ff_out: [D, F].
        ff_out_bias: [D].
    """

    norm: Norm
    qkv: Array
    out: Array
    ff_in: Array
    ff_in_bias: Array
    ff_out: Array
    ff_out_bias: Array


class Weights(NamedTuple):
    """The weights of a network, its layers apart.

    Attributes:
        embedding: [V, D].
        embedding_bias: [D].
        blocks: One for each layer.
        norm: The last layer norm.
        head: [V, D].
        head_bias: [V].
    """

    embedding: Array
    embedding_bias: Array
    blocks: tuple[Block, ...]
    norm: Norm
    head: Array
    head_bias: Array


class Cache(NamedTuple):
    """The keys [B K, N, S, H] and values [B K, N, H, S] of one layer; S is P + M."""

    keys: Array
    values: Array


def split(params: Mapping[str, Any], form: Form) -> Weights:
    """Splits the parameters of `network.language_model` into the matrices that the loop reads.

    Args:
        params: The tree of the language model, as Pax stores it.
        form: The type to which the weights are cast once, and where they are placed.
    """
    shard = form.shard
    layer = params["transformer"]["repeat"]["sub"]["x_layers_0"]
    attention, forward = layer["self_attention"], layer["ff_layer"]

    def cast(array: Array) -> Array:
        return jnp.asarray(array).astype(form.dtype)

    def norm(tree: Mapping[str, Array], index=()) -> Norm:
        return Norm(cast(tree["scale"][index]), cast(tree["bias"][index]))

    def block(i: int) -> Block:
        dims = attention["combined_qkv"]["w"].shape[2]
        qkv = cast(attention["combined_qkv"]["w"][i]).transpose(2, 0, 3, 1)  # [N, 3, H, D]
        return Block(
            norm(layer["layer_norm"], i),
            shard(qkv.reshape(-1, dims), MODEL, None),
            shard(cast(attention["post"]["w"][i]).reshape(dims, -1), None, MODEL),
            shard(cast(forward["ffn_layer1"]["linear"]["w"][i]).T, MODEL, None),
            shard(cast(forward["ffn_layer1"]["bias"]["b"][i]), MODEL),
            shard(cast(forward["ffn_layer2"]["linear"]["w"][i]).T, None, MODEL),
            cast(forward["ffn_layer2"]["bias"]["b"][i]),
        )

    table, head = params["embedding_lookup"], params["softmax"]["logits_ffn"]
    dims = table["emb_var"].shape[1]
    return Weights(
        shard(cast(table["emb_var"]), MODEL, None),
        cast(table["b"]) if "b" in table else jnp.zeros(dims, form.dtype),
        tuple(block(i) for i in range(attention["post"]["w"].shape[0])),
        norm(params["final_ln"]),
        shard(cast(head["linear"]["w"]).T, MODEL, None),
        shard(cast(head["bias"]["b"]), MODEL),
    )


class Network:
    """The network over a batch whose rows end in one column."""

    def __init__(self, weights: Weights, form: Form):
        self.weights, self.dtype, self.shard = weights, form.dtype, form.shard
        self.rotary_dims, self.head_dims = form.rotary_dims, form.head_dims

    def prefill(self, prompts: Array, starts: Array, room: int) -> tuple[Array, tuple[Cache, ...]]:
        """Reads the prompts [B, P], whose first tokens are in columns `starts` [B].

        Returns:
            The logits [B, V] of the last column, and caches with `room` columns.
        """
        batch, width = prompts.shape
        columns = jnp.arange(width)
        position = jnp.maximum(columns - starts[:, jnp.newaxis], 0)  # [B, P]
        sees = (columns >= starts[:, jnp.newaxis])[:, jnp.newaxis] & (
            columns <= columns[:, jnp.newaxis]
        )  # [B, P, P]
        x = self._embed(prompts.reshape(-1))  # [D, B P]
        caches = []
        for block in self.weights.blocks:
            normed = self._norm(x, block.norm)
            # [N, 3, H, B, P] -> three of [B, N, P, H]
            qkv = self._heads(block, normed).reshape(-1, 3, self.head_dims, batch, width)
            q, k, v = qkv.transpose(1, 3, 0, 4, 2)
            q, k = (self._rotate(part, position[:, jnp.newaxis]) for part in (q, k))
            scores = jnp.einsum("bnth,bnsh->bnts", q * self.head_dims**-0.5, k)
            weights = self._softmax(scores, sees[:, jnp.newaxis])
            attended = jnp.einsum("bnts,bnsh->nhbt", weights, v)
            x = self._block_output(block, x, normed, attended.reshape(-1, batch * width))
            more = room - width
            caches.append(
                Cache(
                    jnp.pad(k, ((0, 0), (0, 0), (0, more), (0, 0))),
                    jnp.pad(v.swapaxes(2, 3), ((0, 0), (0, 0), (0, 0), (0, more))),
                )
            )
        last = x.reshape(-1, batch, width)[:, :, -1]
        return self._logits(last).T, tuple(caches)

    def step(
        self, tokens: Array, column: Array, starts: Array, caches: tuple[Cache, ...]
    ) -> tuple[Array, tuple[Cache, ...]]:
        """Reads one token [B] of each row, in `column` of the caches.

        Returns:
            The logits [V, B] of the next token, and the caches with this one.
        """
        batch, room = tokens.shape[0], caches[0].keys.shape[2]
        position = column - starts  # [B]
        columns = jnp.arange(room)
        sees = (columns >= starts[:, jnp.newaxis]) & (columns <= column)  # [B, S]
        x = self._embed(tokens)  # [D, B]
        after = []
        for block, cache in zip(self.weights.blocks, caches, strict=True):
            normed = self._norm(x, block.norm)
            qkv = self._heads(block, normed).reshape(-1, 3, self.head_dims, batch)
            q, k, v = qkv.transpose(1, 3, 0, 2)  # each [B, N, H]
            q, k = (self._rotate(part, position[:, jnp.newaxis]) for part in (q, k))
            keys = lax.dynamic_update_slice(cache.keys, k[:, :, jnp.newaxis], (0, 0, column, 0))
            values = lax.dynamic_update_slice(cache.values, v[..., jnp.newaxis], (0, 0, 0, column))
            scores = jnp.einsum("bnsh,bnh->bns", keys, q * self.head_dims**-0.5)
            weights = self._softmax(scores, sees[:, jnp.newaxis])
            attended = jnp.einsum("bnhs,bns->bnh", values, weights)
            attended = attended.transpose(1, 2, 0).reshape(-1, batch)
            x = self._block_output(block, x, normed, attended)
            after.append(Cache(keys, values))
        return self._logits(x), tuple(after)

    def _embed(self, ids: Array) -> Array:
        vectors = self.weights.embedding[ids] + self.weights.embedding_bias
        return self.shard(vectors.T, None, BATCH)

    def _norm(self, x: Array, norm: Norm) -> Array:
        """Returns the layer norm of x [D, B], computed in float32."""
        wide = x.astype(jnp.float32)
        mean = wide.mean(0)
        variance = jnp.square(wide - mean).mean(0)
        normed = (wide - mean) * lax.rsqrt(variance + NORM_EPSILON)
        normed = normed * norm.scale[:, jnp.newaxis] + norm.bias[:, jnp.newaxis]
        return normed.astype(self.dtype)

    def _heads(self, block: Block, normed: Array) -> Array:
        return self.shard(block.qkv @ normed, MODEL, BATCH)

    def _block_output(self, block: Block, x: Array, normed: Array, attended: Array) -> Array:
        """Returns x [D, B] + attention + feed-forward."""
        inner = self.shard(block.ff_in @ normed + block.ff_in_bias[:, jnp.newaxis], MODEL, BATCH)
        forward = block.ff_out @ jax.nn.gelu(inner, approximate=True)
        return self.shard(
            x + (block.out @ attended + (forward + block.ff_out_bias[:, jnp.newaxis])), None, BATCH
        )

    def _logits(self, x: Array) -> Array:
        """Returns the logits [V, B] of x [D, B], in float32."""
        normed = self._norm(x, self.weights.norm)
        logits = jnp.matmul(self.weights.head, normed, preferred_element_type=jnp.float32)
        return self.shard(logits + self.weights.head_bias[:, jnp.newaxis], MODEL, BATCH)

    def _rotate(self, x: Array, position: Array) -> Array:
        """Rotates x [..., H] by `position` [...], as `layers.PartialRotaryEmbedding`."""
        frequency = ROTARY_BASE ** -(np.arange(0, self.rotary_dims, 2) / self.rotary_dims)
        angle = position[..., jnp.newaxis] * jnp.asarray(frequency, jnp.float32)
        sin, cos = jnp.sin(angle), jnp.cos(angle)
        even, odd = x[..., 0 : self.rotary_dims : 2], x[..., 1 : self.rotary_dims : 2]
        turned = jnp.stack([even * cos - odd * sin, odd * cos + even * sin], axis=-1)
        turned = turned.reshape(*x.shape[:-1], self.rotary_dims).astype(x.dtype)
        return jnp.concatenate([turned, x[..., self.rotary_dims :]], axis=-1)

    def _softmax(self, scores: Array, sees: Array) -> Array:
        """Returns the weights of what a query sees; a row that sees nothing weighs all alike."""
        masked = jnp.where(sees, scores.astype(jnp.float32), -1e30)
        return jax.nn.softmax(masked, axis=-1).astype(self.dtype)
