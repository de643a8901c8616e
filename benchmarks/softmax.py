"""Compares the loss and gradient of our softmax with praxis' FullSoftmax in time, in one run.

    python benchmarks/softmax.py

Expected: half of praxis' time on a CPU, as ours computes one exponential less over [B, T, V], does
no argmax reduction, and has two axes instead of three. The two take turns; the script prints the
medians and their ratio. Run it with GLIBC_TUNABLES=glibc.malloc.hugetlb=1, as `codegen-pax run`
does; otherwise it measures the mapping of fresh pages.
"""

import statistics
import time

import jax
import jax.numpy as jnp
from praxis import base_layer, pax_fiddle
from praxis.layers import embedding_softmax, linears

from codegen_pax.model.softmax import Softmax
from experiments.sizes import SIZES

ROWS, ROUNDS = 4, 7


def gradient_of(cls, size):
    """Return a compiled gradient of the loss, and its arguments."""
    config = pax_fiddle.Config(
        cls,
        name="softmax",
        input_dims=size.model_dims,
        num_classes=size.vocab_size,
        z_loss_weight=1e-4,
        feed_forward_tpl=pax_fiddle.Config(linears.FeedForward, has_bias=True),
    )
    softmax = base_layer.instantiate(config)
    key = jax.random.PRNGKey(0)
    inputs = jax.random.normal(key, (ROWS, size.context, size.model_dims))
    ids = jax.random.randint(key, (ROWS, size.context, 1), 0, size.vocab_size)
    weights = jnp.ones(ids.shape)
    params = softmax.init(key, inputs, weights, ids)["params"]

    def loss(params, inputs):
        out, _ = softmax.apply(
            {"params": params}, inputs, weights, ids, mutable=["aux_loss", "summaries"]
        )
        return out.avg_xent + out.z_loss, out.accuracy

    return jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)), (params, inputs)


def main() -> None:
    """Time a training step's softmax, ours and praxis', in turns."""
    size = SIZES["Nano"]
    sides = {
        name: gradient_of(cls, size)
        for name, cls in (("ours", Softmax), ("praxis", embedding_softmax.FullSoftmax))
    }
    seconds = {name: [] for name in sides}
    for turn in range(ROUNDS + 1):
        for name, (function, arguments) in sides.items():
            start = time.perf_counter()
            jax.block_until_ready(function(*arguments))
            if turn:  # the first compiles
                seconds[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    print(f"{ROWS} x {size.context} tokens, D={size.model_dims}, V={size.vocab_size}, float32")
    for name, median in medians.items():
        print(f"{name:7} {1000 * median:7.0f} ms")
    print(f"ours / praxis: {medians['ours'] / medians['praxis']:.2f}")


if __name__ == "__main__":
    main()
