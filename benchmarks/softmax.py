"""Compares the loss and gradient of our softmax with praxis' FullSoftmax in time, in one run.

    python benchmarks/softmax.py

Expected: half of praxis' time on a CPU, as ours computes one exponential less over [B, T, V], does
no argmax reduction, and has two axes instead of three. The two take turns; the script prints the
medians, and fails if ours takes more than 0.8 of praxis' time. Run it by `make bench`, which sets
glibc's allocator as `codegen-pax run` does; otherwise it measures the mapping of fresh pages.
"""

import statistics
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
from praxis import base_layer, pax_fiddle
from praxis.layers import embedding_softmax, linears

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import results
from codegen_pax.model.softmax import Softmax
from experiments.sizes import SIZES

ROWS, ROUNDS = 4, 7
MOST_OF_PRAXIS = 0.8


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


def main() -> int:
    """Time a training step's softmax, ours and praxis', in turns; return the exit status."""
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
    rows = [{"softmax": name, "ms": 1000 * median} for name, median in medians.items()]
    ratio = medians["ours"] / medians["praxis"]
    target = results.Target("time, of praxis'", ratio, most=MOST_OF_PRAXIS)
    return results.report("softmax", rows, [target])


if __name__ == "__main__":
    sys.exit(main())
