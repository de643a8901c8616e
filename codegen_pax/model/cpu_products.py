"""Widens matrix products on a CPU where XLA's are slow.

Eigen's product, which jaxlib 0.5.3 uses, is slow where the rows of a matrix are a multiple of 4 KiB
apart, since they share few sets of a core's caches. Of a machine's 155 GFLOP/s it reaches 78 if the
output has 4,096 columns, and 150 at 4,112; a matrix [4096, 1024] that is multiplied transposed, as
for a gradient, 84, and 138 with 1,040 columns. Rows of 51,200 want to begin four cache lines apart:
128 with 16 columns more, 149 with 64. The widths of the published sizes are such multiples. The
columns added are zeros; they cost a hundredth, and no number changes.
"""

import jax
import jax.numpy as jnp

from codegen_pax.model import split

SLOW_MULTIPLE = 1024  # float32 numbers
ADDED = 16  # a cache line
LONG, ADDED_TO_LONG = 1 << 15, 64


def added_columns(width: int) -> int:
    """Returns how many columns to add to a matrix of `width`: none but on a single CPU device."""
    if width % SLOW_MULTIPLE or not split.on_one_cpu():
        return 0
    return ADDED if width < LONG else ADDED_TO_LONG


def widen(array: jax.Array, *added: int, value: float = 0.0) -> jax.Array:
    """Returns the array with so many more places along each axis, filled with `value`."""
    return jnp.pad(array, [(0, columns) for columns in added], constant_values=value)
