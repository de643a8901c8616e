"""What a compiled program does is counted by its loops' trips."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from benchmarks import hlo


def test_a_product_in_a_loop_counts_as_often_as_it_runs():
    def inner(x, weights):
        return lax.scan(lambda x, w: (jnp.tanh(x @ w), None), x, weights)[0]

    def outer(x, weights):
        return lax.fori_loop(0, 3, lambda _, x: inner(x, weights), x) @ jnp.ones((16, 8))

    shapes = (jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((4, 16), (7, 16, 16)))
    program = hlo.Program(jax.jit(outer).lower(*shapes).compile().as_text())
    assert program.product_flops() == 3 * 7 * (2 * 4 * 16 * 16) + 2 * 4 * 16 * 8


def test_the_bytes_of_a_collective_in_a_loop():
    mesh = Mesh(np.array(jax.devices()[:2]), ("data",))
    whole, split = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in ((), ("data",)))

    def sums(x):
        def add(_, total):
            scaled = lax.with_sharding_constraint(x * total[0], split)
            return lax.with_sharding_constraint(scaled.sum(0), whole)

        return lax.fori_loop(0, 5, add, jnp.ones(32))

    x = jax.ShapeDtypeStruct((8, 32), jnp.float32, sharding=split)
    program = hlo.Program(jax.jit(sums).lower(x).compile().as_text())
    assert program.collective_bytes()["all-reduce"] == 5 * 32 * 4


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ("f32[2,3]{1,0}", 24),
        ("bf16[2,8,128]{2,1,0:T(8,128)(2,1)S(1)}", 4096),
        ("(s32[], f32[2]{0}, pred[3]{0})", 15),
        ("s4[3]{0:E(4)}", 2),
    ],
)
def test_the_bytes_of_a_shape(shape, expected):
    assert hlo.nbytes(shape) == expected
