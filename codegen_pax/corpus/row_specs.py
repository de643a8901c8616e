"""The shape of a training batch, told without reading one."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from praxis import base_input, py_utils

# What every row says of each of its T positions; see `features.py`.
ROW_FIELDS = {
    "ids": jnp.int32,
    "labels": jnp.int32,
    "weights": jnp.float32,
    "paddings": jnp.float32,
    "segment_ids": jnp.int32,
    "segment_pos": jnp.int32,
}


class RowSpecs(base_input.BaseInputSpecsProvider):
    """Gives Pax the specs it initialises a network with, so that building touches no data.

    Attributes:
      batch_size: rows that one process reads.
      row_length: T.
    """

    batch_size: int = 0
    row_length: int = 0

    def get_input_specs(self) -> py_utils.NestedMap:
        """Every field of a row, [B, T]."""
        shape = (self.batch_size, self.row_length)
        return py_utils.NestedMap(
            {name: jax.ShapeDtypeStruct(shape, dtype) for name, dtype in ROW_FIELDS.items()}
        )
