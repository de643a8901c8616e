"""Near duplicates over a whole corpus: who is compared with whom, and what is dropped."""

import itertools
import json

import datasketch
import numpy as np
import pytest

from codegen_pax.data.prepare import (
    duplicates,
    near,
    output,
    pipeline,
    processes,
    work_files,
)
from codegen_pax.data.prepare.chunks import Chunk
from codegen_pax.data.prepare.settings import Settings
from codegen_pax.data.rules import near_duplicates
from codegen_pax.data.sources import partitions
from tests.data.prepared_corpora import find, survey_corpus


def text(name, changed=0):
    """A text of 200 lines of five tokens each, the last `changed` of which are its own."""
    lines = [f"{name} one{n} two{n} three{n} = {n}" for n in range(200 - changed)]
    return "\n".join([*lines, *(f"{name} {changed} other{n} = {n}" for n in range(changed))]) + "\n"


def similar_pairs(texts):
    """The indices of each two texts that are near duplicates, empty ones left out."""
    signatures = {
        n: near_duplicates.signature(text) for n, text in enumerate(texts) if text.strip()
    }
    return [
        (first, other)
        for first, other in itertools.combinations(signatures, 2)
        if near_duplicates.are_similar(signatures[first][None], signatures[other][None])
    ]


TEXTS = [
    *(text(name, changed) for name in "abcdef" for changed in (0, 3, 6, 60)),
    *(text(name) for name in "ghijkl"),
    *(mark * 5 for mark in "\n \t"),
    "x = 1\n",
    "x = 2\n",
]


@pytest.mark.parametrize(("ranges", "at_most"), [(1, partitions.PARTITION_BYTES), (3, 5_000)])
def test_the_first_of_each_cluster_is_kept(tmp_path, monkeypatch, ranges, at_most):
    monkeypatch.setattr(duplicates, "NEAR_DOCUMENTS", len(TEXTS) // ranges)
    raw = tmp_path / "raw.jsonl"
    raw.write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    settings = Settings("pile", str(tmp_path / "out"), near_duplicates=True, ranges=ranges)
    actual, pieces = find(settings, raw, at_most=at_most)
    assert (len(pieces) > 10) == (ranges > 1)
    output.begin(settings)
    pipeline.run(settings, actual, pieces)
    dropped = near_duplicates.all_but_first(similar_pairs(TEXTS))
    assert len(dropped) == 12  # two of each of six
    made = output.finish(settings)
    (counts,) = made.counts["documents"]["text"].values()
    assert counts["near_duplicate"][:2] == [12, sum(len(TEXTS[n]) for n in dropped)]
    assert counts["kept"][0] == len(TEXTS) - 12


def test_those_unlike_the_first_of_a_band_are_compared_with_one_another(tmp_path, monkeypatch):
    monkeypatch.setattr(near, "PAIRS_AT_ONCE", 2)
    settings = Settings("pile", str(tmp_path))
    # Place and partition of each, all in one band: b and c come in pairs behind a, d is alone.
    texts = [text("a"), text("b"), text("c"), text("d"), text("c", 3), text("b", 3)]
    where = [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 1)]
    chunks = [Chunk(partition, 0, 0, 2, 0, 0, "", "") for partition in range(3)]
    for chunk in chunks:
        several = texts[2 * chunk.partition : 2 * chunk.partition + 2]
        signatures = [near_duplicates.signature(text).tobytes() for text in several]
        work_files.write(settings, duplicates.signature_file(chunk), b"".join(signatures))
    entries = np.array([(b"7" * 8, place) for place in where], duplicates.BAND)
    segment = work_files.write(settings, "bands/0", entries.tobytes())
    groups = [
        duplicates.HashGroup(0, True, 1, tuple(chunks[:2])),
        duplicates.HashGroup(1, True, 1, (chunks[2],)),
    ]
    shared = near.find_shared((0, [segment]), settings, groups)
    signatures = [
        signature
        for group, wanted in shared.wanted
        for _, signature in near.gather_signatures((groups[group], [(0, wanted)]), settings)
    ]
    found = near.find_pairs((shared, signatures[::-1]), settings)
    pairs = np.frombuffer(found.read(settings), near.PAIR).tolist()
    assert pairs == [((0, 1), (2, 1)), ((1, 0), (2, 0))]


def test_requests_do_not_grow_as_ranges_times_chunks(tmp_path, monkeypatch):
    raw = tmp_path / "raw.jsonl"
    raw.write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    read, real = [], work_files.Segment.read

    def count(segment, settings):
        read.append(segment)
        return real(segment, settings)

    monkeypatch.setattr(work_files.Segment, "read", count)
    monkeypatch.setattr(duplicates, "NEAR_DOCUMENTS", 12)
    counted = []
    for size in (40_000, 4_000):  # bytes of a chunk
        settings = Settings(
            "pile", str(tmp_path / str(size)), near_duplicates=True, ranges=16, bucket_bytes=size
        )
        first = survey_corpus(settings, raw)
        assert {group.ranges for group in first.band_groups} == {3}
        read.clear()
        processes.find_duplicates(processes.ThisProcess(), settings, first)
        counted.append((len(first.chunks), len(read)))
    (few, before), (many, after) = counted
    assert many > few + 20
    # Of each chunk: digests, documents, and MinHashes, for their bands and those that are wanted.
    assert after - before <= 4 * (many - few)


def test_bands_are_those_that_datasketch_chooses():
    options = {"threshold": near_duplicates.THRESHOLD, "num_perm": near_duplicates.PERMUTATIONS}
    index = datasketch.MinHashLSH(**options, weights=(0.1, 0.9))
    assert (index.b, index.r) == (near_duplicates.BANDS, near_duplicates.BAND_VALUES)
