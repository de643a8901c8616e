"""Products widened for a CPU: the same numbers, and nowhere else."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from praxis import base_layer, pax_fiddle

from codegen_pax import model
from codegen_pax.model import cpu_products
from tests.model.random_models import Shape, training_batch

SHAPE = Shape(2, 2, 8, 4, vocab_size=61, batch=3, length=12)
# D = 16 and F = 64 with sixteen columns more; of 33 tokens V = 61 with as many, and as many to be
# apart.
WIDENED = ("[16,80]", "33,93]")


@pytest.fixture(scope="module")
def batch():
    ids = SHAPE.random_ids(seed=3)
    batch = jax.tree.map(jnp.asarray, training_batch(ids))
    batch.weights = batch.weights.at[0, :4].set(0)
    batch.paddings = batch.paddings.at[2, 8:].set(1)
    return batch


def loss_gradients_and_program(batch, weights=None):
    lm = SHAPE.language_model(embedding_bias=True, z_loss=1e-2)
    network = base_layer.instantiate(pax_fiddle.Config(model.CodeGenModel, name="model", lm_tpl=lm))
    if weights is None:
        weights = jax.jit(network.init)(jax.random.PRNGKey(0), batch)["params"]
        weights = jax.tree.map(lambda x: x + 0.1, weights)  # biases that are not zero

    def loss(weights, batch):
        def both(network, batch):
            predictions = network.compute_predictions(batch)
            metrics, _ = network.compute_loss(predictions, batch)
            return metrics.total_loss[0], predictions

        context = base_layer.JaxContext.HParams(do_eval=False)
        with base_layer.JaxContext.new_context(hparams=context):
            out, _ = network.apply(
                {"params": weights}, batch, method=both, mutable=["aux_loss", "summaries"]
            )
        return out

    program = jax.jit(jax.value_and_grad(loss, has_aux=True)).lower(weights, batch).compile()
    return weights, program(weights, batch), program.as_text()


def test_no_number_changes(batch, monkeypatch):
    weights, expected, text = loss_gradients_and_program(batch)
    assert not any(shape in text for shape in WIDENED)
    monkeypatch.setattr(cpu_products, "SLOW_MULTIPLE", 1)
    _, actual, text = loss_gradients_and_program(batch, weights)
    assert all(shape in text for shape in WIDENED)
    for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        a, b = np.asarray(a), np.asarray(b)
        assert a.shape == b.shape and np.isfinite(a).all()
        np.testing.assert_allclose(a, b, atol=1e-6 * max(1.0, np.abs(b).max()))


@pytest.mark.parametrize("width, columns", [(1024, 16), (4096, 16), (51_200, 64), (1000, 0)])
def test_only_widths_that_share_cache_sets_are_widened(width, columns):
    assert cpu_products.added_columns(width) == columns


def test_nothing_is_widened_on_several_devices():
    with jax.sharding.Mesh(np.array(jax.devices()[:2]), ("data",)):
        assert cpu_products.added_columns(4096) == 0


def both_of(product, left, right):
    """Returns a product and the gradients of something computed of it."""

    def loss(left, right):
        output = product(left, right)
        weights = jax.random.normal(jax.random.PRNGKey(2), output.shape)
        return jnp.sum(jnp.exp(output / 8) * weights), output

    return jax.jit(jax.grad(loss, argnums=(0, 1), has_aux=True))(left, right)


def assert_equal(actual, expected):
    jax.tree.map(lambda a, e: np.testing.assert_allclose(a, e, rtol=1e-5, atol=1e-5), actual,
                 expected)  # fmt: skip


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("added", [0, 5])
@pytest.mark.parametrize("more", [0, 3])
def test_a_widened_product_has_the_numbers_and_gradients_of_a_product(more, added, apart):
    left, right = (
        jax.random.normal(jax.random.PRNGKey(seed), shape)
        for seed, shape in enumerate([(7, 4 + more), (4, 9)])
    )

    def widened(left, right):
        return cpu_products.product(left, right, added, jnp.float32, apart)

    def plain(left, right):
        return left[:, :4] @ jnp.concatenate([right, jnp.zeros((4, added))], axis=-1)

    assert_equal(both_of(widened, left, right), both_of(plain, left, right))


@pytest.mark.parametrize("rows, columns", [(9, 4), (1024, 4), (9, 1024), (2048, 1024)])
def test_a_product_of_the_transposed_has_the_numbers_and_gradients_of_one(rows, columns):
    left, right = (
        jax.random.normal(jax.random.PRNGKey(seed), shape) / np.sqrt(columns)
        for seed, shape in enumerate([(7, columns), (rows, columns)])
    )
    turned = both_of(cpu_products.product_of_transposed, left, right)
    assert_equal(turned, both_of(lambda a, b: a @ b.T, left, right))


@pytest.mark.parametrize("dtype", [None, jnp.float32])
def test_a_product_has_the_type_of_its_operands_unless_told(dtype):
    ones = jnp.ones((4, 4), jnp.bfloat16)
    assert cpu_products.product(ones, ones, 2, dtype).dtype == (dtype or jnp.bfloat16)


def test_what_is_computed_of_a_product_apart_is_not_written_over_it():
    def in_one_array(product):
        function = jax.jit(lambda a, b: jnp.exp(product(a, b)))
        program = function.lower(jnp.ones((64, 32)), jnp.ones((32, 128))).compile()
        return program.memory_analysis().temp_size_in_bytes == 0

    assert in_one_array(jnp.matmul)
    assert not in_one_array(lambda a, b: cpu_products.product(a, b, 0, None, True))
