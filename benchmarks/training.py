"""Compares a training step of ours, through Pax, with plain JAX and with PyTorch, on this CPU.

    python benchmarks/training.py [--quick]

All sides train the same shapes in float32 with AdamW and clipping by the global norm, and take
turns in processes of their own. The table has tokens a second, our share of plain JAX's and
PyTorch's, and the share of the machine's own rate of matrix products that each side reaches (model
FLOPs, attention counted whole). The script fails if ours is below 0.95 of plain JAX or below
PyTorch.

Expected: the arithmetic of the products decides. A step of 1,024 tokens is 0.6 TFLOP for the
four-layer cut, half of it the projection onto 51,200 ids; Adam moves 28 bytes a parameter, a
twentieth of the time.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import results, sides
from codegen_pax.environment import allocator
from experiments.sizes import SIZES, Remat, Size

CUT = dataclasses.replace(SIZES["350M"], name="350M_4_layers", layers=4)
# Size, rows, tokens in a row, steps before what counts, rounds, steps of a round. PyTorch's memory
# grows in the first steps. After a pause a step runs slower than in training, where one follows the
# other: with threads that sleep, and nothing in the caches.
SHAPES = {
    "Nano": (SIZES["Nano"], 4, 160, 3, 5, 20),
    "cut-512": (CUT, 2, 512, 3, 3, 1),
    "cut-2048": (CUT, 1, 2048, 2, 2, 1),
    "350M": (SIZES["350M"], 1, 512, 1, 2, 1),
}
# Processes of each side. The same program takes up to 9% longer in one process than in another,
# wherever its memory happens to lie, for as long as the process lives.
LAUNCHES = 2
QUICK, QUICK_ROUNDS, QUICK_LAUNCHES = ("cut-512",), 2, 1
RATE = 1e-4
LEAST_OF_PLAIN, LEAST_OF_TORCH = 0.95, 1.0


def ours(size: Size, rows: int, length: int) -> None:
    """Serves Pax's train step of our network, as an experiment configures it."""
    import jax

    from benchmarks.pax_step import PaxStep

    # Nothing is computed twice, and no norms are recorded, as the other sides do.
    size = dataclasses.replace(
        size,
        remat=Remat.SAVE_EVERYTHING,
        profile=dataclasses.replace(size.profile, norm_summaries=False),
    )
    step = PaxStep(size, rows, length)
    state, key = step.initial_state()
    holder, batch = {"state": state}, step.batch()
    del state

    def work(steps: int = 1) -> dict[str, Any]:
        for _ in range(steps):
            holder["state"], loss = step.take(holder["state"], key, batch)
        return {"loss": float(jax.block_until_ready((holder["state"], loss))[1])}

    sides.serve(work)


def plain(size: Size, rows: int, length: int) -> None:
    """Serves the plain step."""
    import jax

    from benchmarks import plain_jax

    step = plain_jax.make_step(size, RATE)
    key = jax.random.PRNGKey(0)
    holder = {"state": plain_jax.initial_state(size, key)}
    ids = jax.random.randint(key, (rows, length + 1), 0, size.vocab_size)

    def work(steps: int = 1) -> dict[str, Any]:
        for _ in range(steps):
            holder["state"], loss = step(holder["state"], ids)
        return {"loss": float(jax.block_until_ready((holder["state"], loss))[1])}

    sides.serve(work)


def torch(size: Size, rows: int, length: int) -> None:
    """Serves a step of transformers' CodeGen with PyTorch's AdamW."""
    import torch
    import transformers

    torch.manual_seed(0)
    config = transformers.CodeGenConfig(
        vocab_size=size.vocab_size,
        n_positions=max(length, size.context),
        n_embd=size.model_dims,
        n_layer=size.layers,
        n_head=size.heads,
        rotary_dim=size.rotary_dims,
        attn_pdrop=0.0,
        embd_pdrop=0.0,
        resid_pdrop=0.0,
    )
    network = transformers.CodeGenForCausalLM(config).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=0.1, fused=True)
    ids = torch.randint(0, size.vocab_size, (rows, length))

    def work(steps: int = 1) -> dict[str, Any]:
        for _ in range(steps):
            optimizer.zero_grad(set_to_none=True)
            loss = network(ids, labels=ids, use_cache=False).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
        return {"loss": loss.item()}

    sides.serve(work, threads=torch.get_num_threads())


