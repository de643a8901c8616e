"""Draws how the cost of a training step grows, in this machine's seconds and in XLA's own counts.

    python benchmarks/growth.py

One picture has the seconds and the memory of Pax's step, against tokens in a row, rows and layers,
for a network of 350M's width with few layers on one CPU device. The other has the memory, the FLOPs
and the bytes of collectives of each of 1, 2, 4 and 8 devices that share one batch, from the
compiled step: fake devices of a CPU, in processes of their own, so no seconds. Both lie in
build/benchmarks, with the figures in growth.json. FLOPs are those of products of matrices; a loop's
count as often as it runs.

Expected: seconds grow in proportion to tokens, and above 1,024 tokens in a row a little faster, as
attention does; layers add to the constant cost of the softmax over 51,200 ids. On eight devices
each does an eighth of the FLOPs: the script fails if one does more than a tenth above that. It
takes ten minutes and 5 GB.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import results
from codegen_pax.environment import allocator

LENGTH, ROWS, LAYERS = 256, 1, 2  # of a point, but for what its axis changes
AXES = {
    "tokens in a row": ("length", (128, 256, 512, 1024, 2048)),
    "rows of 256 tokens": ("rows", (1, 2, 4, 8)),
    "layers": ("layers", (1, 2, 4, 6)),
}
DEVICES = (1, 2, 4, 8)
SHARED_ROWS, SHARED_LENGTH = 8, 512  # of the batch that the devices share
MESHES = {"data": lambda n: (1, n, 1), "mdl": lambda n: (1, 1, n)}
ROUNDS = 3
MOST_FLOPS = 1.1  # of an eighth of those of one device


def point(length: int, rows: int, layers: int, mesh: Sequence[int], timed: bool) -> dict[str, Any]:
    """Compiles a step, and perhaps makes some; returns the figures of one device."""
    import jax

    from benchmarks import hlo, pax_step
    from experiments.sizes import SIZES

    size = dataclasses.replace(SIZES["350M"], name="350M", layers=layers)
    step = pax_step.PaxStep(size, rows, length, tuple(mesh))
    compiled = step.compile()
    program, memory = hlo.Program(compiled.as_text()), compiled.memory_analysis()
    figures: dict[str, Any] = {
        "arguments GB": memory.argument_size_in_bytes / 1e9,
        "temporaries GB": memory.temp_size_in_bytes / 1e9,
        "memory GB": (
            memory.argument_size_in_bytes
            + memory.output_size_in_bytes
            - memory.alias_size_in_bytes
            + memory.temp_size_in_bytes
        )
        / 1e9,
        "GFLOP": program.product_flops() / 1e9,
        "GFLOP, loops once": compiled.cost_analysis()["flops"] / 1e9,
        **{f"{kind} GB": n / 1e9 for kind, n in program.collective_bytes().items()},
    }
    if timed:
        (state, key), batch, seconds = step.initial_state(), step.batch(), []
        for _ in range(ROUNDS + 1):
            begun = time.perf_counter()
            state, _ = jax.block_until_ready(compiled(state, key, batch))
            seconds.append(time.perf_counter() - begun)
        figures["seconds"] = statistics.median(seconds[1:])
    return figures


def measured(devices: int = 1, **arguments: Any) -> dict[str, Any]:
    """Returns the figures of a point, from a process of its own with so many devices."""
    flags = f"--xla_force_host_platform_device_count={devices}"
    done = subprocess.run(
        [sys.executable, __file__, "--point", json.dumps(arguments)],
        env={
            **os.environ,
            "JAX_PLATFORMS": "cpu",
            "XLA_FLAGS": flags,
            **allocator.environment(),
            "TF_CPP_MIN_LOG_LEVEL": "3",
        },
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def main() -> int:
    """Measures and draws, or measures one point; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--point", type=json.loads, help="print the figures of this one")
    args = parser.parse_args()
    if args.point:
        print(json.dumps(point(**args.point)))
        return 0
    rows = []
    for axis, (name, values) in AXES.items():
        for value in values:
            shape = {"length": LENGTH, "rows": ROWS, "layers": LAYERS} | {name: value}
            figures = measured(**shape, mesh=(1, 1, 1), timed=True)
            rows.append({"axis": axis, "at": value, **shape, **figures})
            print(f"{axis} {value}: {figures['seconds']:.2f} s", flush=True)
    for axis, mesh_of in MESHES.items():
        for devices in DEVICES:
            shape = {"length": SHARED_LENGTH, "rows": SHARED_ROWS, "layers": LAYERS}
            figures = measured(devices, **shape, mesh=mesh_of(devices), timed=False)
            rows.append({"axis": axis, "at": devices, **shape, **figures, "seconds": None})
            print(f"{axis} {devices}: {figures['GFLOP']:,.0f} GFLOP a device", flush=True)
    draw(rows)
    targets = [
        results.Target(
            f"FLOPs a device on {DEVICES[-1]} devices along {axis}, of an equal share",
            DEVICES[-1] * last["GFLOP"] / first["GFLOP"],
            most=MOST_FLOPS,
        )
        for axis in MESHES
        for first, last in [(of_axis(rows, axis)[0], of_axis(rows, axis)[-1])]
    ]
    return results.report("growth", rows, targets)


