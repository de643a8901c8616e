"""Widens matrix products on a CPU where XLA's are slow.

Where the rows of a product's output are a multiple of 8 KiB apart, they fall into few sets of a
core's second cache, and Eigen's product, which jaxlib 0.5.3 uses, reaches half of its rate: of
1,024 x 1,024 by 1,024 x N matrices, 78 GFLOP/s at N = 4,096 and 150 at 4,112, of a machine's 155.
The feed-forward's width and the vocabulary of the published sizes are such multiples. Sixteen
columns of zeros more cost less than a hundredth, and no number changes.
"""

import jax
import jax.numpy as jnp

from codegen_pax.model import split

SLOW_MULTIPLE = 2048  # float32 numbers
ADDED = 16  # a cache line


def added_columns(width: int) -> int:
    """Returns how many columns to add to an output of `width`: none but on a single CPU device."""
    return ADDED if width % SLOW_MULTIPLE == 0 and split.on_one_cpu() else 0


def widen(array: jax.Array, columns: int, axis: int, value: float = 0.0) -> jax.Array:
    """Returns the array with `columns` more places along an axis, filled with `value`."""
    widths = [(0, columns if i == axis else 0) for i in range(array.ndim)]
    return jnp.pad(array, widths, constant_values=value)
