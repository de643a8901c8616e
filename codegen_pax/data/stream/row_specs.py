"""The shape of a training batch, told without reading one."""

from __future__ import annotations

import jax
from praxis import base_input, py_utils

from codegen_pax.data.stream import batches


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
            {name: jax.ShapeDtypeStruct(shape, kind) for name, kind in batches.FIELDS.items()}
        )