def matrix_rate() -> float:
    """Returns the FLOP/s of PyTorch's and JAX's best product of 1,024 x 4,096 x 1,024 matrices."""
    import time

    import jax
    import torch

    flops, best = 2 * 1024 * 4096 * 1024, 0.0
    a, b = torch.randn(1024, 4096), torch.randn(4096, 1024)
    left, right = jax.numpy.asarray(a.numpy()), jax.numpy.asarray(b.numpy())
    product = jax.jit(jax.numpy.matmul)
    for multiply in (lambda: a @ b, lambda: product(left, right).block_until_ready()):
        for _ in range(20):
            start = time.perf_counter()
            multiply()
            best = max(best, flops / (time.perf_counter() - start))
    return best


def main() -> int:
    """Measures the shapes, or serves a side; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help=f"only {QUICK[0]}, in fewer rounds")
    parser.add_argument("--shape", choices=[*SHAPES], action="append", help="only these")
    parser.add_argument("--side", choices=[*SIDES], help="serve this side")
    args = parser.parse_args()
    if args.side:
        size, rows, length, *_ = SHAPES[args.shape[0]]
        SIDES[args.side](size, rows, length)
        return 0
    rate = sides.Side([__file__, "--side", "rate", "--shape", "Nano"])
    names = args.shape or (QUICK if args.quick else SHAPES)
    measured = []
    for name in names:
        row = measure(name, rate, args.quick)
        measured.append(row)
        print(
            f"{name}: {row['of plain']:.3f} of plain, {row['of torch']:.3f} of torch",
            file=sys.stderr,
        )
    rate.stop()
    targets = [
        results.Target(f"{row['shape']}: {key}", row[key], least=least)
        for row in measured
        for key, least in (("of plain", LEAST_OF_PLAIN), ("of torch", LEAST_OF_TORCH))
    ]
    return results.report("training", measured, targets)


def measure(name: str, rate: sides.Side, quick: bool) -> dict[str, Any]:
    """Returns the row of a shape."""
    size, rows, length, before, rounds, steps = SHAPES[name]
    rounds, launches = (QUICK_ROUNDS, QUICK_LAUNCHES) if quick else (rounds, LAUNCHES)
    peak, seconds, shares, own = 0.0, {}, {}, []
    # One pair after the other: three sides of 350M need more than 24 GB.
    for kind in ("plain", "torch"):
        reports: dict[str, list[dict[str, Any]]] = {"ours": [], kind: []}
        for _ in range(launches):
            pair = {
                one: sides.Side([__file__, "--side", one, "--shape", name], allocator.environment())
                for one in reports
            }
            peak = max(peak, rate.work()["rate"])
            for _ in range(before):
                for of_side in pair.values():
                    of_side.work()
            for one, reported in sides.in_turns(pair, rounds, steps=steps).items():
                reports[one] += reported
                pair[one].stop()
        own += reports["ours"]
        seconds[kind] = sides.median_seconds(reports[kind]) / steps
        shares[kind] = seconds[kind] * steps / sides.median_seconds(reports["ours"])
    seconds["ours"] = sides.median_seconds(own) / steps
    tokens = {kind: rows * length / seconds[kind] for kind in ("ours", "plain", "torch")}
    flops = size.flops_per_token(length)
    return {
        "shape": f"{size.name}, {rows} x {length}",
        **{f"{kind} tokens/s": value for kind, value in tokens.items()},
        **{f"of {kind}": share for kind, share in shares.items()},
        "GFLOP/s of products": peak / 1e9,
        **{f"{kind} share": value * flops / peak for kind, value in tokens.items()},
    }


SIDES = {
    "ours": ours,
    "plain": plain,
    "torch": torch,
    "rate": lambda *_: sides.serve(lambda: {"rate": matrix_rate()}),
}

if __name__ == "__main__":
    sys.exit(main())
