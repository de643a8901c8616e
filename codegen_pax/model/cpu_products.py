"""Shapes the matrix products of a CPU so that they, and the exponentials of them, are fast.

Eigen's product, which jaxlib 0.5.3 uses, is slow where the rows of a matrix are a multiple of 4 KiB
apart, since they share few sets of a core's caches. Of a machine's 155 GFLOP/s it reaches 78 if the
output has 4,096 columns, and 150 at 4,112; a matrix [4096, 1024] that is multiplied transposed, as
for a gradient, 84, and 138 with 1,040 columns. Rows of 51,200 want to begin four cache lines apart:
128 with 16 columns more, 149 with 64. The widths of the published sizes are such multiples. The
columns added are zeros; they cost a hundredth, and no number changes.

XLA writes the results of an elementwise operation over an operand that nothing else reads, and LLVM
computes such a loop number by number, as it must expect that the two overlap: exponentials, and
what is as long, take seven times as long. An array of another shape is never written over, hence
`product`'s `apart`.
"""

import functools

import jax
import jax.numpy as jnp

from codegen_pax import devices

SLOW_MULTIPLE = 1024  # float32 numbers
ADDED = 16  # a cache line
LONG, ADDED_TO_LONG = 1 << 15, 64


def added_columns(width: int) -> int:
    """Returns how many columns to add to a matrix of `width`: none but on a single CPU device."""
    if width % SLOW_MULTIPLE or not devices.on_one_cpu():
        return 0
    return ADDED if width < LONG else ADDED_TO_LONG


def widen(array: jax.Array, *added: int, value: float = 0) -> jax.Array:
    """Returns the array with so many more places along each axis, filled with `value`."""
    return jnp.pad(array, [(0, columns) for columns in added], constant_values=value)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def product(
    left: jax.Array,
    right: jax.Array,
    added: int = 0,
    dtype: jnp.dtype | None = None,
    apart: bool = False,
) -> jax.Array:
    """Returns left @ right with columns of zeros added, [M, N + added].

    A gradient widens `right` again: kept from the forward pass, it would be stored for each layer.

    Args:
        left: [M, K], or wider: what is right of K is multiplied by zeros.
        right: [K, N].
        added: The number of columns to add.
        dtype: The type of what is returned, and what it is added up in; else that of the operands.
        apart: Whether it is part of a wider array, so that what is computed of it elementwise is
            stored elsewhere.
    """
    wider = widen(right, left.shape[1] - len(right), added + ADDED * apart)
    return jnp.matmul(left, wider, preferred_element_type=dtype)[:, : right.shape[1] + added]


def _forward(left: jax.Array, right: jax.Array, *settings):
    return product(left, right, *settings), (left, right)


def _backward(added: int, _dtype, _apart, operands: tuple[jax.Array, ...], gradient: jax.Array):
    left, right = operands
    (rows, columns), width = right.shape, left.shape[1]
    wider = widen(right, max(width - rows, added_columns(rows)), added)
    of_left = gradient.astype(left.dtype) @ wider.T
    of_right = left.T @ gradient.astype(right.dtype)
    return of_left[:, :width], of_right[:rows, :columns]


product.defvjp(_forward, _backward)


@jax.custom_vjp
def product_of_transposed(left: jax.Array, right: jax.Array) -> jax.Array:
    """Returns left @ right.T, [M, N] of [M, K] and [N, K].

    Its gradient for `right` is not transposed, as that for `right.T` would be.
    """
    rows, columns = map(added_columns, right.shape)
    wider = widen(right, rows, columns)
    return (widen(left, 0, columns) @ wider.T)[:, : len(right)]


def _forward_of_transposed(left: jax.Array, right: jax.Array):
    return product_of_transposed(left, right), (left, right)


def _backward_of_transposed(operands: tuple[jax.Array, jax.Array], gradient: jax.Array):
    left, right = operands
    columns = right.shape[1]
    of_left = gradient @ widen(right, 0, added_columns(columns))
    return of_left[:, :columns], gradient.T @ left


product_of_transposed.defvjp(_forward_of_transposed, _backward_of_transposed)
