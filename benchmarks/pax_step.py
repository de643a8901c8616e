"""The training step that Pax makes of an experiment, for any size, batch and mesh."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from paxml import partitioning, trainer_lib
from praxis import base_hyperparams, py_utils

from experiments import registry
from experiments.declaration import find_declaration
from experiments.meshes import Mesh
from experiments.sizes import Size

registry.register_all()


class PaxStep:
    """Pax's training step of CodeGen350MMono, with another size, batch and mesh."""

    def __init__(
        self,
        size: Size,
        rows: int,
        length: int,
        mesh: tuple[int, int, int] = (1, 1, 1),
        devices: Sequence[jax.Device] | None = None,
        dtype: str = "float32",
    ):
        """Partitions the step.

        Args:
            size: The network.
            rows: Rows of a batch, in one micro-batch.
            length: Tokens of a row.
            mesh: Devices along replica, data and mdl.
            devices: What to compile for; of this machine without.
            dtype: Of the network's arithmetic.
        """
        declaration = dataclasses.replace(
            find_declaration("CodeGen350MMono"),
            size=size,
            row_length=length,
            batch_rows=rows,
            micro_batch_rows=rows,
            mesh=Mesh(mesh),
            start=None,
        )
        base = registry.experiment_class("CodeGen350MMono")
        experiment = type("Grown", (base,), {"DECLARATION": declaration})()
        self._size, self._shape = size, (rows, length)
        config = experiment.task()
        config.model.fprop_dtype = jnp.dtype(dtype)
        config.train.init_from_checkpoint_rules = {}
        task = base_hyperparams.instantiate(config)
        specs = base_hyperparams.instantiate(experiment.get_input_specs_provider_params())
        self._inputs = specs.get_input_specs()
        devices = devices or jax.devices()[: math.prod(mesh)]
        self._partitioner = partitioning.PjitPartitioner(
            init_is_eval=False,
            reshard_inputs=False,
            task=task,
            device_mesh=np.array(devices).reshape(mesh),
        )
        self._partitioner.setup(task, jax.random.PRNGKey(0), self._inputs)
        self._function, self._input_specs = self._partitioner.partition(
            trainer_lib.train_step_single_learner, self._inputs, is_eval=False
        )

    def compile(self) -> jax.stages.Compiled:
        """Compiles the step without making any weight."""
        metadata = self._partitioner.get_train_state_metadata()
        place = self._placed
        state = jax.tree.map(place, metadata.padded_global_shapes, metadata.partition_specs)
        batch = jax.tree.map(place, self._inputs, self._input_specs)
        key = jax.eval_shape(jax.random.PRNGKey, 0)
        return self._function.lower(state, key, batch, None).compile()

    def _placed(self, array: Any, spec: Any) -> jax.ShapeDtypeStruct:
        sharding = NamedSharding(self._partitioner.global_mesh, spec)
        return jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=sharding)

    def initial_state(self) -> tuple[Any, Any]:
        """Returns a random state and the key of a step."""
        key, state, _ = self._partitioner.initialize_prng_key_and_train_state(
            jax.random.PRNGKey(0), None, None
        )
        return state, self._partitioner.preprocess_prng_key(key)

    def take(self, state: Any, key: Any, batch: py_utils.NestedMap) -> tuple[Any, Any]:
        """Takes a step; returns the state after it and the loss."""
        with self._partitioner.global_mesh:
            state, out = self._function(state, key, batch)
        return state, out.loss

    def batch(self) -> py_utils.NestedMap:
        """Returns a batch of random tokens, each row a document."""
        rng = np.random.default_rng(0)
        rows, length = self._shape
        ids = rng.integers(0, self._size.vocab_size, (rows, length + 1), dtype=np.int32)
        batch = jax.tree.map(lambda x: np.ones(x.shape, x.dtype), self._inputs)
        batch.update(ids=ids[:, :-1], labels=ids[:, 1:], paddings=0 * batch.paddings)
        batch.segment_pos = np.broadcast_to(np.arange(length, dtype=np.int32), ids[:, 1:].shape)
        return batch
