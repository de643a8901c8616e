"""Parameter counts, initial weights, recomputation and refused settings."""

import math
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from praxis import base_layer

from codegen_pax import model
from tests.model.random_models import Shape, training_batch, training_model

SMALL = Shape(3, 4, 8, 4, vocab_size=96)

# The published sizes, with the counts of the released weights (vocabulary 51,200).
PUBLISHED = {
    "350M": (Shape(20, 16, 64, 32, vocab_size=51_200), 356_712_448),
    "2B": (Shape(32, 32, 80, 64, vocab_size=51_200), 2_779_356_160),
    "6B": (Shape(33, 16, 256, 64, vocab_size=51_200), 7_064_213_504),
    "16B": (Shape(34, 24, 256, 64, vocab_size=51_200), 16_032_155_648),
}


def declared_weights(shape: Shape, **settings) -> list[base_layer.WeightHParams]:
    lm = base_layer.instantiate(shape.language_model(**settings))
    ids = jnp.zeros((1, 8), jnp.int32)
    tree = lm.abstract_init_with_metadata(ids, jnp.zeros(ids.shape))["params"]
    return jax.tree.leaves(tree, is_leaf=lambda x: isinstance(x, base_layer.WeightHParams))


@pytest.mark.parametrize("shape, count", PUBLISHED.values(), ids=PUBLISHED.keys())
def test_parameter_count_is_the_published_one(shape, count):
    def parameters(**settings):
        return sum(
            math.prod([*(weight.repeat_prefix or []), *weight.shape])
            for weight in declared_weights(shape, **settings)
        )

    assert parameters(embedding_bias=False) == count
    assert parameters(embedding_bias=True) == count + shape.model_dims


# A truncated normal at two standard deviations is this much narrower than the normal it was.
TRUNCATED = 0.87962566

# jaxformer's names, how its modules start them, and where Pax holds them. `embed` is a linear layer
# on one-hot tokens, so its fan-in is the vocabulary.
D, LAYERS, VOCABULARY = SMALL.model_dims, SMALL.layers, SMALL.vocab_size
BLOCK = "transformer/repeat/sub/x_layers_0"
INITIAL_STDDEV = {
    "embed/embedding_sharded/~/proj/w": (VOCABULARY**-0.5, "embedding_lookup/emb_var"),
    "transformer/block/~/attn/~/proj_qkv/w": (
        D**-0.5,
        f"{BLOCK}/self_attention/combined_qkv/w",
    ),
    "transformer/block/~/attn/~/proj_out/w": (
        2 / LAYERS / D**0.5,
        f"{BLOCK}/self_attention/post/w",
    ),
    "transformer/block/~/ff/~/proj_in/w": (D**-0.5, f"{BLOCK}/ff_layer/ffn_layer1/linear/w"),
    "transformer/block/~/ff/~/proj_out/w": (
        2 / LAYERS / D**0.5,
        f"{BLOCK}/ff_layer/ffn_layer2/linear/w",
    ),
    "proj/projection/~/linear/w": (D**-0.5, "softmax/logits_ffn/linear/w"),
}


@pytest.fixture(scope="module")
def initial() -> dict[str, np.ndarray]:
    """The initial weights by path."""
    lm = base_layer.instantiate(SMALL.language_model(embedding_bias=True))
    ids = jnp.zeros((1, 8), jnp.int32)
    tree = jax.jit(lm.init)(jax.random.PRNGKey(1), ids, jnp.zeros(ids.shape))["params"]
    return {
        "/".join(key.key for key in path): np.asarray(weight)
        for path, weight in jax.tree_util.tree_leaves_with_path(tree)
    }


@pytest.fixture(scope="module")
def jaxformer_initial() -> dict[str, np.ndarray]:
    """The initial weights of jaxformer's own run of the same size."""
    fixture = pathlib.Path(__file__).parents[1] / "fixtures" / "jaxformer_trajectory.npz"
    with np.load(fixture) as arrays:
        return {name[5:]: arrays[name] for name in arrays if name.startswith("init/")}


