"""Rows on disk, against TensorFlow's own reading and writing of the same."""

import numpy as np
import pytest
import tensorflow as tf
from etils import epath
from hypothesis import given, settings
from hypothesis import strategies as st

from codegen_pax.data.format import manifest
from codegen_pax.data.format.manifest import Manifest, Shard
from codegen_pax.data.format.tfrecords import RowFormat

FORMATS = [RowFormat(5), RowFormat(64), RowFormat(2048), RowFormat(7, True), RowFormat(300, True)]


def columns(row_format, count, seed=0):
    random = np.random.default_rng(seed)
    shape = (count, row_format.row_length)
    tokens = random.integers(0, 2**16, shape)
    if not row_format.answers:
        return (tokens,)
    return tokens, random.integers(0, 2, shape), random.integers(0, shape[1] + 1, count)


@pytest.mark.parametrize("row_format", FORMATS, ids=str)
def test_tensorflow_reads_what_was_written(row_format, tmp_path):
    written = columns(row_format, 9)
    path = tmp_path / "rows.tfrecord"
    path.write_bytes(row_format.encode(*written).tobytes())
    features = {name: tf.io.FixedLenFeature([], tf.string) for name in row_format.features}
    parsed = [tf.io.parse_single_example(r, features) for r in tf.data.TFRecordDataset(str(path))]
    assert len(parsed) == 9
    for number, example in enumerate(parsed):
        actual = np.frombuffer(example["tokens"].numpy(), "<u2")
        np.testing.assert_array_equal(actual, written[0][number])
        if row_format.answers:
            actual = np.frombuffer(example["answer"].numpy(), "u1")
            np.testing.assert_array_equal(actual, written[1][number])
            assert int.from_bytes(example["length"].numpy(), "little") == written[2][number]


@pytest.mark.parametrize("row_format", FORMATS, ids=str)
def test_tensorflow_writes_the_same(row_format, tmp_path):
    (tokens, *more) = columns(row_format, 1)
    values = {"tokens": tokens[0].astype("<u2").tobytes()}
    if more:
        values["answer"] = more[0][0].astype("u1").tobytes()
        values["length"] = int(more[1][0]).to_bytes(4, "little")
    path = tmp_path / "row.tfrecord"
    feature = {
        name: tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
        for name, value in values.items()
    }
    example = tf.train.Example(features=tf.train.Features(feature=feature))
    with tf.io.TFRecordWriter(str(path)) as writer:
        writer.write(example.SerializeToString(deterministic=True))
    ours = row_format.encode(tokens, *more).tobytes()
    assert len(ours) == path.stat().st_size == row_format.record_bytes
    assert ours == path.read_bytes()


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(FORMATS[:4]), st.data())
def test_any_flipped_bit_of_a_row_is_found(row_format, data):
    records = row_format.encode(*columns(row_format, 3))
    assert row_format.intact(records).all()
    raw = bytearray(records.tobytes())
    inside = data.draw(st.integers(12, row_format.record_bytes - 1))
    raw[row_format.record_bytes + inside] ^= 1 << data.draw(st.integers(0, 7))
    damaged = np.frombuffer(bytes(raw), row_format.dtype)
    assert row_format.intact(damaged).tolist() == [True, False, True]


@pytest.mark.parametrize("row_format", FORMATS, ids=str)
def test_no_rows_are_no_bytes(row_format):
    records = row_format.encode(*columns(row_format, 0))
    assert records.tobytes() == b"" and row_format.intact(records).shape == (0,)


MANIFEST = Manifest(
    corpus="bigquery",
    vocabulary="codegen",
    row_length=2048,
    answers=False,
    parts={"go": {"train": (Shard("go/train-0.tfrecord", 3, "ab"), Shard("b", 4, "cd"))}},
    inputs=({"path": "x", "bytes": 1, "sha256": "ef"},),
    settings={"seed": 1},
)


def test_a_manifest_is_read_as_it_was_written(tmp_path):
    MANIFEST.save(epath.Path(tmp_path))
    actual = manifest.load(epath.Path(tmp_path))
    assert actual == MANIFEST
    assert actual.rows("train", "go") == 7 and actual.rows("validation", "go") == 0
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.json"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "is unfinished: found no manifest.json"),
        ("{", "is no manifest"),
        ("[]", "is no manifest"),
        ('{"format": 99}', "has format 99; expected 1"),
        ('{"format": 1}', "is no manifest"),
        ('{"format": 1, "parts": {}, "inputs": [], "more": 1}', "is no manifest"),
    ],
)
def test_what_is_no_manifest_is_told(tmp_path, content, message):
    if content is not None:
        (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(manifest.ManifestError, match=message):
        manifest.load(epath.Path(tmp_path))
    with pytest.raises(manifest.ManifestError, match="there is no folder"):
        manifest.load(epath.Path(tmp_path / "none"))


def test_a_fingerprint_is_of_the_rows_in_order():
    first, second = MANIFEST.parts["go"]["train"]
    other = Manifest("x", "gpt2", 2048, False, {"go": {"train": (second, first)}})
    same = Manifest("x", "gpt2", 2048, False, {"go": {"train": (first, second)}})
    assert same.fingerprint("train", "go") == MANIFEST.fingerprint("train", "go")
    assert other.fingerprint("train", "go") != MANIFEST.fingerprint("train", "go")
