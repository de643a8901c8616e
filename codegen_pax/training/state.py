"""What a checkpoint of a task holds: every array of its train state, known without any weights."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
from paxml import checkpoint_metadata, checkpoint_version, tasks_lib
from praxis import base_hyperparams, base_input, pax_fiddle, py_utils

# One folder an array: `mdl_vars.params.lm.final_ln.bias`.
VARIABLES = "mdl_vars"


@dataclasses.dataclass(frozen=True)
class State:
    """A train state without its values.

    Attributes:
        arrays: shape and type by the name of the folder; those of the model begin with VARIABLES.
        metadata: what Pax keeps beside them, and compares when it restores.
    """

    arrays: dict[str, jax.ShapeDtypeStruct]
    metadata: dict[str, Any]


def state(
    task: pax_fiddle.Config[tasks_lib.SingleTask],
    input_specs: pax_fiddle.Config[base_input.BaseInputSpecsProvider],
) -> State:
    """The state that Pax makes, saves and restores for a task.

    Args:
        task: whose model and learner make it.
        input_specs: of a training batch, to initialise the model with.
    """
    task = base_hyperparams.instantiate(task)
    specs = base_hyperparams.instantiate(input_specs)
    variables = task.model.abstract_init_with_metadata(specs.get_input_specs())
    shapes = task.create_train_state_unpadded_shapes(variables)
    version = checkpoint_version.get_version(tensorstore_use_ocdbt=False)
    return State(
        {
            **_named(shapes.step, "step"),
            **_named(shapes.mdl_vars, VARIABLES),
            **_named(shapes.opt_states, "opt_states"),
        },
        checkpoint_metadata.make_metadata(version, shapes, shapes),
    )


def _named(tree: Any, prefix: str) -> dict[str, jax.ShapeDtypeStruct]:
    """The leaves by the names that paxml/checkpoints.py gives them."""
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
