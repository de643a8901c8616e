"""Sources of seqio tasks: documents of files, sharding, and the errors of what is not there."""

import re

import pytest
import seqio
import tensorflow as tf

from codegen_pax.data import installed, seqio_sources
from codegen_pax.data.seqio_sources import set_corpora_folder
from tests.data.prepared_corpora import write_corpus


@pytest.fixture
def files(tmp_path):
    """Seven files of one document, the last in validation; one text ends in a zero byte."""
    made = []
    for n in range(7):
        path = tmp_path / f"{n}.txt"
        path.write_bytes(f"text {n}\r\n\0".encode())
        split = "validation" if n == 6 else "train"
        made.append(installed.InstalledFile(path.name, path, split, path.stat().st_size))
    return tuple(made)


@pytest.fixture
def source(files):
    return seqio_sources.InstalledText("seven files", lambda: files, installed.text_document)


def texts(dataset):
    return [example["targets"].decode() for example in dataset.as_numpy_iterator()]


def test_documents_come_unchanged_and_in_order(source):
    assert texts(source.get_dataset("train", shuffle=False)) == [
        f"text {n}\r\n\0" for n in range(6)
    ]
    assert texts(source.get_dataset("validation", shuffle=False)) == ["text 6\r\n\0"]


def test_shuffled_epochs_hold_all_and_differ_and_repeat_by_seed(source):
    def epochs(seed):
        actual = texts(source.get_dataset("train", shuffle=True, seed=seed).repeat(3))
        return [actual[n : n + 6] for n in (0, 6, 12)]

    expected = sorted(texts(source.get_dataset("train", shuffle=False)))
    assert all(sorted(epoch) == expected for epoch in epochs(1))
    assert len({tuple(epoch) for epoch in epochs(1)}) > 1
    assert epochs(1) == epochs(1) != epochs(2)


def test_hosts_share_the_files(source):
    shares = [
        texts(source.get_dataset("train", shuffle=False, shard_info=seqio.ShardInfo(n, 4)))
        for n in range(4)
    ]
    together = sorted(text for share in shares for text in share)
    assert together == sorted(texts(source.get_dataset("train", shuffle=False)))
    assert [len(share) for share in shares] == [2, 2, 1, 1]


def test_more_hosts_than_files_leave_some_without_text(source):
    shard = seqio.ShardInfo(index=3, num_shards=4)
    assert texts(source.get_dataset("validation", shuffle=False, shard_info=shard)) == []


def test_a_file_may_hold_many_documents_of_many_fields(files):
    source = seqio_sources.InstalledText(
        "pairs",
        lambda: files,
        lambda path: [(path.stem, "a"), (path.stem, "b")] if path.stem != "1" else [],
        fields=("inputs", "targets"),
    )
    actual = [
        (example["inputs"].decode(), example["targets"].decode())
        for example in source.get_dataset("train", shuffle=False).as_numpy_iterator()
    ]
    assert actual == [(stem, letter) for stem in "02345" for letter in "ab"]


def test_missing_text_is_named():
    source = seqio_sources.InstalledText("rust", lambda: (), installed.text_document)
    with pytest.raises(
        installed.TextMissingError, match=r"no text for rust \(train\).*0 files.*searched"
    ):
        source.get_dataset("train")


@pytest.mark.parametrize(
    ("corpus", "actual", "after"),
    [
        (
            "unset",
            "CODEGEN_DATA is not set",
            " (with CODEGEN_DATA set to a folder for corpora, which importing `codegen` reads)",
        ),
        ("absent", "there is no folder {folder}", ""),
        ("unfinished", "{folder} is unfinished: found no manifest.json in it", ""),
        ("words", "it holds text in the vocabulary gpt2", " (once {folder} is moved away)"),
        ("talks", "it holds conversations in the vocabulary codegen", " (once {folder} is moved"),
        ("languages", "it has no part 'rust': found go, java", " (once {folder} is moved away)"),
        ("empty", "it has no row in train", " (once {folder} is moved away)"),
    ],
)
def test_what_is_not_the_corpus_of_a_task_is_named(corpus, actual, after, tmp_path, monkeypatch):
    set_corpora_folder(tmp_path)
    rows = {"train": 3, "validation": 2}
    folder = tmp_path / corpus
    if corpus == "unset":
        set_corpora_folder(None)
        folder = "$CODEGEN_DATA/unset"
    elif corpus == "unfinished":
        folder.mkdir()
    elif corpus == "words":
        write_corpus(folder, {"rust": rows}, vocabulary="gpt2")
    elif corpus == "talks":
        write_corpus(folder, {"rust": rows}, answers=True)
    elif corpus == "languages":
        write_corpus(folder, {"go": rows, "java": rows})
    elif corpus == "empty":
        write_corpus(folder, {"rust": rows | {"train": 0}})
    source = seqio_sources.PreparedCorpus(corpus, part="rust", raw="its files", kind="bigquery")
    message = (
        f"cannot read {corpus}/rust: {actual.format(folder=folder)}; prepare it from its files:"
        f" codegen-pax prepare bigquery --input ... --output {folder}{after.format(folder=folder)}"
    )
    for read in (source.get_dataset, source.list_shards):
        with pytest.raises(seqio_sources.CorpusMissingError, match=re.escape(message)):
            read("train")


def test_reading_is_checkpointed(source, tmp_path):
    def iterator():
        return iter(source.get_dataset("train", shuffle=True, seed=3).repeat(2))

    first = iterator()
    for _ in range(4):
        next(first)
    path = tf.train.Checkpoint(it=first).write(str(tmp_path / "state"))
    rest = [example["targets"].numpy() for example in first]
    again = iterator()
    tf.train.Checkpoint(it=again).read(path).assert_consumed()
    assert [example["targets"].numpy() for example in again] == rest
    assert len(rest) == 8
