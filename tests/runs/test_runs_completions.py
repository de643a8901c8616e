"""The completions that a run has decoded, on files as Pax writes them."""

import json
import os
import subprocess
import sys

import pytest

from codegen_pax.runs import completions


def test_the_last_decode_is_read(tmp_path):
    folder = tmp_path / "decoder_out" / "prompts"
    folder.mkdir(parents=True)
    for step in (20, 100):
        row = {"prefix_ids": [1], "decoded_ids": [[step, 7]]}
        name = f"decoder_out_{step}_shard_0.jsonl"
        (folder / name).write_text(json.dumps(row) + "\n")
    (row,) = completions.read_decoded(tmp_path)
    assert row["decoded_ids"] == [[100, 7]]
    text = completions.render([row], lambda ids: "/".join(map(str, ids)))
    assert "--- prompt 1\n1\n" in text and "--- completion (2 tokens)\n100/7\n" in text


def test_a_job_without_decoded_prompts_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no decoded prompts"):
        completions.read_decoded(tmp_path)


PROGRAM = """
import json, pathlib, sys
import jax, numpy as np
from codegen_pax.environment import compilation_cache
from codegen_pax.runs import completions
from codegen_pax.weights import layouts

folder = compilation_cache.enable(on_cpu=True)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
before = {*folder.iterdir()}
dims, rng = layouts.Dimensions(2, 16, 2, 61, False), np.random.default_rng(0)
params = {}
for name, shape in layouts.pax_shapes(dims).items():
    tree = params
    *branches, leaf = name.split(".")
    for branch in branches:
        tree = tree.setdefault(branch, {})
    tree[leaf] = rng.standard_normal(shape, np.float32)


class Stored:
    def __init__(self, checkpoint, contents):
        self.shapes = lambda: layouts.pax_shapes(dims)


completions.Variables, completions.read_variables = Stored, lambda _: params
decoding = completions.Decoding(
    new_tokens=int(sys.argv[1]), eos_id=7, temperature=float(sys.argv[2]), top_p=0.9, samples=3
)
rows = completions.continue_prompts(
    "job", layouts.pax_shapes(dims), dims.head_dims, 4, [[1, 2, 3], [5]], decoding
)
new = {*folder.iterdir()} - before
print(json.dumps([[ids.tolist() for row in rows for ids in row], len(new), jax.process_index()]))
assert not {"praxis", "paxml", "tensorflow"} & {*sys.modules}
"""


@pytest.fixture
def continued(tmp_path):
    """Continues prompts in a process of its own; returns tokens and the programs it added."""

    def run(new_tokens, temperature, **environment):
        names = ("JAX_COMPILATION_CACHE_DIR", "XLA_FLAGS")
        kept = {key: value for key, value in os.environ.items() if key not in names}
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, str(new_tokens), str(temperature)],
            env=kept | {"XDG_CACHE_HOME": str(tmp_path), **environment},
            capture_output=True,
            text=True,
            check=True,
        )
        return json.loads(done.stdout)[:2]

    return run


def test_a_program_from_the_cache_gives_the_same_tokens(continued):
    """Several lengths and temperatures share a program, and text that ends early is cut."""
    first, added = continued(48, 5.0)
    assert added and len({len(ids) for ids in first}) > 1
    assert continued(48, 5.0) == [first, 0]
    shorter, added = continued(5, 5.0)
    assert [shorter, added] == [[ids[:5] for ids in first], 0]
    greedy, added = continued(48, 0)
    assert added and greedy != first
    assert continued(48, 0) == [greedy, 0]
