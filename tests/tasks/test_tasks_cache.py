"""seqio's own caching job over prepared corpora: the cached task gives the same rows."""

import apache_beam as beam
import pytest
import seqio
from absl import flags
from absl.testing import flagsaver
from seqio.scripts import cache_tasks_main

import tasks  # noqa: F401  (registers them)
from codegen_pax.data.seqio_sources import set_corpora_folder
from tests.data.prepared_corpora import write_corpus

T = 64
CORPORA = {"bigpython": False, "instruction": True}  # whether they are conversations


@pytest.fixture(scope="module")
def cached(tmp_path_factory):
    """A folder of prepared corpora, and the folder in which seqio's job cached their tasks."""
    folder = tmp_path_factory.mktemp("cache")
    for corpus, answers in CORPORA.items():
        splits = {"train": 9, "validation": 3}
        write_corpus(folder / "data" / corpus, {"": splits}, row_length=T, answers=answers)
    with flagsaver.flagsaver(min_shards=2):
        set_corpora_folder(folder / "data")
        flags.FLAGS.mark_as_parsed()
        with beam.Pipeline() as pipeline:
            names = [f"codegen_{corpus}" for corpus in CORPORA]
            cache_tasks_main.run_pipeline(pipeline, names, str(folder / "cached"))
    flags.FLAGS.unparse_flags()  # as every other test expects
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