@pytest.mark.parametrize("name", INITIAL_STDDEV)
def test_matrices_start_as_in_jaxformer(name, initial, jaxformer_initial):
    stddev, path = INITIAL_STDDEV[name]
    for weight in (initial[path], jaxformer_initial[name]):
        # The sample's own standard deviation strays by 1 / sqrt(2 n) of itself, and less when cut.
        assert weight.std() == pytest.approx(TRUNCATED * stddev, rel=4 / math.sqrt(2 * weight.size))
        # Nothing lies past the cut, and of 3,072 draws and more some come close to it.
        assert 1.98 * stddev < np.abs(weight).max() <= 2 * stddev * (1 + 1e-6)


def test_all_else_starts_at_zero_or_one(initial):
    matrices = {path for _, path in INITIAL_STDDEV.values()}
    others = {path: weight for path, weight in initial.items() if path not in matrices}
    assert len(others) == 8
    for path, weight in others.items():
        assert np.all(weight == (1.0 if path.endswith("scale") else 0.0)), path


TRAINED = Shape(2, 4, 8, 4, vocab_size=32, batch=2, length=11)


def trained_network(remat: str) -> model.CodeGenModel:
    return training_model(TRAINED, embedding_bias=True, z_loss=1e-2, remat=remat)


@pytest.fixture(scope="module")
def initial_weights():
    """Those that every network of this shape starts from, whatever it saves."""
    network = trained_network("save_everything")
    with base_layer.JaxContext.new_context(hparams=base_layer.JaxContext.HParams(do_eval=True)):
        batch = training_batch(TRAINED.random_ids())
        return jax.jit(network.init)(jax.random.PRNGKey(0), batch)["params"]


def gradients(remat: str, weights):
    """The gradients of one batch's loss, and the program that computes them."""
    network = trained_network(remat)
    batch = training_batch(TRAINED.random_ids())
    with base_layer.JaxContext.new_context(hparams=base_layer.JaxContext.HParams(do_eval=True)):

        def loss(weights):
            (metrics, _), _ = network.apply({"params": weights}, batch, mutable=["aux_loss"])
            return metrics.total_loss[0]

        program = jax.jit(jax.grad(loss)).lower(weights)
        return program.compile()(weights), program.as_text()


@pytest.fixture(scope="module")
def everything_saved(initial_weights):
    return gradients("save_everything", initial_weights)


@pytest.mark.parametrize("remat", ["save_nothing", "save_dot_only", "save_out_proj"])
def test_recomputation_changes_the_program_and_no_gradient(
    remat, initial_weights, everything_saved
):
    expected, wanted_program = everything_saved
    actual, program = gradients(remat, initial_weights)
    assert program != wanted_program
    assert all(np.any(np.asarray(leaf)) for leaf in jax.tree.leaves(expected))

    def assert_equal(a, b):
        # A number near zero is a sum of some as large as the largest, in another order.
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-6 * np.abs(b).max())

    jax.tree.map(assert_equal, actual, expected)


def test_unknown_recomputation_names_the_nearest():
    with pytest.raises(ValueError, match=r"called 'save_dots_only'; nearest: save_dot_only"):
        SMALL.language_model(remat="save_dots_only")


def test_heads_must_fill_the_model():
    with pytest.raises(ValueError, match=r"found 32 and 4 \* 4"):
        model.language_model(
            layers=1,
            model_dims=32,
            heads=4,
            head_dims=4,
            rotary_dims=4,
            vocab_size=8,
            embedding_bias=False,
        )


@pytest.mark.parametrize("rotary_dims", [0, 3, 10])
def test_rotary_dimensions_must_be_even_and_fit_the_head(rotary_dims):
    shape = Shape(1, 4, 8, rotary_dims, vocab_size=8)
    with pytest.raises(ValueError, match=f"at most the head's 8 dimensions; found {rotary_dims}"):
        declared_weights(shape)