def of_axis(rows: Sequence[dict[str, Any]], axis: str) -> list[dict[str, Any]]:
    """Returns the rows of an axis."""
    return [row for row in rows if row["axis"] == axis]


def draw(rows: Sequence[dict[str, Any]]) -> None:
    """Draws both pictures."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    pyplot.rcParams.update({"font.size": 9, "axes.grid": True, "grid.alpha": 0.4})
    results.FOLDER.mkdir(parents=True, exist_ok=True)
    figure, panels = pyplot.subplots(2, len(AXES), figsize=(9, 5), sharex="col", sharey="row")
    for column, (axis, (_, values)) in zip(panels.T, AXES.items(), strict=True):
        points = of_axis(rows, axis)
        column[0].plot(values, [row["seconds"] for row in points], "ko-")
        for key, style in (("memory GB", "ko-"), ("temporaries GB", "ks--")):
            label = {"memory GB": "in all", "temporaries GB": "temporaries"}[key]
            column[1].plot(values, [row[key] for row in points], style, label=label)
        for panel in column:
            panel.set_ylim(bottom=0)
            ticks = values[-4:]  # the least two of five would be too close
            panel.set_xticks(ticks, [f"{value:,}" for value in ticks])
            panel.tick_params(labelbottom=True)
        column[1].set_xlabel(axis)
    panels[0][0].set_ylabel("seconds a step")
    panels[1][0].set_ylabel("memory of a step [GB]")
    panels[1][0].legend()
    figure.suptitle(
        f"Pax's step in float32 on one CPU device: width of 350M; {LAYERS} layers and "
        f"{ROWS} row of {LENGTH} tokens where no axis changes them"
    )
    save(figure, "growth_on_one_device.png")

    figure, panels = pyplot.subplots(1, 3, figsize=(9, 3.2))
    # Where the lines lie on one another, both are seen.
    styles = {"data": {"marker": "o"}, "mdl": {"marker": "s", "ms": 9, "mfc": "none", "ls": "--"}}
    for axis, style in styles.items():
        points = of_axis(rows, axis)
        collectives = [
            sum(value for key, value in row.items() if key.endswith(" GB") and "-" in key)
            for row in points
        ]
        for panel, values in zip(
            panels,
            (
                [row["memory GB"] for row in points],
                [row["GFLOP"] / 1e3 for row in points],
                collectives,
            ),
            strict=True,
        ):
            panel.plot(DEVICES, values, color="k", **style, label=f"along {axis}")
    share = of_axis(rows, "data")[0]["GFLOP"] / 1e3
    panels[1].plot(DEVICES, [share / n for n in DEVICES], "k:", label="equal shares")
    for panel, label in zip(
        panels,
        ("memory a device [GB]", "products a device [TFLOP]", "collectives a device [GB]"),
        strict=True,
    ):
        panel.set_xscale("log", base=2)
        panel.set_xticks(DEVICES, [str(n) for n in DEVICES])
        panel.set_ylim(bottom=0)
        panel.set_xlabel("devices")
        panel.set_ylabel(label)
    panels[1].legend()
    figure.suptitle(
        f"One batch of {SHARED_ROWS} rows of {SHARED_LENGTH} tokens, shared by devices: "
        f"width of 350M, {LAYERS} layers"
    )
    save(figure, "growth_over_devices.png")


def save(figure: Any, name: str) -> None:
    """Writes a picture to build/benchmarks."""
    figure.tight_layout()
    figure.savefig(results.FOLDER / name, dpi=150)
    print(f"drawn: {results.FOLDER / name}")


if __name__ == "__main__":
    sys.exit(main())
