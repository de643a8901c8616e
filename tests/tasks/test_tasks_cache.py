"""seqio's own caching job over prepared corpora: the cached task gives the same rows."""

import os
from pathlib import Path

import pytest
import seqio

import tasks  # noqa: F401  (registers them)
from codegen_pax.data.seqio_sources import set_corpora_folder
from tests import pax_process
from tests.data.prepared_corpora import write_corpus

ROOT = Path(__file__).parents[2]
T = 64
CORPORA = {"bigpython": False, "instruction": True}  # whether they are conversations


@pytest.fixture(scope="module")
def cached(tmp_path_factory):
    """A folder of prepared corpora, and the folder in which seqio's job cached their tasks.

    In a process of its own: it defines flags that Pax defines too.
    """
    folder = tmp_path_factory.mktemp("cache")
    for corpus, answers in CORPORA.items():
        splits = {"train": 9, "validation": 3}
        write_corpus(folder / "data" / corpus, {"": splits}, row_length=T, answers=answers)
    names = ",".join(f"codegen_{corpus}" for corpus in CORPORA)
    arguments = ("--module_import=codegen", f"--tasks={names}", "--min_shards=2")
    job = pax_process.run(
        "seqio.scripts.cache_tasks_main",
        (*arguments, f"--output_cache_dir={folder / 'cached'}"),
        ROOT,
        os.environ | {"CODEGEN_DATA": str(folder / "data")},
    )
    assert job.returncode == 0, job.stderr[-2_000:]
    return folder / "data", folder / "cached"


def rows(task, split, use_cached):
    lengths = {"targets": T, "answers": T}
    dataset = task.get_dataset(lengths, split, use_cached=use_cached, shuffle=False)
    examples = dataset.as_numpy_iterator()
    return sorted([(key, example[key].tolist()) for key in sorted(example)] for example in examples)


@pytest.mark.parametrize("corpus", CORPORA)
@pytest.mark.parametrize("split", ["train", "validation"])
def test_a_cached_task_gives_the_same_rows(cached, monkeypatch, corpus, split):
    data, folder = cached
    set_corpora_folder(data)
    task = seqio.TaskRegistry.get(f"codegen_{corpus}")
    expected = rows(task, split, use_cached=False)
    assert len(expected) > 2
    set_corpora_folder(None)  # what is cached needs no corpus
    monkeypatch.setattr("seqio.utils._GLOBAL_CACHE_DIRECTORIES", [str(folder)])
    assert rows(task, split, use_cached=True) == expected
