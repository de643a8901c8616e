"""Compares ways to compute attention and loss in memory and time, on this CPU and for a TPU.

    python benchmarks/memory.py
    python benchmarks/memory.py --tpu      with `pip install libtpu==0.0.11.4` in a venv of its own

Each row is Pax's training step of the first layers of a published size. Memory is XLA's: what the
compiled program needs beside its arguments. On this CPU the steps also take turns in processes of
their own, in float32. With --tpu nothing runs: each step is compiled ahead of time for four chips
that are not here, in bfloat16, which takes minutes each.

Expected: of 2,048 tokens, the scores and weights of a layer's 16 heads are 0.5 GB in float32, and
the logits 0.4 GB, of which the backward pass has three. Chunks need a fraction of both.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import results, sides
from codegen_pax.environment import allocator
from experiments.sizes import SIZES, Attention, Remat, Size

TOPOLOGY = {"platform": "tpu", "topology_name": "v4:2x2x1", "chip_config_name": "megacore"}
# Two devices a chip are otherwise seen, and libtpu looks for a machine's metadata.
TPU_ENVIRONMENT = {"JAX_PLATFORMS": "cpu", "TPU_SKIP_MDS_QUERY": "1"}
LENGTH = 2048
LOSS_CHUNK = 512
# Attention, and the tokens of the loss at a time.
WAYS = {
    "plain": (Attention.PLAIN, 0),
    "flash": (Attention.FLASH, 0),
    "plain, loss in chunks": (Attention.PLAIN, LOSS_CHUNK),
    "flash, loss in chunks": (Attention.FLASH, LOSS_CHUNK),
}
# Size -> layers, mesh on TPU, rows of a chip.
CUTS = {
    "350M": (4, (1, 4, 1), 2),
    "2B": (2, (1, 4, 1), 2),
    "6B": (2, (1, 2, 2), 2),
}
ROUNDS = 3


def cut(name: str, way: str) -> Size:
    """Returns the first layers of a size, which compute attention and loss in one of the ways."""
    attention, loss_chunk = WAYS[way]
    return dataclasses.replace(
        SIZES[name], layers=CUTS[name][0], attention=attention, loss_chunk=loss_chunk
    )


def memory(compiled: Any) -> dict[str, float]:
    """Returns what a compiled program needs of each device, in megabytes."""
    analysis = compiled.memory_analysis()
    return {
        "arguments MB": analysis.argument_size_in_bytes / 1e6,
        "temporaries MB": analysis.temp_size_in_bytes / 1e6,
    }


def on_cpu(name: str, way: str) -> None:
    """Serves the step of one row on this CPU, in float32, with nothing computed twice."""
    import jax

    from benchmarks.pax_step import PaxStep

    step = PaxStep(dataclasses.replace(cut(name, way), remat=Remat.SAVE_EVERYTHING), 1, LENGTH)
    about = memory(step.compile())
    state, key = step.initial_state()
    holder, batch = {"state": state}, step.batch()
    del state

    def work() -> dict[str, float]:
        holder["state"], loss = step.take(holder["state"], key, batch)
        return {"loss": float(jax.block_until_ready((holder["state"], loss))[1])}

    sides.serve(work, **about)


def for_tpu(name: str, way: str) -> None:
    """Prints the memory of the step, compiled for a slice of four chips."""
    from jax.experimental import topologies

    from benchmarks.pax_step import PaxStep

    topology = topologies.get_topology_desc(chips_per_host_bounds=(2, 2, 1), **TOPOLOGY)
    _, mesh, rows = CUTS[name]
    rows *= mesh[0] * mesh[1]
    step = PaxStep(cut(name, way), rows, LENGTH, mesh, topology.devices, "bfloat16")
    start = time.perf_counter()
    compiled = step.compile()
    report = {
        **memory(compiled),
        "GB accessed": (compiled.cost_analysis() or {}).get("bytes accessed", 0) / 1e9,
        "compiling s": time.perf_counter() - start,
    }
    print(json.dumps(report), flush=True)


def measure_cpu(name: str) -> list[dict[str, Any]]:
    """Returns a row for each way, which takes turns with the plain one."""

    def side(way: str) -> sides.Side:
        return sides.Side([__file__, "--side", way, "--cut", name], allocator.environment())

    found, plain = [], side("plain")
    for way in WAYS:
        other = side(way)  # one after the other, as each holds gigabytes
        reports = sides.in_turns({"plain": plain, "way": other}, ROUNDS)
        other.stop()
        seconds = sides.median_seconds(reports["way"])
        row = {
            "program": f"{name}, {CUTS[name][0]} layers, 1 x {LENGTH}",
            "way": way,
            **other.about,
            "seconds": seconds,
            "of plain": seconds / sides.median_seconds(reports["plain"]),
            "loss": reports["way"][-1]["loss"],
        }
        found.append(row)
    plain.stop()
    return found


def measure_tpu(name: str) -> list[dict[str, Any]]:
    """Returns a row for each way, each compiled by a child process, which libtpu may abort."""
    layers, mesh, rows = CUTS[name]
    program = f"{name}, {layers} layers, {rows} x {LENGTH} a chip, mesh {'x'.join(map(str, mesh))}"
    found = []
    for way in WAYS:
        side = sides.Side([__file__, "--tpu-side", way, "--cut", name], TPU_ENVIRONMENT)
        found.append({"program": program, "way": way, **side.about})
        side.stop()
        print(found[-1], flush=True)
    return found


def main() -> int:
    """Measures, or serves a side; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tpu", action="store_true", help="compile for a TPU instead")
    parser.add_argument("--cut", choices=[*CUTS], action="append", help="only these sizes")
    parser.add_argument("--side", choices=[*WAYS], help=argparse.SUPPRESS)
    parser.add_argument("--tpu-side", choices=[*WAYS], help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.side:
        on_cpu(args.cut[0], args.side)
        return 0
    if args.tpu_side:
        for_tpu(args.cut[0], args.tpu_side)
        return 0
    if args.tpu:
        os.environ.update(TPU_ENVIRONMENT)
        return results.report(
            "memory_tpu", [r for name in args.cut or CUTS for r in measure_tpu(name)]
        )
    return results.report("memory", [r for name in args.cut or ["350M"] for r in measure_cpu(name)])


if __name__ == "__main__":
    sys.exit(main())
