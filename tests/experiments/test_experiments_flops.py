"""A size's model FLOPs are those of the program that JAX makes of its network."""

import jax
import numpy as np
import pytest
from praxis import base_layer

from experiments.sizes import SIZES, Size
from tests.model.random_models import Shape, training_batch, training_model

ROWS, LENGTH = 2, 64


def gradient_of_the_loss(shape: Shape):
    """The function from weights to gradients of one batch, and the shapes of the weights."""
    network = training_model(shape, embedding_bias=True, z_loss=1e-4, remat="save_everything")
    batch = training_batch(shape.random_ids())
    weights = jax.eval_shape(network.init, jax.random.PRNGKey(0), batch)["params"]

    def loss(weights):
        (metrics, _), _ = network.apply({"params": weights}, batch, mutable=["aux_loss"])
        return metrics.total_loss[0]

    return jax.grad(loss), weights


def product_flops(jaxpr) -> int:
    """The FLOPs of all matrix products of a program, each loop's as often as it runs."""
    total = 0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            flops = 2 * equation.outvars[0].aval.size
            for axis in contracted:
                flops *= equation.invars[0].aval.shape[axis]
            total += flops
        times = equation.params["length"] if equation.primitive.name == "scan" else 1
        total += times * sum(map(product_flops, jax.core.jaxprs_in_params(equation.params)))
    return total


def size_of(shape: Shape) -> Size:
    dims = (shape.layers, shape.model_dims, shape.heads, shape.head_dims, shape.rotary_dims)
    return Size("Own", *dims, context=LENGTH, vocab_size=shape.vocab_size)


@pytest.fixture
def evaluating():
    with base_layer.JaxContext.new_context(hparams=base_layer.JaxContext.HParams(do_eval=True)):
        yield


def test_model_flops_are_all_matrix_products_of_a_step(evaluating):
    """To the last FLOP, in three layers: the program multiplies all pairs of positions."""
    shape = Shape(3, 2, 16, 8, vocab_size=96, batch=ROWS, length=LENGTH + 1)
    gradient, weights = gradient_of_the_loss(shape)
    with jax.sharding.Mesh(np.array(jax.devices()[:2]), ("data",)):  # on one CPU some are widened
        program = jax.make_jaxpr(gradient)(weights)
    expected = product_flops(program.jaxpr)
    assert size_of(shape).flops_per_token() * ROWS * LENGTH == expected


def test_xla_counts_little_more(evaluating):
    """Its count has what is no matrix product too: softmax, GELU, norms and rotations.

    In one layer, as XLA counts the body of a loop once.
    """
    shape = Shape(1, 2, 64, 32, vocab_size=512, batch=ROWS, length=LENGTH + 1)
    gradient, weights = gradient_of_the_loss(shape)
    actual = size_of(shape).flops_per_token() * ROWS * LENGTH
    counted = jax.jit(gradient).lower(weights).cost_analysis()["flops"]
    assert actual < counted < 1.05 * actual


@pytest.mark.parametrize(
    ("name", "flops", "causal"),
    [
        # 6 * (layers * 12 * D^2 + 51,200 * D) for the weights, 12 * layers * D * 2,048 for the
        # attention, or half of that.
        ("350M", 1_824_522_240 + 503_316_480, 1_824_522_240 + 251_658_240),
        ("16B", 94_296_342_528 + 5_133_828_096, 94_296_342_528 + 2_566_914_048),
    ],
)
def test_published_sizes(name, flops, causal):
    size = SIZES[name]
    assert (size.flops_per_token(), size.causal_flops_per_token()) == (flops, causal)
    assert size.flops_per_token(1_024) == causal  # the attention is proportional to T
