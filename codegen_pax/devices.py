"""The devices that a program is traced for."""

from __future__ import annotations

import jax
from jax.interpreters import pxla


def mesh() -> jax.sharding.Mesh:
    """Returns the mesh of the `with` block around the caller; an empty one outside of any."""
    return pxla.thread_resources.env.physical_mesh


def on_tpu() -> bool:
    """Returns whether the program being traced is for TPUs, by its mesh or the default device."""
    return _traced_for()[0].platform == "tpu"


def on_one_cpu() -> bool:
    """Returns whether the program being traced is for a single CPU device."""
    found = _traced_for()
    return len(found) == 1 and found[0].platform == "cpu"


def _traced_for() -> list[jax.Device]:
    around = mesh()
    return jax.devices()[:1] if around.empty else around.devices.flatten().tolist()
