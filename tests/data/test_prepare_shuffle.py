"""The shuffle: runs and their segments, in one level or two, of a size that does not shrink."""

import dataclasses
import itertools
import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegen_pax.data.prepare import settings as settings_module
from codegen_pax.data.prepare import shuffle, work_files
from codegen_pax.data.prepare.blocks import PIECES, Block
from codegen_pax.data.prepare.settings import Settings
from codegen_pax.data.prepare.work_files import Segment
from tests.data.prepared_corpora import prepare_corpus

TRAIN = ("", "train")


def block(keys):
    """Documents with these keys, the n-th of which is n + 1 times its own number."""
    rows = [
        {"key": key.to_bytes(16, "big"), "tokens": n + 1, "offset": 0, "source": f"s{n}"}
        for n, key in enumerate(keys)
    ]
    tokens = np.repeat(np.arange(len(rows)), np.arange(1, len(rows) + 1)).astype(np.uint16)
    return Block(tokens, np.empty(0, np.uint8), pa.Table.from_pylist(rows, schema=PIECES))


@given(st.lists(st.integers(0, 2**64 - 1), max_size=20), st.integers(1, 4_096))
def test_a_bucket_is_a_range_of_keys(keys, num_buckets):
    keys += [0, 2**64 - 1, (1 << 64) // num_buckets, -(-(1 << 64) // num_buckets) - 1]
    keys = [key for key in keys if key < 1 << 64]
    actual = shuffle.bucket_numbers(np.array(keys, np.uint64), num_buckets)
    assert actual.tolist() == [key * num_buckets >> 64 for key in keys]


@given(st.lists(st.lists(st.integers(0, 2**128 - 1), max_size=8), max_size=5))
def test_blocks_are_read_as_they_were_stored(several):
    blocks = [block(keys) for keys in several]
    read = [*Block.parse(b"".join(one.serialise() for one in blocks))]
    assert [one.pieces for one in read] == [one.pieces for one in blocks]
    assert [one.tokens.tolist() for one in read] == [one.tokens.tolist() for one in blocks]


def test_a_run_has_a_segment_for_each_bucket(tmp_path, monkeypatch):
    monkeypatch.setattr(shuffle, "HELD_DOCUMENTS", 3)
    settings = Settings("pile", str(tmp_path))
    run = shuffle.RunWriter(settings, "tokenised/0")
    numbers = [2, 0, 2, 1, 2, 0, 2]
    for place, number in enumerate(numbers):
        run.add((*TRAIN, number), block([place]))
        assert sum(map(len, run._held.values())) < 3  # all else is compressed
    segments = run.finish()
    assert [bucket for bucket, _ in segments] == [(*TRAIN, number) for number in range(3)]
    end = 0
    for (*_, number), segment in segments:
        assert segment.start == end
        end += segment.size
        keys = Block.load([segment], settings).keys()[:, 1].tolist()
        assert keys == [place for place, one in enumerate(numbers) if one == number]
    assert (settings.work_folder / "tokenised/0").stat().length == end
    assert shuffle.RunWriter(settings, "tokenised/1").finish() == []  # and no file
    assert [path.name for path in (settings.work_folder / "tokenised").iterdir()] == ["0"]


def test_segments_of_a_coarse_bucket_are_divided_some_at_a_time(tmp_path):
    settings = Settings("pile", str(tmp_path), bucket_bytes=1_000)
    num_buckets = {TRAIN: 100}
    assert settings_module.buckets_in_coarse(100) == 10
    keys = [number * 2**128 // 300 for number in range(30, 60)]  # of the buckets 10 to 19
    stored = []
    for number in range(6):
        run = shuffle.RunWriter(settings, f"tokenised/{number}")
        run.add((*TRAIN, 1), block(keys[number::6]))
        stored += [segment for _, segment in run.finish()]
    divisions = [*shuffle.plan_divisions(((*TRAIN, 1), stored[::-1]), settings)]
    assert len(divisions) > 1
    assert sorted(itertools.chain(*(one.segments for one in divisions))) == sorted(stored)
    for one in divisions:
        assert len(one.segments) == 1 or sum(each.size for each in one.segments) <= 2_000
    buckets = {}
    for one in divisions:
        for bucket, segment in shuffle.divide(one, settings, num_buckets):
            for key, low in Block.load([segment], settings).keys().tolist():
                buckets[(key << 64) + low] = bucket
    assert buckets == {key: (*TRAIN, (key >> 64) * 100 >> 64) for key in keys}


@pytest.mark.parametrize("size", [10**9, 4 * 10**9, 16 * 10**9, 10**11, 1_200 * 10**9])
def test_requests_are_in_proportion_to_the_text(size):
    settings = Settings("pile", "")
    num_buckets = {TRAIN: settings.num_buckets(size), ("", "validation"): 1}
    width = settings_module.buckets_in_coarse(num_buckets[TRAIN])
    coarse = -(-num_buckets[TRAIN] // width)
    in_batch = settings.chunks_in_batch(size, num_buckets)
    batches = size / (in_batch * settings.bucket_bytes)
    assert in_batch * settings.bucket_bytes <= 512 << 20  # whose tokens are held compressed
    segments = batches * (coarse + 1)
    if width > 1:  # a quarter of the text is stored
        divisions = max(coarse, size / 4 / (shuffle.DIVIDED_BUCKETS * settings.bucket_bytes))
        segments += divisions * width
    assert segments < 0.35 * size / 2**20
    assert batches >= 7  # there is work for several processes


def test_one_level_and_two_give_the_same_bytes(tmp_path, monkeypatch):
    raw = tmp_path / "raw.jsonl"
    texts = [f"{number} is a number. " * (number % 7 + 1) for number in range(200)]
    raw.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    made = []
    for most in (1_000, 1):
        monkeypatch.setattr(settings_module, "ONE_LEVEL_BUCKETS", most)
        settings = Settings("pile", str(tmp_path / str(most)), row_length=16, bucket_bytes=600)
        corpus = prepare_corpus(settings, raw)
        made.append(dataclasses.replace(corpus, settings={}, code={}))
        shards = [shard.name for shard in corpus.shards("train")]
        assert len(shards) > 20
        made.append([(tmp_path / str(most) / name).read_bytes() for name in shards])
    assert made[:2] == made[2:]


def test_a_work_file_that_is_cut_is_named(tmp_path):
    settings = Settings("pile", str(tmp_path))
    work_files.write(settings, "tokenised/0", b"x" * 9)
    message = r"tokenised/0 is cut: found 4 bytes from byte 5, expected 8"
    with pytest.raises(work_files.WorkFileError, match=message):
        Segment("tokenised/0", 5, 8).read(settings)
