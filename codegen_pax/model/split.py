"""How a batch and the network are split over the devices that a program is traced for."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
from jax.experimental.shard_map import shard_map

from codegen_pax import devices


class Split(NamedTuple):
    """A mesh of several devices and the meaning of its axes.

    Attributes:
        mesh: The mesh.
        replica: The axis that splits rows of the batch, and nothing else.
        data: The axis that splits rows of the batch, and D of the weights.
        model: The axis that splits heads, feed-forward and vocabulary.
    """

    mesh: jax.sharding.Mesh
    replica: str
    data: str
    model: str

    @property
    def rows(self) -> tuple[str, str]:
        """The axes that split the rows of a batch."""
        return self.replica, self.data

    def apply(self, function: Callable, in_specs: Any, out_specs: Any, *arrays: jax.Array) -> Any:
        """Applies a function to the part of the arrays that each device holds."""
        mapped = shard_map(function, self.mesh, in_specs, out_specs, check_rep=False)
        return mapped(*arrays)


def current(axes: Sequence[str] | None) -> Split | None:
    """Returns the split over the mesh of the `with` block around the caller.

    Args:
        axes: The names of the replica, data and model axes; None if the network has no mesh.

    Returns:
        The split; None if there is no mesh, or one of a single device.
    """
    mesh = devices.mesh()
    if axes is None or math.prod(mesh.devices.shape) == 1:
        return None
    return Split(mesh, *axes)
