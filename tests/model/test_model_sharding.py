"""The network on a mesh: the same numbers as on one device, and nothing large left whole."""

import functools
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec
from praxis import base_layer, pax_fiddle, py_utils

from codegen_pax import model
from tests.model.random_models import Shape, training_batch

AXES = ("replica", "data", "mdl")
SHAPE = Shape(2, 24, 4, 2, vocab_size=64, batch=8, length=13)
PUBLISHED = {
    "350M": Shape(20, 16, 64, 32, vocab_size=51_200),
    "2B": Shape(32, 32, 80, 64, vocab_size=51_200),
    "6B": Shape(33, 16, 256, 64, vocab_size=51_200),
    "16B": Shape(34, 24, 256, 64, vocab_size=51_200),
}


def is_declared(leaf) -> bool:
    return isinstance(leaf, base_layer.WeightHParams)


def codegen(shape: Shape, mesh_shape) -> model.CodeGenModel:
    config = pax_fiddle.Config(
        model.CodeGenModel,
        name="model",
        lm_tpl=shape.language_model(embedding_bias=True, z_loss=1e-2),
    )
    if mesh_shape:
        config.ici_mesh_shape, config.mesh_axis_names = list(mesh_shape), list(AXES)
        model.shard(config.lm_tpl, mesh_shape=mesh_shape)
    return base_layer.instantiate(config)


def loss_and_gradients(network, batch):
    """Compiles the loss, the logits and the gradients of a batch."""

    def loss(weights, batch):
        def both(network, batch):
            predictions = network.compute_predictions(batch)
            metrics, _ = network.compute_loss(predictions, batch)
            return metrics.total_loss[0], predictions.logits

        context = base_layer.JaxContext.HParams(do_eval=False)
        with base_layer.JaxContext.new_context(hparams=context):
            out, _ = network.apply(
                {"params": weights}, batch, method=both, mutable=["aux_loss", "summaries"]
            )
        return out

    return jax.value_and_grad(loss, has_aux=True)


@functools.cache
def unsharded():
    """Weights, a batch, and what one device makes of them."""
    network = codegen(SHAPE, None)
    ids = np.concatenate([SHAPE.random_ids(), SHAPE.random_ids(seed=1)[:, :1]], axis=1)
    batch = jax.tree.map(jnp.asarray, training_batch(ids))
    weights = jax.jit(network.init)(jax.random.PRNGKey(0), batch)["params"]
    # Biases that are not zero, so that a wrongly split one shows.
    leaves, tree = jax.tree.flatten(weights)
    noise = jax.random.split(jax.random.PRNGKey(1), len(leaves))
    weights = tree.unflatten(
        [w + 0.1 * jax.random.normal(k, w.shape) for w, k in zip(leaves, noise, strict=True)]
    )
    return weights, batch, jax.jit(loss_and_gradients(network, batch))(weights, batch)


# (2, 2, 2) is the mesh on which XLA mixes rows up when D is cut over `mdl` too.
@pytest.mark.parametrize("mesh_shape", [(1, 8, 1), (1, 1, 8), (1, 2, 4), (2, 2, 2)], ids=str)
def test_a_mesh_of_eight_gives_what_one_device_gives(mesh_shape):
    weights, batch, expected = unsharded()
    network = codegen(SHAPE, mesh_shape)
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:8]).reshape(mesh_shape), AXES)
    declared = network.abstract_init_with_metadata(batch)["params"]
    specs = base_layer.var_partition_specs(declared, mesh_shape, AXES)
    put = functools.partial(
        jax.tree.map, lambda x, spec: jax.device_put(x, NamedSharding(mesh, spec))
    )
    rows = PartitionSpec(("replica", "data"))
    with mesh:
        placed = put(weights, specs)
        split = put(batch, jax.tree.map(lambda _: rows, batch))
        program = jax.jit(loss_and_gradients(network, batch)).lower(placed, split).compile()
        actual = program(placed, split)
    assert "all-reduce" in program.as_text()
    ((loss, logits), gradients), ((wanted_loss, wanted_logits), wanted_gradients) = actual, expected
    assert float(loss) == pytest.approx(float(wanted_loss), rel=1e-6)
    np.testing.assert_allclose(logits, wanted_logits, atol=1e-5 * np.abs(wanted_logits).max())
    for a, b in zip(jax.tree.leaves(gradients), jax.tree.leaves(wanted_gradients), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5 * np.abs(b).max())


