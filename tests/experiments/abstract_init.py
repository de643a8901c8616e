"""Builds an experiment of every size on a fake mesh of its own; prints its arrays as JSON.

A program of its own, since the number of fake devices is fixed when JAX starts.
"""

import json
import math
import os
import sys

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=256"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import jax
from jax.experimental import mesh_utils
from paxml import partitioning
from praxis import base_hyperparams

import codegen  # noqa: F401
from experiments import registry
from experiments.sizes import SIZES


def ways(spec, axis_sizes) -> int:
    """Into how many different parts a partition spec cuts an array."""
    axes = [
        axis
        for entry in spec
        if entry
        for axis in (entry if isinstance(entry, tuple) else (entry,))
    ]
    return math.prod(axis_sizes[axis] for axis in axes)


def describe(name: str) -> dict:
    experiment = registry.experiment_class(name)()
    mesh_shape = experiment.declaration().mesh.shape
    task = base_hyperparams.instantiate(experiment.task())
    specs = base_hyperparams.instantiate(experiment.get_input_specs_provider_params())
    devices = mesh_utils.create_device_mesh(
        mesh_shape, jax.devices()[: math.prod(mesh_shape)], contiguous_submeshes=False
    )
    partitioner = partitioning.PjitPartitioner(
        init_is_eval=False, reshard_inputs=False, task=task, device_mesh=devices
    )
    partitioner.setup(task, jax.random.PRNGKey(0), specs.get_input_specs())
    metadata = partitioner.get_train_state_metadata()
    axis_sizes = dict(zip(task.model.mesh_axis_names, mesh_shape, strict=True))
    shapes = metadata.padded_global_shapes
    partitions = metadata.partition_specs
    arrays = []
    for group in ("mdl_vars", "opt_states"):
        leaves = jax.tree_util.tree_flatten_with_path(getattr(shapes, group))[0]
        specs = jax.tree_util.tree_leaves(
            getattr(partitions, group), is_leaf=lambda x: isinstance(x, jax.sharding.PartitionSpec)
        )
        for (path, leaf), spec in zip(leaves, specs, strict=True):
            arrays.append(
                {
                    "group": group,
                    "name": jax.tree_util.keystr(path),
                    "size": math.prod(leaf.shape),
                    "bytes": math.prod(leaf.shape) * leaf.dtype.itemsize,
                    "ways": ways(spec, axis_sizes),
                }
            )
    return {"devices": int(math.prod(mesh_shape)), "arrays": arrays}


if __name__ == "__main__":
    actual = {name: describe(name) for name in (f"CodeGen{size}Mono" for size in SIZES)}
    json.dump(actual, sys.stdout)
