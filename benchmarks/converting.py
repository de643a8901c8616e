"""Measures an import and an export of random weights: time, against a copy, and peak memory.

    python benchmarks/converting.py [--size 6B] [--dtype bfloat16] [--folder DIR]

The script makes a folder as transformers would save it, copies it with `cp`, imports and exports it
with the command, each in its own process, and compares the exported files with the original ones.
It needs room for four times the weights. It fails if a conversion takes more than 4 times as long
as the copy, or at its peak more than 3 GB above an idle Python.

Expected: about twice the time of the copy, on two cores. A conversion reads and writes the same
bytes as a copy, rearranges most of them once in memory, and hashes them on another core.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import results
from codegen_pax.floats import DTYPES
from codegen_pax.runs import fingerprints
from codegen_pax.text.tokenizer import end_of_text_id, write_tokenizer
from codegen_pax.weights import hugging_face, layouts, slices, tensor_files
from codegen_pax.weights.layouts import Dimensions
from experiments.sizes import SIZES, Size

MOST_TIMES = 4.0
MOST_GB = 3.0
# The sign and the mantissa are random; the exponent is near those of real weights.
_BITS = {"float32": ("<u4", 0x80FFFFFF, 0x3B000000), "bfloat16": ("<u2", 0x80FF, 0x3B00)}
_BITS["float16"] = ("<u2", 0x83FF, 0x1C00)


def main() -> int:
    """Measures the conversions of the given size and type; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", default="6B", choices=[*SIZES])
    parser.add_argument("--dtype", default="bfloat16", choices=[*DTYPES])
    parser.add_argument("--folder", type=Path, help="on the disk to be measured; removed again")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        return measure(SIZES[args.size], args.dtype, Path(name))


def measure(size: Size, dtype_name: str, folder: Path) -> int:
    """Converts a network in a folder and prints how long that takes; returns the exit status."""
    source, job, result = folder / "source", folder / "job", folder / "result"
    nbytes = make(source, size, dtype_name)
    print(f"{size.name} in {dtype_name}: {nbytes / 1e9:.2f} GB in {source}", flush=True)
    _, idle = run([sys.executable, "-c", "pass"])
    copy, _ = run(["cp", "-r", str(source), str(folder / "copy")])
    shutil.rmtree(folder / "copy")
    rows = [{"what": "copy", "seconds": copy, "times the copy": 1.0, "GB above Python": None}]
    targets = []
    command = [sys.executable, "-m", "codegen_pax.cli.core.main"]
    experiment = f"CodeGen{size.name}Mono"
    for what, arguments in (
        ("import", ["hf", str(source), "--experiment", experiment, "--output", str(job)]),
        ("export", ["hf", str(job), str(result)]),
    ):
        seconds, peak = run([*command, what, *arguments])
        above = (peak - idle) / 1e9
        row = {"what": what, "seconds": seconds, "times the copy": seconds / copy}
        rows.append(row | {"GB above Python": above})
        targets += [
            results.Target(f"{what}, times the copy", seconds / copy, most=MOST_TIMES),
            results.Target(f"{what}, GB above an idle Python", above, most=MOST_GB),
        ]
    weights = sorted(source.glob("model*"))
    same = hashes(weights) == hashes([result / path.name for path in weights])
    targets.append(results.Target("files that came back byte for byte", float(same), least=1.0))
    return results.report("converting", rows, targets)


def make(folder: Path, size: Size, dtype_name: str) -> int:
    """Writes a folder as transformers would; returns the bytes of its weights."""
    folder.mkdir()
    layout = layouts.hugging_face(Dimensions.of(size, embedding_bias=False))
    dtype = DTYPES[dtype_name]
    tensors = {name: (dtype, shape) for name, shape in layout.shapes.items()}
    files = tensor_files.plan_safetensors(tensors, tensor_files.SHARD_BYTES)
    random = np.random.default_rng(0)
    bits, free, fixed = _BITS[dtype_name]
    with tensor_files.SafetensorsWriter(folder, files) as writer:
        for slice_ in slices.make_slices(layout, dtype.itemsize):
            shape = (slice_.stop - slice_.start, *layout.shapes[slice_.tensor][1:])
            count = int(np.prod(shape))
            drawn = np.frombuffer(random.bytes(count * dtype.itemsize), bits)
            rows = (drawn & np.array(free, bits) | np.array(fixed, bits)).view(dtype)
            writer.write(slice_.tensor, slice_.start, rows.reshape(shape))
    if len(files) > 1:
        index = json.dumps(tensor_files.safetensors_index(files), indent=2, sort_keys=True) + "\n"
        (folder / tensor_files.SAFETENSORS_INDEX).write_text(index)
    tokenizer = write_tokenizer(folder, "codegen", size.context)
    config = hugging_face.config(
        size,
        model_type="codegen",
        dtype=dtype_name,
        tokenizer_class=tokenizer,
        end_of_text_id=end_of_text_id("codegen"),
    )
    (folder / "config.json").write_text(json.dumps(config))
    return sum(file.size() for file in files)


def run(command: list[str]) -> tuple[float, int]:
    """Runs a command to its end; returns its seconds, and its peak memory in bytes."""
    os.sync()  # so that earlier writes are not measured
    begun = time.monotonic()
    process = subprocess.Popen(command)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.monotonic() - begun
    if status:
        raise SystemExit(f"{' '.join(command)} failed")
    return seconds, usage.ru_maxrss * 1024


def hashes(paths: list[Path]) -> list[str]:
    """Returns the SHA-256 of each file."""
    return [file["sha256"] for file in fingerprints.hash_files(paths)]


if __name__ == "__main__":
    sys.exit(main())
