"""The names, shapes and dtypes of the arrays in a task's checkpoint, without their values."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
from paxml import checkpoint_metadata, checkpoint_version, tasks_lib
from praxis import base_hyperparams, base_input, pax_fiddle, py_utils

# Each array is a folder: `mdl_vars.params.lm.final_ln.bias`.
VARIABLES = "mdl_vars"


@dataclasses.dataclass(frozen=True)
class TrainStateSpec:
    """The structure of a train state.

    Attributes:
        arrays: folder name -> shape and dtype; the names of model variables begin with VARIABLES.
        metadata: what Pax stores with the arrays and compares when it restores.
    """

    arrays: dict[str, jax.ShapeDtypeStruct]
    metadata: dict[str, Any]


def train_state_spec(
    task: pax_fiddle.Config[tasks_lib.SingleTask],
    input_specs: pax_fiddle.Config[base_input.BaseInputSpecsProvider],
) -> TrainStateSpec:
    """Returns the structure of the train state that Pax creates, saves and restores for a task.

    Args:
        task: the task with its model and learner.
        input_specs: specs of a training batch, which initialise the model.
    """
    task = base_hyperparams.instantiate(task)
    specs = base_hyperparams.instantiate(input_specs)
    variables = task.model.abstract_init_with_metadata(specs.get_input_specs())
    shapes = task.create_train_state_unpadded_shapes(variables)
    version = checkpoint_version.get_version(tensorstore_use_ocdbt=False)
    return TrainStateSpec(
        {
            **_named(shapes.step, "step"),
            **_named(shapes.mdl_vars, VARIABLES),
            **_named(shapes.opt_states, "opt_states"),
        },
        checkpoint_metadata.make_metadata(version, shapes, shapes),
    )


def _named(tree: Any, prefix: str) -> dict[str, jax.ShapeDtypeStruct]:
    """Returns the leaves by the names that paxml/checkpoints.py gives them."""
    names = py_utils.extract_prefixed_keys_from_nested_map(
        tree,
        prefix,
        key_separator=".",
        left_separator="_",
        right_separator="",
        is_leaf=py_utils.is_optax_masked_node,
    )
    leaves = jax.tree.leaves(tree)
    return dict(zip(jax.tree.leaves(names), leaves, strict=True))
