"""The optimizer against optax's own chain, its decay masks against lists, its state's specs."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from paxml import learners
from praxis import base_layer, optimizers, pax_fiddle, schedules
from praxis.py_utils import NestedMap

from codegen_pax.training.learner import learner

LAYERS, D, F, V = 3, 8, 32, 24
SETTINGS = {
    "learning_rate": 3e-3,
    "warmup_steps": 5,
    "anneal_steps": 20,
    "weight_decay": 0.1,
    "clip_norm": 1.0,
}

# A network's arrays: (shape of one, whether stacked over layers).
ARRAYS = {
    "embedding_w": ((V, D), False),
    "embedding_b": ((D,), False),
    "block_ln_scale": ((D,), True),
    "block_ff_w": ((D, F), True),
    "block_ff_b": ((F,), True),
    "block_attention_w": ((D, 2, 4), True),
    "final_ln_scale": ((D,), False),
    "projection_w": ((D, V), False),
    "projection_b": ((V,), False),
}
# What each recipe decays, by name rather than by rank.
DECAYED = {
    "stacked_rank": {
        "embedding_w",
        "block_ln_scale",
        "block_ff_w",
        "block_ff_b",
        "block_attention_w",
        "projection_w",
    },
    "matrices": {"embedding_w", "block_ff_w", "block_attention_w", "projection_w"},
}


def hparams(mesh_shape=None):
    """Praxis' description of the arrays; on a mesh, the first axis of each is split over data."""
    return NestedMap(
        {
            name: base_layer.WeightHParams(
                shape=shape,
                dtype=jnp.float32,
                mesh_shape=mesh_shape,
                tensor_split_dims_mapping=None
                if mesh_shape is None
                else ["data"] + [None] * (len(shape) - 1),
                repeat_prefix=[LAYERS] if stacked else None,
                repeat_prefix_split_dims_mapping=[-1] if stacked else None,
            )
            for name, (shape, stacked) in ARRAYS.items()
        }
    )


def random_tree(rng, scale=1.0):
    return NestedMap(
        {
            name: jnp.asarray(scale * rng.standard_normal(w.full_shape), jnp.float32)
            for name, w in hparams().items()
        }
    )


def instance(**settings):
    return learner(**{**SETTINGS, **settings}).set(name="learner").Instantiate()


def stepper(pax=None, **settings):
    """(initial state function, one Pax update: (weights, state, gradients) -> both)."""
    pax = pax or instance(**settings)

    def step(weights, state, gradients):
        with base_layer.JaxContext.new_context():
            updates, state = pax.update_states(gradients, state, weights, hparams())
            return pax.apply_gradient(weights, updates, hparams()), state

    return pax.get_grad_tx(hparams()).init, step


def optax_chain(decay):
    """The reference's chain, with its schedule written out and its mask a list of names."""

    def schedule(step):
        done = jnp.clip((step - 5) / 20, 0, 1)
        annealed = 3e-3 - (3e-3 - 3e-4) * (1 - jnp.cos(jnp.pi * done)) / 2
        return jnp.where(step <= 5, 3e-3 * step / 5, annealed)

    mask = NestedMap({name: name in DECAYED[decay] for name in ARRAYS})
    return optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.scale_by_adam(),
        optax.add_decayed_weights(0.1, mask),
        optax.scale(-1),
        optax.scale_by_schedule(schedule),
    )


@pytest.mark.parametrize("decay", DECAYED)
def test_steps_as_the_optax_chain(decay):
    rng = np.random.default_rng(0)
    init, step = stepper(decay=decay)
    step = jax.jit(step)
    chain = optax_chain(decay)
    weights = expected = random_tree(rng)
    state, expected_state = init(weights), chain.init(weights)

    @jax.jit
    def expected_step(weights, state, gradients):
        updates, state = chain.update(gradients, state, weights)
        return optax.apply_updates(weights, updates), state

    # Global norms from about 0.1, not clipped, to about 10, clipped.
    for scale in np.geomspace(3e-3, 0.3, 30):
        gradients = random_tree(rng, scale)
        weights, state = step(weights, state, gradients)
        expected, expected_state = expected_step(expected, expected_state, gradients)
        for name in ARRAYS:
            np.testing.assert_allclose(
                weights[name], expected[name], rtol=0, atol=1e-6 * np.abs(expected[name]).max()
            )


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e30], ids=["nan", "inf", "norm overflows"])
def test_a_step_whose_gradient_is_not_finite_changes_nothing(bad):
    rng = np.random.default_rng(0)
    init, step = stepper(decay="matrices")
    weights, gradients = random_tree(rng), random_tree(rng)
    weights, state = step(weights, init(weights), gradients)
    gradients.block_ff_w = gradients.block_ff_w.at[1, 2, 3].set(bad)
    after = step(weights, state, gradients)
    jax.tree.map(np.testing.assert_array_equal, after, (weights, state))


