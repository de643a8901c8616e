"""What a step holds is bounded in the number of documents: counted in bytes, by tracemalloc."""

import gzip
import json
import tracemalloc
import zlib

import datasketch
import numpy as np
import pytest

from codegen_pax.data.prepare import chunks, order, processes, shuffle, tokenise
from codegen_pax.data.prepare import settings as settings_module
from codegen_pax.data.prepare.settings import Settings
from codegen_pax.data.rules import near_duplicates
from codegen_pax.data.sources import json_records
from tests.data.prepared_corpora import survey_corpus

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
        (chunks, "COMPRESSED_AT_ONCE", 1 << 12),
        (tokenise, "BATCH_DOCUMENTS", 128),
        (tokenise, "PIECES_AT_ONCE", 128),
        (shuffle, "HELD_DOCUMENTS", 512),
        (settings_module, "MOST_CHUNKS", 1),
    ):
        monkeypatch.setattr(module, name, value)


def peaks(folder, count):
    """The peaks of reading and of tokenising `count` small documents, every fourth a copy."""
    folder.mkdir()
    texts = [f"text {n - (n % 4 == 3)}" for n in range(count)]
    data = "".join(json.dumps({"text": text}) + "\n" for text in texts).encode()
    (folder / "raw.jsonl.gz").write_bytes(gzip.compress(data))
    settings = Settings("pile", str(folder / "out"), validation=0.0, ranges=2, bucket_bytes=4_096)
    first, reading = peak(survey_corpus, settings, folder / "raw.jsonl.gz")
    dropped = processes.find_duplicates(processes.ThisProcess(), settings, first)
    tokenising, kept = 0, 0
    for batch in first.batches:
        made, size = peak(
            tokenise.tokenise,
            (batch, dropped.get(batch.number, [])),
            settings,
            {TRAIN: 1},
        )
        tokenising = max(tokenising, size)
        ((rules,),) = (by_licence.values() for by_licence in made.report.counts.values())
        kept += rules["kept"][0]
    assert kept == count * 3 // 4
    return reading, tokenising


def test_reading_and_tokenising_hold_no_more_of_more_documents(small_pieces, tmp_path):
    peaks(tmp_path / "warm", 100)  # what is made once is not counted
    few, many = peaks(tmp_path / "few", 1_000), peaks(tmp_path / "many", 4_000)
    for before, after in zip(few, many, strict=True):
        # Names of so small chunks.
        assert after - before < 12 * 3_000


def test_conversations_are_spread_over_rows_a_piece_at_a_time(monkeypatch, tmp_path):
    count, length = 2_000, 2_048
    raw = tmp_path / "raw.jsonl"
    pairs = [{"instruction": f"Add {n}.", "output": f"{n} " * (n % 7 + 1)} for n in range(count)]
    raw.write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    shards, held = [], []
    for rows in (32, count):
        monkeypatch.setattr(order, "ROWS_AT_ONCE", rows)
        folder = str(tmp_path / f"out{rows}")
        settings = Settings("instruction", folder, row_length=length, validation=0.0)
        (batch,) = survey_corpus(settings, raw).batches
        tokenised = tokenise.tokenise((batch, []), settings, {TRAIN: 1})
        bucket_segments = ((*TRAIN, 0), [segment for _, segment in tokenised.segments])
        (((_, made),), size) = peak(
            lambda *arguments: [*order.write_bucket(*arguments)],
            bucket_segments,
            settings,
            {TRAIN: 1},
            {},
        )
        assert made.shard.rows == count
        shards.append((order.shards_folder(settings) / made.shard.name).read_bytes())
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
