"""Rows of a corpus behind a URL: the same, for few and large reads."""

import numpy as np
import pytest
import seqio
import tensorflow as tf

from codegen_pax.data.format.tfrecords import RowFormat
from codegen_pax.data.prepared import PreparedCorpus, set_corpora_folder
from codegen_pax.data.stream import inputs, row_readers
from tasks import definition
from tests.data.prepared_corpora import write_corpus

T = 16
TEXT = PreparedCorpus("small", part="go", raw="a test's rows")
ANSWERS = PreparedCorpus("talks", answers=True, raw="a test's rows")


@pytest.fixture
def written(tmp_path):
    """Records of `TEXT`, in three shards of 8, 8 and 7 rows, and of `ANSWERS`, in two."""
    go = write_corpus(tmp_path / "small", {"go": {"train": 23}}, shards=3)
    talks = write_corpus(tmp_path / "talks", {"": {"train": 9}}, answers=True, seed=1)
    return {TEXT: go["go"]["train"], ANSWERS: talks[""]["train"]}


def opened(source):
    return row_readers.PreparedRows(source, "train", T)


@pytest.fixture
def bucket(tmp_path, monkeypatch):
    """`$CODEGEN_DATA` in a bucket: (path, bytes read) of each time a shard is opened.

    A page has 5 rows. What epath asks TensorFlow to do with the bucket is done with the folder.
    """
    set_corpora_folder("gs://bucket/data")
    monkeypatch.setattr(row_readers, "PAGE_ROWS", 5)
    asked = []

    def here(path):
        return path.replace("gs://bucket/data", str(tmp_path))

    class File(tf.io.gfile.GFile):
        def __init__(self, path, *arguments):
            super().__init__(here(path), *arguments)
            self.is_shard = path.endswith(".tfrecord")
            if self.is_shard:
                asked.append((path, 0))

        def read(self, n=-1):
            found = super().read(n)
            if self.is_shard:
                asked[-1] = (asked[-1][0], asked[-1][1] + len(found))
            return found

    for name in ("exists", "stat"):
        function = getattr(tf.io.gfile, name)
        monkeypatch.setattr(tf.io.gfile, name, lambda path, call=function: call(here(path)))
    monkeypatch.setattr(tf.io.gfile, "GFile", File)
    return asked


@pytest.mark.parametrize("source", [TEXT, ANSWERS], ids=["text", "conversations"])
def test_rows_in_a_bucket_are_the_same(source, written, bucket):
    rows = opened(source)
    numbers = np.array([8, 0, 7, 8, 3])
    ids, lengths, predicted = rows.take(numbers)
    np.testing.assert_array_equal(ids, written[source]["tokens"][numbers])
    if source is ANSWERS:
        np.testing.assert_array_equal(predicted, written[source]["answer"][numbers])
        np.testing.assert_array_equal(lengths, written[source]["length"][numbers])


@pytest.fixture
def training(written):
    """Batches of 3 rows of `TEXT`, often of two pages."""
    definition.rows_task("bucket_go", TEXT)
    yield inputs.training_input("bucket_go", batch_size=3, row_length=T, seed=7).Instantiate()
    seqio.TaskRegistry.remove("bucket_go")


def test_an_epoch_asks_a_bucket_for_every_byte_once(training, written, bucket):
    epochs, count = 3, len(written[TEXT])
    ids = np.concatenate([training.get_next_padded().ids for _ in range(count * epochs // 3)])
    wanted = sorted(map(bytes, written[TEXT]["tokens"].astype(np.int32)))
    for epoch in np.split(ids, epochs):
        assert sorted(map(bytes, epoch)) == wanted
    # Pages of 5 and shards of 8, 8 and 7 rows: two of the five pages lie in two shards. One page
    # more is perhaps begun for the batch that comes next.
    assert len(bucket) <= epochs * 7 + 2
    page = written[TEXT][:5].nbytes
    assert sum(length for _, length in bucket) <= epochs * written[TEXT].nbytes + page


def test_of_a_bucket_two_pages_are_kept(written, bucket):
    rows = opened(TEXT)
    every = [np.arange(n, min(n + 5, 23)) for n in range(0, 23, 5)]
    for page in every:
        rows.take(page)
    before = len(bucket)
    rows.take(np.concatenate(every[-2:]))
    assert len(bucket) == before
    for number, page in enumerate(every[:3], 1):
        rows.take(page)
        assert len(bucket) >= before + number  # it had gone


def test_a_damaged_shard_in_a_bucket_is_named(written, bucket, tmp_path):
    name = "small/go/train-00001-of-00003.tfrecord"  # rows 8 to 15
    content = bytearray((tmp_path / name).read_bytes())
    content[2 * RowFormat(T).record_bytes + 40] ^= 4
    (tmp_path / name).write_bytes(bytes(content))
    rows = opened(TEXT)
    rows.take(np.array([9, 11]))
    with pytest.raises(
        row_readers.DamagedShardError, match=f"row 2 of gs://bucket/data/{name} is damaged"
    ):
        rows.take(np.array([10]))
    (tmp_path / name).write_bytes(bytes(content)[:-1])
    with pytest.raises(row_readers.DamagedShardError, match=f"gs://bucket/data/{name} is damaged"):
        opened(TEXT).take(np.array([9]))