def test_steps_as_pax_own_learner_in_less_memory():
    ours = learner(decay="matrices", **SETTINGS)
    stock = pax_fiddle.Config(learners.Learner, name="learner", optimizer=ours.optimizer)
    rng = np.random.default_rng(0)
    weights, gradients = random_tree(rng), random_tree(rng)
    results, temporaries = [], []
    for init, step in (stepper(decay="matrices"), stepper(stock.Instantiate())):
        state = init(weights)
        compiled = jax.jit(step, donate_argnums=(0, 1)).lower(weights, state, gradients).compile()
        results.append(jax.jit(step)(*jax.jit(step)(weights, state, gradients), gradients))
        temporaries.append(compiled.memory_analysis().temp_size_in_bytes)
    jax.tree.map(np.testing.assert_array_equal, *results)
    arrays = sum(weight.nbytes for weight in jax.tree.leaves(weights))
    # The updates, stored before the weights are overwritten; and of Pax, copies of both moments.
    assert 0.9 * arrays < temporaries[0] < 1.2 * arrays < 1.8 * arrays < temporaries[1]


def test_another_optimizer_is_pax_own_learner_s():
    config = learner(decay="matrices", **SETTINGS).set(name="learner")
    config.optimizer = pax_fiddle.Config(
        optimizers.Sgd,
        learning_rate=0.5,
        lr_schedule=pax_fiddle.Config(schedules.Constant),
        clip_gradient_norm_to_value=1e9,
    )
    init, step = stepper(config.Instantiate())
    rng = np.random.default_rng(0)
    weights, gradients = random_tree(rng), random_tree(rng)
    after, _ = step(weights, init(weights), gradients)
    for name in ARRAYS:
        expected = weights[name] - 0.5 * gradients[name]
        np.testing.assert_allclose(after[name], expected, atol=1e-6)


@pytest.mark.parametrize("decay", DECAYED)
def test_decay_alone_reaches_the_listed_arrays(decay):
    """Without a gradient a decayed array shrinks by lr * decay, and another does not change."""
    init, step = stepper(decay=decay, warmup_steps=0)
    weights = random_tree(np.random.default_rng(1))
    after, _ = step(weights, init(weights), jax.tree.map(jnp.zeros_like, weights))
    for name in ARRAYS:
        kept = 1 - 3e-3 * 0.1 if name in DECAYED[decay] else 1.0
        np.testing.assert_allclose(after[name], kept * weights[name], rtol=2e-7, err_msg=name)


def test_layers_are_vectorised_and_each_is_stepped_alike():
    """Moments of stacked arrays lie under the prefix of their layers, whole and raw."""
    init, step = stepper(decay="matrices")
    weights = random_tree(np.random.default_rng(2))
    gradients = random_tree(np.random.default_rng(3), 1e-3)
    _, state = step(weights, init(weights), gradients)
    adam = state["p#3#i-1"][2]
    assert adam["count"].tolist() == [1] * LAYERS
    g = np.asarray(gradients.block_ff_w)
    np.testing.assert_allclose(adam["m"].block_ff_w, 0.1 * g, rtol=1e-6)
    np.testing.assert_allclose(adam["v"].block_ff_w, 0.001 * g**2, rtol=2e-5)


def test_partition_specs_mirror_the_state():
    mesh = [1, 8, 1]
    pax = instance(decay="matrices")
    tx = pax.get_grad_tx(hparams(mesh))
    state = jax.eval_shape(tx.init, random_tree(np.random.default_rng(0)))
    specs = tx.init_partition_spec(hparams(mesh))
    assert set(specs) == set(state) == {"no_prefix", "p#3#i-1"}
    for group in state:
        # praxis wraps the specs of a chain in a MaskedState.
        leaves, tree = jax.tree.flatten(state[group])
        spec_leaves, spec_tree = jax.tree.flatten(specs[group].inner_state)
        assert spec_tree == tree
        assert [s.full_shape for s in spec_leaves] == [x.shape for x in leaves]
        for moment in ("m", "v"):
            for name, (shape, stacked) in ARRAYS.items():
                if stacked == (group != "no_prefix"):
                    spec = specs[group].inner_state[2][moment][name]
                    assert list(spec.tensor_split_dims_mapping) == ["data"] + [None] * (
                        len(shape) - 1
                    )


def test_refuses_to_count_a_layer_axis_that_is_not_there():
    flat = NestedMap(
        w=base_layer.WeightHParams(shape=[4, 4]), b=base_layer.WeightHParams(shape=[4])
    )
    with pytest.raises(
        ValueError, match=r"none of the 2 variables has one.*expected stacked layers"
    ):
        instance(decay="stacked_rank").get_grad_tx(flat)
    state = (
        instance(decay="matrices")
        .get_grad_tx(flat)
        .init(NestedMap(w=jnp.ones((4, 4)), b=jnp.ones(4)))
    )
    assert state[2].m.w.shape == (4, 4)


def test_refuses_an_unknown_decay():
    with pytest.raises(ValueError, match=r"decay is 'rank'; expected one of .*stacked_rank"):
        instance(decay="rank")
