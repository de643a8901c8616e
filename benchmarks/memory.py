"""Compares ways to compute attention and loss in memory and time, on this CPU and for a TPU.

    python benchmarks/memory.py [--quick]
    python benchmarks/memory.py --tpu      with `pip install libtpu==0.0.11.4` in a venv of its own

Each row is Pax's train step of a cut of a published size, with rows of several documents. Memory is
XLA's: what the compiled program needs beside its arguments. On this CPU the steps also take turns
in processes of their own, in float32. With --tpu nothing runs: each step is compiled ahead of time
for chips that are not here, in bfloat16, which takes minutes each.

Expected: on a CPU, chunked attention and loss need a third of the memory of the plain ones and are
no slower.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import os
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import results, sides
from experiments.declaration import find_declaration
from experiments.meshes import Mesh
from experiments.settings import Settings
from experiments.sizes import SIZES, Attention, Remat, Size

TOPOLOGY = {"platform": "tpu", "topology_name": "v4:2x2x1", "chip_config_name": "megacore"}
# Two devices a chip are otherwise seen, and libtpu looks for a machine's metadata.
TPU_ENVIRONMENT = {"JAX_PLATFORMS": "cpu", "TPU_SKIP_MDS_QUERY": "1"}
LENGTH = 2048
LOSS_CHUNK = 512
# Attention and the tokens of the loss at a time.
WAYS = {
    "plain": (Attention.PLAIN, 0),
    "flash": (Attention.FLASH, 0),
    "plain, loss in chunks": (Attention.PLAIN, LOSS_CHUNK),
    "flash, loss in chunks": (Attention.FLASH, LOSS_CHUNK),
}
# Cut -> size, layers, mesh on TPU, rows of a chip.
CUTS = {
    "350M": (4, (1, 4, 1), 2),
    "2B": (2, (1, 4, 1), 2),
    "6B": (2, (1, 2, 2), 2),
}
ROUNDS = 5


def cut(name: str, way: str, **changes: Any) -> Size:
    """Returns a size with few layers that computes attention and loss in one of the ways."""
    attention, loss_chunk = WAYS[way]
    changes = {"layers": CUTS[name][0], **changes}
    return dataclasses.replace(SIZES[name], attention=attention, loss_chunk=loss_chunk, **changes)


def train_step(size: Size, rows: int, mesh: tuple[int, int, int], devices: Any, dtype: str):
    """Returns Pax's partitioner, its step, and the shapes of state, key and batch."""
    import jax
    import jax.numpy as jnp
    import numpy as np
    from paxml import partitioning, trainer_lib
    from praxis import py_utils

    import codegen

    parent = getattr(codegen, f"CodeGen{size.name}Mono")
    declaration = dataclasses.replace(
        find_declaration(f"CodeGen{size.name}Mono"),
        size=size,
        mesh=Mesh(mesh),
        batch_rows=rows,
        micro_batch_rows=rows,
    )
    cls = type("Cut", (parent,), {"DECLARATION": declaration, "__module__": "mine"})
    task = cls(Settings()).task()
    task.model.fprop_dtype = getattr(jnp, dtype)
    partitioner = partitioning.PjitPartitioner(
        init_is_eval=False,
        reshard_inputs=False,
        task=(task := task.Instantiate()),
        device_mesh=np.array(devices).reshape(mesh),
    )
    types = {"weights": jnp.float32, "paddings": jnp.float32}
    names = ("ids", "labels", "weights", "paddings", "segment_ids", "segment_pos")
    shapes = py_utils.NestedMap(
        {n: jax.ShapeDtypeStruct((rows, LENGTH), types.get(n, jnp.int32)) for n in names}
    )
    key = jax.random.PRNGKey(0)
    partitioner.setup(task, key, shapes)
    step, _ = partitioner.partition(trainer_lib.train_step_single_learner, shapes, is_eval=False)
    return partitioner, step, key, shapes


def memory(compiled: Any) -> dict[str, float]:
    """Returns what a compiled program needs, in megabytes."""
    analysis = compiled.memory_analysis()
    return {
        "arguments MB": analysis.argument_size_in_bytes / 1e6,
        "temporaries MB": analysis.temp_size_in_bytes / 1e6,
    }


