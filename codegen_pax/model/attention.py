"""Attention that does not hold the weights of all pairs of tokens, [B, N, T, T].

Both ways compute what praxis computes: a query weighs the keys of its document up to itself, by a
softmax in float32. Neither reads more of the mask than which document each token is in.
"""

from __future__ import annotations

from enum import StrEnum

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jax.sharding import PartitionSpec
from praxis import pytypes
from praxis.layers import attentions

from codegen_pax import devices
from codegen_pax.errors import InvalidValueError
from codegen_pax.model import cpu_products, split

# Queries that weigh their keys at a time: of 2,048, 9/16 of the pairs are computed.
QUERY_CHUNK = 256
# The kernel's blocks of queries and keys, the largest first. One of its lanes is 128 wide.
KERNEL_BLOCKS = (512, 256, 128)
MASKED = -1e30


class Kind(StrEnum):
    """How attention is computed."""

    PLAIN = "plain"  # all pairs at once: [B, N, T, T] is held in memory
    CHUNKED = "chunked"  # some queries at a time; a backward pass computes their weights again
    FLASH = "flash"  # JAX's kernel for TPUs, and `chunked` on any other device


def documents(mask: jax.Array) -> jax.Array:
    """Returns the first column [B, T] that each token sees, which tells documents apart.

    Args:
        mask: [B, 1, T, T], 0 where a query sees a key: causal, and in one document.

    Raises:
        ValueError: The mask is the same for all queries.
    """
    length = mask.shape[-1]
    if mask.shape[2] != length:
        raise InvalidValueError(f"found a mask {mask.shape}; expected [B, 1, {length}, {length}]")
    columns = jnp.arange(length, dtype=jnp.int32)
    return jnp.min(jnp.where(mask[:, 0] == 0, columns, length), axis=-1)


def chunked_attention(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    document: jax.Array,
    chunk: int = QUERY_CHUNK,
) -> jax.Array:
    """Weighs the values of the keys that each query sees, `chunk` queries at a time.

    scores: [B, N, C, S] = query[a:b] @ key[:b], of the queries a to b and the keys before b
    output: [B, N, C, H] = softmax(scores where seen) @ value[:b]

    The backward pass computes the scores of a chunk again, so that one chunk's are held.

    Args:
        query: [B, T, N, H], already scaled.
        key: [B, T, N, H].
        value: [B, T, N, H].
        document: [B, T], equal for tokens of one document.
        chunk: C, the number of queries.

    Returns:
        [B, T, N, H], in the type of `value`.
    """
    batch, length, heads, dims = query.shape
    # A head's matrices lie together, so that neither product nor gradient is transposed.
    query, key, value = (array.swapaxes(1, 2) for array in (query, key, value))
    if devices.on_one_cpu():
        # One axis of rows and heads: XLA leaves out an axis of 1 row, and then copies the operands
        # that it would read transposed.
        query, key, value = (array.reshape(-1, length, dims) for array in (query, key, value))
    attend = _attend if length <= chunk else jax.checkpoint(_attend)
    outputs = []
    for start in range(0, length, chunk):
        end = min(start + chunk, length)
        seen = (key[..., :end, :], value[..., :end, :], document[:, :end])
        outputs.append(attend(query[..., start:end, :], *seen))
    output = jnp.concatenate(outputs, axis=-2).reshape(batch, heads, length, dims)
    return output.swapaxes(1, 2)


def _attend(query: jax.Array, key: jax.Array, value: jax.Array, document: jax.Array) -> jax.Array:
    """Returns the output [..., C, H] of the last C queries of S keys [..., S, H]."""
    chunk, length = query.shape[-2], key.shape[-2]
    rows, columns = jnp.arange(length - chunk, length), jnp.arange(length)
    same = document[:, -chunk:, jnp.newaxis] == document[:, jnp.newaxis]
    sees = same & (columns <= rows[:, jnp.newaxis])
    weights = _weights(query, key, sees[:, jnp.newaxis])
    return weights.astype(value.dtype) @ value


@jax.custom_vjp
def _weights(query: jax.Array, key: jax.Array, sees: jax.Array) -> jax.Array:
    """Returns the softmax of what each query sees, float32 [..., C, S]; `sees` is [B, 1, C, S]."""
    length = key.shape[-2]
    spare = cpu_products.ADDED if devices.on_one_cpu() else 0  # see `cpu_products`
    key = cpu_products.widen(key, *(0,) * (key.ndim - 2), spare, 0)
    sees = cpu_products.widen(sees, 0, 0, 0, spare)
    scores = jnp.matmul(query, key.swapaxes(-1, -2), preferred_element_type=jnp.float32)
    shape = (*scores.shape[:-1], length)
    scores = scores.reshape(len(sees), -1, *scores.shape[-2:])
    weights = jax.nn.softmax(jnp.where(sees, scores, MASKED)[..., :length], axis=-1)
    return weights.reshape(shape)


