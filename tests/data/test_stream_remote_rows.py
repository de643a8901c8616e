"""Rows of a corpus in object storage: the same ones, read in pages and each of them once."""

import numpy as np
import pytest
import seqio
import tensorflow as tf

from codegen_pax.data.format import manifest
from codegen_pax.data.format.tfrecords import RowFormat
from codegen_pax.data.seqio_sources import set_corpora_folder
from codegen_pax.data.stream import inputs, row_readers
from tasks import definition
from tests.data.written_rows import ANSWERS, TEXT, T, open_corpus, write_rows


@pytest.fixture
def written(tmp_path):
    """Records of `TEXT` and `ANSWERS`."""
    return write_rows(tmp_path)


@pytest.fixture
def remote_reads(written, tmp_path, monkeypatch):
    """`$CODEGEN_DATA` in object storage: (path, bytes read) for each time a shard is opened.

    A page has 5 rows. What epath asks TensorFlow to do with the bucket is done with the folder.
    """
    set_corpora_folder("gs://bucket/data")
    monkeypatch.setattr(row_readers, "PAGE_ROWS", 5)
    reads = []

    def local(path):
        return path.replace("gs://bucket/data", str(tmp_path))

    class File(tf.io.gfile.GFile):
        def __init__(self, path, *arguments):
            super().__init__(local(path), *arguments)
            self.is_shard = path.endswith(".tfrecord")
            if self.is_shard:
                reads.append((path, 0))

        def read(self, n=-1):
            content = super().read(n)
            if self.is_shard:
                reads[-1] = (reads[-1][0], reads[-1][1] + len(content))
            return content

    for name in ("exists", "stat"):
        function = getattr(tf.io.gfile, name)
        monkeypatch.setattr(tf.io.gfile, name, lambda path, call=function: call(local(path)))
    monkeypatch.setattr(tf.io.gfile, "GFile", File)
    return reads


@pytest.mark.parametrize("source", [TEXT, ANSWERS], ids=["text", "conversations"])
def test_remote_rows_are_the_same(source, written, remote_reads):
    rows = open_corpus(source)
    numbers = np.array([8, 0, 7, 8, 3])
    ids, lengths, is_predicted = rows.take(numbers)
    np.testing.assert_array_equal(ids, written[source]["tokens"][numbers])
    if source is ANSWERS:
        np.testing.assert_array_equal(is_predicted, written[source]["answer"][numbers])
        np.testing.assert_array_equal(lengths, written[source]["length"][numbers])


@pytest.fixture
def training(written):
    """Batches of 3 rows of `TEXT`, often of two pages."""
    definition.rows_task("remote_go", TEXT)
    yield inputs.training_input("remote_go", batch_size=3, row_length=T, seed=7).Instantiate()
    seqio.TaskRegistry.remove("remote_go")


def test_an_epoch_reads_every_remote_byte_once(training, written, remote_reads):
    epochs, num_rows = 3, len(written[TEXT])
    ids = np.concatenate([training.get_next_padded().ids for _ in range(num_rows * epochs // 3)])
    expected = sorted(map(bytes, written[TEXT]["tokens"].astype(np.int32)))
    for epoch in np.split(ids, epochs):
        assert sorted(map(bytes, epoch)) == expected
    # Pages of 5 and shards of 8, 8 and 7 rows: two of the five pages extend over two shards. One
    # page more may have been started for the batch that comes next.
    assert len(remote_reads) <= epochs * 7 + 2
    page = written[TEXT][:5].nbytes
    assert sum(length for _, length in remote_reads) <= epochs * written[TEXT].nbytes + page


def test_two_remote_pages_are_cached(written, remote_reads):
    rows = open_corpus(TEXT)
    pages = [np.arange(n, min(n + 5, 23)) for n in range(0, 23, 5)]
    for page in pages:
        rows.take(page)
    before = len(remote_reads)
    rows.take(np.concatenate(pages[-2:]))
    assert len(remote_reads) == before
    for number, page in enumerate(pages[:3], 1):
        rows.take(page)
        assert len(remote_reads) >= before + number  # it was no longer cached


def test_a_damaged_remote_shard_is_named(written, remote_reads, tmp_path):
    name = "small/go/train-00001-of-00003.tfrecord"  # rows 8 to 15
    content = bytearray((tmp_path / name).read_bytes())
    content[2 * RowFormat(T).record_bytes + 40] ^= 4
    (tmp_path / name).write_bytes(bytes(content))
    rows = open_corpus(TEXT)
    rows.take(np.array([9, 11]))
    with pytest.raises(
        manifest.DamagedShardError, match=f"row 2 of gs://bucket/data/{name} is damaged"
    ):
        rows.take(np.array([10]))
    (tmp_path / name).write_bytes(bytes(content)[:-1])
    with pytest.raises(manifest.DamagedShardError, match=f"gs://bucket/data/{name} is damaged"):
        open_corpus(TEXT).take(np.array([9]))
