"""seqio's own caching job over prepared corpora: the cached task gives the same rows."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import seqio

import tasks  # noqa: F401 (registers them)
from codegen_pax.data.prepare import local, pipeline
from codegen_pax.data.prepare.settings import Settings
from codegen_pax.data.sources import discovery, partitions

ROOT = Path(__file__).parents[2]
T = 64
RECORDS = {
    "bigpython": [
        {"content": f"def f{n}(x):\n    return x * {n}\n" * 9, "path": f"{n}.py", "license": "MIT"}
        for n in range(60)
    ],
    "instruction": [{"instruction": f"Add {n}.", "output": f"x + {n}"} for n in range(40)],
}


@pytest.fixture(scope="module")
def cached(tmp_path_factory):
    """A folder of prepared corpora, and the folder in which the command cached their tasks."""
    folder = tmp_path_factory.mktemp("cache")
    for corpus, records in RECORDS.items():
        raw = folder / f"{corpus}.jsonl"
        raw.write_text("".join(json.dumps(record) + "\n" for record in records))
        settings = Settings(corpus, str(folder / "data" / corpus), row_length=T, validation=0.2)
        found = discovery.find(corpus, [str(raw)])
        pipeline.begin(settings)
        local.run_here(settings, found, partitions.plan(corpus, found))
        pipeline.finish(settings)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "seqio.scripts.cache_tasks_main", "--module_import=tasks"),
            *("--tasks=codegen_bigpython,codegen_instruction", "--min_shards=2"),
            f"--output_cache_dir={folder / 'cached'}",
        ],
        cwd=ROOT,
        env=os.environ | {"CODEGEN_DATA": str(folder / "data")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2_000:]
    return folder / "data", folder / "cached"


def rows(task, split, use_cached):
    lengths = {"targets": T, "answers": T}
    dataset = task.get_dataset(lengths, split, use_cached=use_cached, shuffle=False)
    examples = dataset.as_numpy_iterator()
    return sorted([(key, example[key].tolist()) for key in sorted(example)] for example in examples)


@pytest.mark.parametrize("corpus", RECORDS)
@pytest.mark.parametrize("split", ["train", "validation"])
def test_a_cached_task_gives_the_same_rows(cached, monkeypatch, corpus, split):
    data, folder = cached
    monkeypatch.setenv("CODEGEN_DATA", str(data))
    task = seqio.TaskRegistry.get(f"codegen_{corpus}")
    wanted = rows(task, split, use_cached=False)
    assert len(wanted) > 2
    monkeypatch.delenv("CODEGEN_DATA")  # what is cached needs no corpus
    monkeypatch.setattr("seqio.utils._GLOBAL_CACHE_DIRECTORIES", [str(folder)])
    assert rows(task, split, use_cached=True) == wanted