def on_cpu(name: str, way: str) -> None:
    """Serves the step of one row on this CPU, in float32."""
    import jax
    import numpy as np

    size = cut(name, way, remat=Remat.SAVE_EVERYTHING)
    partitioner, step, key, shapes = train_step(size, 1, (1, 1, 1), jax.devices()[:1], "float32")
    rng = np.random.default_rng(0)
    batch = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)
    batch.ids, batch.labels = rng.integers(0, size.vocab_size, (2, 1, LENGTH), dtype=np.int32)
    batch.weights += 1
    position = np.arange(LENGTH, dtype=np.int32)[np.newaxis]
    batch.segment_ids, batch.segment_pos = 1 + position // 700, position % 700
    key, state, _ = partitioner.initialize_prng_key_and_train_state(key, None, None)
    key = partitioner.preprocess_prng_key(key)
    with partitioner.global_mesh:
        compiled = step.lower(state, key, batch).compile()
    holder = {"state": state}
    del state

    def work() -> dict[str, float]:
        holder["state"], out = compiled(holder["state"], key, batch)
        jax.block_until_ready(holder["state"])
        return {"loss": float(out.loss)}

    sides.serve(work, **memory(compiled))


def for_tpu(name: str, way: str) -> None:
    """Prints the memory of the step, compiled for a slice of four chips."""
    import json

    import jax
    from jax.experimental import topologies

    topology = topologies.get_topology_desc(chips_per_host_bounds=(2, 2, 1), **TOPOLOGY)
    _, mesh, rows = CUTS[name]
    rows *= mesh[0] * mesh[1]
    partitioner, step, key, shapes = train_step(
        cut(name, way), rows, mesh, topology.devices, "bfloat16"
    )
    metadata = partitioner.get_train_state_metadata()
    state = metadata.padded_global_shapes
    state = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), state)
    start = time.perf_counter()
    with partitioner.global_mesh:
        lowered = step.lower(state, jax.ShapeDtypeStruct(key.shape, key.dtype), shapes)
        compiled = lowered.compile()
    cost = compiled.cost_analysis() or {}
    report = {
        **memory(compiled),
        "GB accessed": cost.get("bytes accessed", 0) / 1e9,
        "compiling s": time.perf_counter() - start,
    }
    print(json.dumps(report), flush=True)


def measure_cpu(name: str, ways: list[str]) -> list[dict[str, Any]]:
    """Returns a row for each way, all of which take turns."""
    running = {way: sides.Side([__file__, "--side", way, "--cut", name]) for way in ways}
    reports = sides.in_turns(running, ROUNDS)
    for side in running.values():
        side.stop()
    seconds = {way: sides.median_seconds(reports[way]) for way in ways}
    return [
        {
            "program": f"{name}, {CUTS[name][0]} layers, 1 x {LENGTH}",
            "way": way,
            **running[way].about,
            "seconds": seconds[way],
            "of plain": seconds[way] / seconds[ways[0]],
            "loss": reports[way][-1]["loss"],
        }
        for way in ways
    ]


def measure_tpu(name: str, ways: list[str]) -> list[dict[str, Any]]:
    """Returns a row for each way, each compiled by a child process, which libtpu may abort."""
    layers, mesh, rows = CUTS[name]
    program = f"{name}, {layers} layers, {rows} x {LENGTH} a chip, mesh {'x'.join(map(str, mesh))}"
    found = []
    for way in ways:
        side = sides.Side([__file__, "--tpu-side", way, "--cut", name], TPU_ENVIRONMENT)
        found.append({"program": program, "way": way, **side.about})
        side.stop()
        print(found[-1], flush=True)
    return found


def main() -> int:
    """Measures, or serves a side; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tpu", action="store_true", help="compile for a TPU instead")
    parser.add_argument("--quick", action="store_true", help="only plain, and all in chunks")
    parser.add_argument("--cut", choices=[*CUTS], action="append", help="only these sizes")
    parser.add_argument("--way", choices=[*WAYS], action="append", help="only these ways")
    parser.add_argument("--side", choices=[*WAYS], help=argparse.SUPPRESS)
    parser.add_argument("--tpu-side", choices=[*WAYS], help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.side or args.tpu_side:
        side = functools.partial(on_cpu, way=args.side) if args.side else None
        (side or functools.partial(for_tpu, way=args.tpu_side))(args.cut[0])
        return 0
    ways = args.way or ([*WAYS][:: len(WAYS) - 1] if args.quick else [*WAYS])
    if args.tpu:
        os.environ.update(TPU_ENVIRONMENT)
        rows = [row for name in args.cut or CUTS for row in measure_tpu(name, ways)]
        results.report("memory_tpu", rows)
        return 0
    rows = [row for name in args.cut or ["350M"] for row in measure_cpu(name, ways)]
    results.report("memory", rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
