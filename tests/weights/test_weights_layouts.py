"""The layouts of Hugging Face and jaxformer, against networks that follow each of them."""

import dataclasses
import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers
from praxis import base_layer

from codegen_pax import model
from codegen_pax.weights import layouts
from tests.weights import in_memory

LAYERS, HEADS, HEAD_DIMS, ROTARY, VOCABULARY = 2, 4, 6, 4, 19
DIMS = layouts.Dimensions(LAYERS, HEADS * HEAD_DIMS, HEADS, VOCABULARY, embedding_bias=False)
WITH_BIAS = dataclasses.replace(DIMS, embedding_bias=True)


def logits(dims: layouts.Dimensions, tree: dict, ids: np.ndarray, head_dims: int, rotary: int):
    """The logits [B, T, V] of Pax."""
    lm = base_layer.instantiate(
        model.language_model(
            layers=dims.layers,
            model_dims=dims.model_dims,
            heads=dims.heads,
            head_dims=head_dims,
            rotary_dims=rotary,
            vocab_size=dims.vocab_size,
            embedding_bias=dims.embedding_bias,
        )
    )
    return np.asarray(lm.apply({"params": tree}, jnp.asarray(ids), jnp.zeros(ids.shape)).logits)


@pytest.fixture(scope="module")
def network():
    """transformers' network with random weights, biases and norms."""
    torch.manual_seed(0)
    config = transformers.CodeGenConfig(
        vocab_size=VOCABULARY,
        n_positions=32,
        n_embd=DIMS.model_dims,
        n_layer=LAYERS,
        n_head=HEADS,
        rotary_dim=ROTARY,
    )
    network = transformers.CodeGenForCausalLM(config).eval()
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(0.3 * torch.randn_like(weight))
    return network


@pytest.fixture
def state(network) -> dict[str, np.ndarray]:
    return {name: weight.numpy() for name, weight in network.state_dict().items()}


@pytest.mark.parametrize("dims", [DIMS, WITH_BIAS], ids=["without bias", "with bias"])
def test_hugging_face_round_trip_is_exact(dims, state):
    tree = in_memory.from_hugging_face(state, dims)
    assert ("b" in tree["embedding_lookup"]) == dims.embedding_bias
    back = in_memory.to_hugging_face(tree, dims)
    assert back.keys() == state.keys()
    for name, array in state.items():
        assert back[name].dtype == array.dtype
        np.testing.assert_array_equal(back[name], array)


def test_tree_is_that_of_the_network(state):
    tree = in_memory.from_hugging_face(state, WITH_BIAS)
    lm = base_layer.instantiate(
        model.language_model(
            layers=LAYERS,
            model_dims=DIMS.model_dims,
            heads=HEADS,
            head_dims=HEAD_DIMS,
            rotary_dims=ROTARY,
            vocab_size=VOCABULARY,
            embedding_bias=True,
        )
    )
    ids = jnp.zeros((1, 3), jnp.int32)
    expected = jax.eval_shape(lm.init, jax.random.PRNGKey(0), ids, 0.0 * ids)["params"]
    assert jax.tree.map(np.shape, tree) == jax.tree.map(lambda x: x.shape, expected)


def test_embedding_bias_is_folded_on_the_way_out(network, state):
    """A network with the bias, and what is exported of it, give the same logits."""
    tree = in_memory.from_hugging_face(state, WITH_BIAS)
    tree["embedding_lookup"]["b"] = np.linspace(-1, 1, DIMS.model_dims, dtype=np.float32)
    ids = np.random.default_rng(0).integers(0, VOCABULARY, (2, 11))
    exported = {
        name: torch.tensor(array)
        for name, array in in_memory.to_hugging_face(tree, WITH_BIAS).items()
    }
    with torch.no_grad():
        expected = torch.func.functional_call(
            network, exported, (torch.tensor(ids),)
        ).logits.numpy()
    actual = logits(WITH_BIAS, tree, ids, HEAD_DIMS, ROTARY)
    np.testing.assert_allclose(actual, expected, atol=1e-5 * np.abs(expected).max())


def test_masks_of_old_checkpoints_are_passed_over(state):
    expected = in_memory.from_hugging_face(state, DIMS)
    state["transformer.h.0.attn.causal_mask"] = np.ones((1, 1, 32, 32), bool)
    actual = in_memory.from_hugging_face(state, DIMS)
    jax.tree.map(np.testing.assert_array_equal, actual, expected)


def change(name: str, new):
    """Returns what replaces one array, or removes it, or adds it."""

    def apply(arrays):
        if new is None:
            del arrays[name]
        else:
            arrays[name] = new

    return apply