def _weights_forward(query: jax.Array, key: jax.Array, sees: jax.Array):
    weights = _weights(query, key, sees)
    return weights, (query, key, weights)


def _weights_backward(residuals: tuple[jax.Array, ...], gradient: jax.Array):
    query, key, weights = residuals  # what is masked weighs 0
    products = gradient * weights
    of_scores = products - weights * jnp.sum(products, axis=-1, keepdims=True)
    of_query = jnp.matmul(of_scores.astype(key.dtype), key)
    of_key = jnp.matmul(of_scores.astype(query.dtype).swapaxes(-1, -2), query)
    return of_query, of_key, None


_weights.defvjp(_weights_forward, _weights_backward)


def flash_attention(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    document: jax.Array,
    over: split.Split | None = None,
) -> jax.Array:
    """Returns the same by JAX's Pallas kernel for TPUs, each device its rows and its heads.

    The kernel takes head dims of 64 and 80, which JAX's newer one, splash attention, refuses.

    Args:
        query: [B, T, N, H], already scaled.
        key: [B, T, N, H].
        value: [B, T, N, H].
        document: [B, T], equal for tokens of one document, and not negative.
        over: The mesh that rows and heads are split over.

    Returns:
        [B, T, N, H], in the type of `query`.
    """
    if over is None:
        return _kernel(query, key, value, document)
    heads = PartitionSpec(over.rows, None, over.model, None)
    tokens = PartitionSpec(over.rows, None)
    specs = (heads, heads, heads, tokens)
    return over.apply(_kernel, specs, heads, query, key, value, document)


def _kernel(query: jax.Array, key: jax.Array, value: jax.Array, document: jax.Array) -> jax.Array:
    # Imported where it is used: it takes a second, and only TPUs need it.
    from jax.experimental.pallas.ops.tpu import flash_attention as kernel

    length = query.shape[1]
    padding = -length % KERNEL_BLOCKS[-1]
    if padding:
        pad = ((0, 0), (0, padding), (0, 0), (0, 0))
        query, key, value = (jnp.pad(array, pad) for array in (query, key, value))
        document = jnp.pad(document, pad[:2], constant_values=-1)
    size = next(size for size in KERNEL_BLOCKS if (length + padding) % size == 0)
    names = (
        *("block_q", "block_k_major", "block_k"),
        *("block_q_major_dkv", "block_k_major_dkv", "block_k_dkv", "block_q_dkv"),
        *("block_k_major_dq", "block_k_dq", "block_q_dq"),
    )
    output = kernel.flash_attention(
        *(array.swapaxes(1, 2) for array in (query, key, value)),
        segment_ids=kernel.SegmentIds(document, document),
        causal=True,
        block_sizes=kernel.BlockSizes(block_b=1, **dict.fromkeys(names, size)),
    )
    return output.swapaxes(1, 2)[:, :length]


class Attention(attentions.DotProductAttention):
    """praxis' attention, of which the way that it is computed can be chosen.

    Only whole sequences are concerned; praxis' own decoding of one token at a time is as it was.

    Attributes:
        kind: A value of `Kind`.
        query_chunk: The queries at a time, where it is chunked.
    """

    kind: str = Kind.PLAIN.value
    query_chunk: int = QUERY_CHUNK

    def _dot_atten(
        self,
        query: pytypes.JTensor,
        key: pytypes.JTensor,
        value: pytypes.JTensor,
        atten_mask: pytypes.JTensor,
        relative_bias: pytypes.JTensor | None = None,
    ) -> tuple[pytypes.JTensor, pytypes.JTensor | None]:
        """Returns the output [B, T, N, H], and the weights [B, N, T, T] if it is plain.

        Args:
            query: [B, T, N, H].
            key: [B, T, N, H].
            value: [B, T, N, H].
            atten_mask: [B, 1, T, T], 0 where a query sees a key: causal, and in one document.
            relative_bias: Only for the plain one.
        """
        if self.kind == Kind.PLAIN:
            return super()._dot_atten(query, key, value, atten_mask, relative_bias)
        query, key, value = map(self._shard_blnh, (self._scale_query(query), key, value))
        document = jnp.broadcast_to(documents(atten_mask), query.shape[:2])
        if self.kind == Kind.FLASH and devices.on_tpu():
            over = split.current(self.mesh_axis_names)
            encoded = flash_attention(query, key, value, document, over)
        else:
            encoded = chunked_attention(query, key, value, document, self.query_chunk)
        encoded = checkpoint_name(encoded, "context")
        return self._shard_blnh(encoded), None
