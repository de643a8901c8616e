"""What a step holds is bounded in the number of documents: counted in bytes, by tracemalloc."""

import gzip
import hashlib
import json
import tracemalloc
import zlib

import datasketch
import numpy as np
import pytest

from codegen_pax.data.prepare import duplicates, examine, order, output, tokenise
from codegen_pax.data.prepare.settings import Settings
from codegen_pax.data.rules import near_duplicates
from codegen_pax.data.sources import discovery, json_records, partitions

TRAIN = ("", "train")


def peak(function, *arguments):
    """(what a function returns, the most bytes of Python's and numpy's it held at once)."""
    tracemalloc.start()
    try:
        return function(*arguments), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.fixture
def small_pieces(monkeypatch):
    """What is held at once, scaled down, so that a few thousand documents are many pieces."""
    for module, name, value in (
        (json_records, "CHUNK_BYTES", 1 << 14),
        (examine, "BUFFER_BYTES", 1 << 14),
        (tokenise, "BATCH_DOCUMENTS", 128),
        (tokenise, "FILE_DOCUMENTS", 512),
        (tokenise, "PASSED_AT_ONCE", 512),
    ):
        monkeypatch.setattr(module, name, value)
    # What is measured is not how it is hashed, which takes long.
    monkeypatch.setattr(near_duplicates, "signature", signature)


def signature(text):
    return np.frombuffer(hashlib.shake_128(text.encode()).digest(512), "<u4")


def peaks(folder, count):
    """The peaks of both readings of `count` small documents, every fourth a copy."""
    folder.mkdir()
    texts = [f"text {n - (n % 4 == 3)}" for n in range(count)]
    data = "".join(json.dumps({"text": text}) + "\n" for text in texts).encode()
    (folder / "raw.jsonl.gz").write_bytes(gzip.compress(data))
    settings = Settings("pile", str(folder / "out"), validation=0.0, near_duplicates=True, ranges=2)
    (partition,) = partitions.plan("pile", discovery.find("pile", [str(folder / "raw.jsonl.gz")]))
    output.begin(settings)
    actual, first = peak(examine.examine, partition, settings)
    drops = []
    for number in range(2):
        files = [path for place, path in actual.digests if place == number]
        drops += [drop for _, drop in duplicates.find_exact((number, files), settings)]
    places = np.concatenate([np.fromfile(path, "<i4") for _, path in drops])
    assert sorted(places) == list(range(3, count, 4))
    tokenised, second = peak(tokenise.tokenise, (partition, drops), settings, {TRAIN: 1})
    ((rules,),) = (by_licence.values() for by_licence in tokenised.report.counts.values())
    assert rules["kept"][0] == count * 3 // 4 and rules["exact_duplicate"][0] == count // 4
    return first, second


def test_both_readings_hold_no_more_of_more_documents(small_pieces, tmp_path):
    peaks(tmp_path / "warm", 100)  # what is made once is not counted
    few, many = peaks(tmp_path / "few", 1_000), peaks(tmp_path / "many", 4_000)
    for before, after in zip(few, many, strict=True):
        # Five bytes of each say whether it is dropped; the rest are names of so small pieces.
        assert after - before < 12 * 3_000


def test_conversations_are_spread_over_rows_a_piece_at_a_time(monkeypatch, tmp_path):
    count, length = 2_000, 2_048
    raw = tmp_path / "raw.jsonl"
    pairs = [{"instruction": f"Add {n}.", "output": f"{n} " * (n % 7 + 1)} for n in range(count)]
    raw.write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    (partition,) = partitions.plan("instruction", discovery.find("instruction", [str(raw)]))
    shards, held = [], []
    for rows in (32, count):
        monkeypatch.setattr(order, "ROWS_AT_ONCE", rows)
        folder = str(tmp_path / f"out{rows}")
        settings = Settings("instruction", folder, row_length=length, validation=0.0)
        output.begin(settings)
        examine.examine(partition, settings)
        tokenised = tokenise.tokenise((partition, []), settings, {TRAIN: 1})
        bucket_blocks = ((*TRAIN, 0), [block for _, block in tokenised.blocks])
        (((_, made),), size) = peak(
            lambda *arguments: [*order.write_bucket(*arguments)],
            bucket_blocks,
            settings,
            {TRAIN: 1},
            {},
        )
        assert made.shard.rows == count
        shards.append((tmp_path / f"out{rows}" / made.shard.name).read_bytes())
        held.append(size)
    assert shards[0] == shards[1]
    dense = 4 * count * length  # tokens, answers, and which of them are real
    assert held[0] < dense / 4 < dense < held[1]


def test_a_signature_holds_a_batch_of_shingles_at_once():
    tokens = [str(number % 7_919) for number in range(40_000)]
    actual, held = peak(near_duplicates.signature, " ".join(tokens))
    options = {"num_perm": near_duplicates.PERMUTATIONS, "seed": near_duplicates.SEED}
    sketch = datasketch.MinHash(**options, hashfunc=zlib.crc32)
    shingles = [" ".join(tokens[n : n + 5]).encode() for n in range(len(tokens) - 4)]
    _, at_once = peak(sketch.update_batch, shingles)
    assert np.array_equal(actual, sketch.hashvalues)
    assert held < at_once / 4
