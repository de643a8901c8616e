"""25 steps of Pax's own train step against the run that jaxformer itself made."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding

from tests.training.jaxformer_run import (
    ACCUMULATION,
    ARRAYS,
    RECIPE,
    Run,
    batch,
    differences,
    weights,
)

STEP, LOSS, NORM, RATE = range(4)


@pytest.fixture(
    scope="module",
    params=[(1, 1, 1), (2, 2, 2), (1, 4, 2)],  # without replicas, as every declared mesh
    ids=lambda shape: "x".join(map(str, shape)),
)
def trained(request):
    """(the run after its last step, a row a step in the fixture's columns)."""
    run = Run(request.param)
    rows = np.array([run.step(batch(step)) for step in range(len(ARRAYS["steps"]))])
    # The fixture's norm is of the sum over micro-batches.
    rows[:, NORM] *= ACCUMULATION
    return run, rows


@pytest.mark.parametrize("column", [STEP, LOSS, NORM, RATE], ids=["step", "loss", "norm", "rate"])
def test_every_step_is_the_reference(trained, column):
    _, rows = trained
    np.testing.assert_allclose(rows[:, column], ARRAYS["steps"][:, column], rtol=1e-6)


def test_final_weights_are_the_reference(trained):
    run, _ = trained
    actual = differences(run.weights, weights("final"))
    assert max(jax.tree.leaves(actual)) < 5e-6, actual


def test_optimizer_state_lies_where_its_specs_and_weights_say(trained):
    """The specs that checkpoints and the step are built on are those of the state's arrays."""
    run, _ = trained
    states, specs = run.state.opt_states, run.specs.opt_states
    assert jax.tree.structure(specs) == jax.tree.structure(states)
    for state, spec in zip(jax.tree.leaves(states), jax.tree.leaves(specs), strict=True):
        expected = NamedSharding(run.mesh, spec)
        assert state.sharding.is_equivalent_to(expected, state.ndim), (state.sharding, spec)

    placed = {tuple(path): v.sharding for path, v in paths(run.state.mdl_vars)}
    moments = [(path, value) for path, value in paths(states) if "params" in path]
    assert len(moments) == 2 * len(placed)  # m and v
    for path, value in moments:
        weight = placed[tuple(path[path.index("params") :])]
        assert value.sharding.is_equivalent_to(weight, value.ndim), path


def test_bfloat16_stays_beside_the_reference():
    """The dtypes of the real sizes: bfloat16 activations and sums, float32 weights and moments.

    The fixture is float32, and bfloat16 holds 8 bits: a loss is right to about 2e-3.
    """
    recipe = {**RECIPE, "accumulation_dtype": "bfloat16"}
    run = Run((1, 1, 1), recipe=recipe, fprop_dtype=jnp.bfloat16)
    losses = [run.step(batch(step))[LOSS] for step in range(len(ARRAYS["steps"]))]
    np.testing.assert_allclose(losses, ARRAYS["steps"][:, LOSS], rtol=2e-3)
    arrays = jax.tree.leaves((run.state.mdl_vars, run.state.opt_states))
    assert {str(x.dtype) for x in arrays if x.size > 3} == {"float32"}


def paths(tree):
    """(keys as a list of strings, leaf) of every leaf."""
    flat, _ = jax.tree_util.tree_flatten_with_path(tree)
    return [([str(getattr(k, "key", k)) for k in path], leaf) for path, leaf in flat]
