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
`product_apart`.
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


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def product_apart(left: jax.Array, right: jax.Array, added: int = 0) -> jax.Array:
    """Returns left @ right with columns of zeros added, float32 [..., M, N + added].

    It is part of a wider array, so that what is computed of it elementwise is stored elsewhere.

    Args:
        left: [..., M, K].
        right: [..., K, N], with the same first axes.
        added: The number of columns to add.
    """
    wider = _widen_matrix(right, 0, added + ADDED)
    return jnp.matmul(left, wider, preferred_element_type=jnp.float32)[..., :-ADDED]


def _forward(left: jax.Array, right: jax.Array, added: int):
    return product_apart(left, right, added), (left, right)


def _backward(added: int, operands: tuple[jax.Array, jax.Array], gradient: jax.Array):
    left, right = operands
    rows, columns = right.shape[-2:]
    wider = _widen_matrix(right, added_columns(rows), added)
    of_left = gradient.astype(left.dtype) @ wider.swapaxes(-1, -2)
    of_right = left.swapaxes(-1, -2) @ gradient.astype(right.dtype)
    return of_left[..., :rows], of_right[..., :columns]


product_apart.defvjp(_forward, _backward)


def _widen_matrix(matrix: jax.Array, rows: int, columns: int) -> jax.Array:
    return widen(matrix, *(0,) * (matrix.ndim - 2), rows, columns)