@pytest.mark.parametrize(
    "apply, message",
    [
        (
            change("transformer.h.1.ln_1.weight", None),
            "Hugging Face weights: 1 of 21 missing, the first 'transformer.h.1.ln_1.weight'",
        ),
        (
            change("transformer.h.2.ln_1.weight", np.zeros(24)),
            "Hugging Face weights: 1 unknown, the first 'transformer.h.2.ln_1.weight'; "
            "the nearest expected name is 'transformer.h.1.ln_1.weight'",
        ),
        (
            change("transformer.h.0.attn.qkv_proj.weight", np.zeros((24, 72))),
            "Hugging Face weights: transformer.h.0.attn.qkv_proj.weight has shape (24, 72), "
            "expected (72, 24)",
        ),
    ],
    ids=["missing", "unknown", "misshaped"],
)
def test_wrong_hugging_face_arrays_are_named(apply, message, state):
    apply(state)
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        in_memory.from_hugging_face(state, DIMS)


def test_wrong_variables_are_named(state):
    tree = in_memory.from_hugging_face(state, WITH_BIAS)
    message = "Pax weights: 1 unknown, the first 'embedding_lookup/b'"
    with pytest.raises(ValueError, match=message):
        in_memory.to_hugging_face(tree, DIMS)
    del tree["embedding_lookup"]["b"]
    message = "Pax weights: 1 of 14 missing, the first 'embedding_lookup/b'"
    with pytest.raises(ValueError, match=message):
        in_memory.to_hugging_face(tree, WITH_BIAS)


FIXTURE = pathlib.Path(__file__).parents[1] / "fixtures" / "jaxformer_trajectory.npz"
# Sizes of the run in the fixture, from the settings beside it.
RUN = layouts.Dimensions(layers=3, model_dims=32, heads=4, vocab_size=96, embedding_bias=True)
RUN_HEAD_DIMS, RUN_ROTARY, RUN_MP, RUN_Z_LOSS = 8, 4, 4, 1e-4


@pytest.fixture(scope="module")
def run():
    """jaxformer's own run: its initial weights, first tokens [A, B, T + 1] and first loss."""
    with np.load(FIXTURE) as arrays:
        initial = {name[5:]: arrays[name] for name in arrays if name.startswith("init/")}
        return initial, arrays["tokens"][0], arrays["steps"][0, 1]


def loss(dims: layouts.Dimensions, tree: dict, tokens: np.ndarray) -> float:
    """Cross-entropy and z-loss of Pax's logits, in double precision."""
    rows = tokens.reshape(-1, tokens.shape[-1])
    actual = logits(dims, tree, rows[:, :-1], RUN_HEAD_DIMS, RUN_ROTARY).astype(np.float64)
    normaliser = np.logaddexp.reduce(actual, axis=-1)
    correct = np.take_along_axis(actual, rows[:, 1:, np.newaxis], axis=-1)[..., 0]
    return float(np.mean(normaliser - correct + RUN_Z_LOSS * normaliser**2))


@pytest.mark.parametrize("embedding_bias", [True, False])
def test_jaxformer_weights_give_jaxformers_loss(embedding_bias, run):
    initial, tokens, expected = run
    dims = dataclasses.replace(RUN, embedding_bias=embedding_bias)
    tree = in_memory.from_jaxformer(initial, dims, mp_num=RUN_MP)
    assert loss(dims, tree, tokens) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("mp_num", [1, 2])
def test_wrong_number_of_groups_gives_another_loss(mp_num, run):
    initial, tokens, expected = run
    tree = in_memory.from_jaxformer(initial, RUN, mp_num=mp_num)
    assert abs(loss(RUN, tree, tokens) - expected) > 1e-4


def test_jaxformers_embedding_bias_is_kept_or_folded(run):
    initial = dict(run[0])
    bias = np.linspace(-1, 1, RUN.model_dims, dtype=np.float32)
    initial["embed/embedding_sharded/~/proj/b"] = bias
    table = initial["embed/embedding_sharded/~/proj/w"]
    kept = in_memory.from_jaxformer(initial, RUN, mp_num=RUN_MP)["embedding_lookup"]
    np.testing.assert_array_equal(kept["b"], bias)
    np.testing.assert_array_equal(kept["emb_var"], table)
    without = dataclasses.replace(RUN, embedding_bias=False)
    folded = in_memory.from_jaxformer(initial, without, mp_num=RUN_MP)["embedding_lookup"]
    np.testing.assert_array_equal(folded["emb_var"], table + bias)
    assert "b" not in folded


def test_wrong_jaxformer_arrays_are_named(run):
    initial = dict(run[0])
    initial["transformer/block/~/ln/scale"] = np.ones((2, 32))
    message = "jaxformer weights: transformer/block/~/ln/scale has shape (2, 32), expected (3, 32)"
    with pytest.raises(ValueError, match=re.escape(message)):
        in_memory.from_jaxformer(initial, RUN, mp_num=RUN_MP)