@pytest.mark.parametrize("mesh_shape", [(1, 8, 1), (1, 2, 4), (2, 2, 2)], ids=str)
def test_prompts_are_continued_on_a_mesh_as_on_one_device(mesh_shape):
    """And no step of the loop gathers a weight over the data axis: that is done once, before."""
    weights, _, _ = unsharded()
    lengths = np.array([5, 1, 3, 5, 4], np.int32)
    prompts = py_utils.NestedMap(ids=SHAPE.random_ids(seed=2)[:5, :5], prefix_lengths=lengths)
    decoder = model.greedy_decoder(prompt_length=5, max_new_tokens=6, eos_id=-1)

    def decode(network, weights):
        context = base_layer.JaxContext.HParams(do_eval=True)
        with base_layer.JaxContext.new_context(hparams=context):
            _, out, _ = network.apply(
                {"params": weights}, decoder, prompts, method=network.decode_with_params
            )
        return out.output_ids, out.logprobs

    ids, logprobs = jax.jit(functools.partial(decode, codegen(SHAPE, None)))(weights)
    network = codegen(SHAPE, mesh_shape)
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:8]).reshape(mesh_shape), AXES)
    batch = jax.tree.map(jnp.asarray, training_batch(SHAPE.random_ids()))
    specs = base_layer.var_partition_specs(
        network.abstract_init_with_metadata(batch)["params"], mesh_shape, AXES
    )
    with mesh:
        placed = jax.tree.map(
            lambda x, spec: jax.device_put(x, NamedSharding(mesh, spec)), weights, specs
        )
        program = jax.jit(functools.partial(decode, network)).lower(placed).compile()
        actual_ids, actual_logprobs = program(placed)
    np.testing.assert_array_equal(actual_ids, ids)
    np.testing.assert_allclose(actual_logprobs, logprobs, atol=1e-5)
    assert len({*np.asarray(ids)[..., 5:].ravel().tolist()}) > 4
    loop = re.search(r"while\(.*body=(%?[\w.-]+)", program.as_text())[1]
    body = program.as_text().split(f"\n{loop} ")[1].split("\n}")[0]
    gathered = re.findall(r"= f32\[([\d,]+)\]\S* all-gather\(", body)
    weight_sizes = {math.prod(map(int, shape.split(","))) for shape in gathered}
    assert max(weight_sizes, default=0) < SHAPE.model_dims**2


def placements(shape: Shape, mesh_shape):
    """Each weight of the network: its path, its bytes a device and how it is split."""
    network = codegen(shape, mesh_shape)
    batch = jax.eval_shape(lambda: training_batch(np.zeros((8, 9), np.int32)))
    declared = network.abstract_init_with_metadata(batch)["params"]
    specs = base_layer.var_partition_specs(declared, mesh_shape, AXES)
    sizes = dict(zip(AXES, mesh_shape, strict=True))
    leaves = jax.tree_util.tree_leaves_with_path(declared, is_leaf=is_declared)
    for (path, weight), spec in zip(leaves, jax.tree.leaves(specs), strict=True):
        axes = [axis for dim in spec if dim for axis in ([dim] if isinstance(dim, str) else dim)]
        parts = math.prod(sizes[axis] for axis in axes)
        size = 4 * math.prod([*(weight.repeat_prefix or []), *weight.shape])
        yield jax.tree_util.keystr(path), size // parts, parts, spec


@pytest.mark.parametrize("name", PUBLISHED)
@pytest.mark.parametrize("mesh_shape", [(1, 8, 1), (1, 256, 1), (1, 32, 8), (1, 64, 4)], ids=str)
def test_no_large_weight_is_left_whole(name, mesh_shape):
    actual = list(placements(PUBLISHED[name], mesh_shape))
    assert len(actual) == 14
    for path, size, parts, _ in actual:
        assert parts > 1 or size <= 2**20, f"{path}: {size} bytes on every device"
    # All matrices are cut over every device of the mesh.
    assert sum(parts == math.prod(mesh_shape) for _, _, parts, _ in actual) >= 7


def test_each_dimension_lies_on_its_axis():
    actual = {path: tuple(spec) for path, _, _, spec in placements(SHAPE, (1, 2, 4))}
    lm, block = "['lm']", "['lm']['transformer']['repeat']['sub']['x_layers_0']"
    expected = {
        f"{lm}['embedding_lookup']['emb_var']": ("mdl", "data"),
        f"{lm}['softmax']['logits_ffn']['linear']['w']": ("data", "mdl"),
        f"{lm}['softmax']['logits_ffn']['bias']['b']": ("mdl",),
        f"{block}['self_attention']['combined_qkv']['w']": (None, "data", "mdl", None),
        f"{block}['self_attention']['post']['w']": ("data", "mdl", None),
        f"{block}['ff_layer']['ffn_layer1']['linear']['w']": ("data", "mdl"),
        f"{block}['ff_layer']['ffn_layer1']['bias']['b']": (("mdl", "data"),),
        f"{block}['ff_layer']['ffn_layer2']['linear']['w']": ("mdl", "data"),
    }
    for path, axes in expected.items():
        # The axis of layers comes first and is not cut.
        layers = (None,) if "repeat" in path else ()
        assert actual[path] == layers + axes, path


@pytest.mark.parametrize("mdl", [4, 8])
def test_24_heads_split_over(mdl):
    parts = {path: parts for path, _, parts, _ in placements(PUBLISHED["16B"], (1, 4, mdl))}
    assert [n for path, n in parts.items() if "combined_qkv" in path] == [4 * mdl]


@pytest.mark.parametrize(
    "shape, mesh_shape, message",
    [
        (PUBLISHED["16B"], (1, 4, 16), "heads 24 cannot be split evenly over the 16 devices"),
        (PUBLISHED["2B"], (1, 3, 2), "model_dims 2560 cannot be split evenly over the 3 devices"),
        (
            Shape(1, 8, 4, 2, vocab_size=30),
            (1, 1, 4),
            "vocab_size 30 cannot be split evenly over the 4 devices of axis mdl",
        ),
    ],
)
def test_uneven_splits_are_refused(shape, mesh_shape, message):
    with pytest.raises(ValueError, match=message):
        model.shard(shape.language_model(), mesh_shape=mesh_shape)
