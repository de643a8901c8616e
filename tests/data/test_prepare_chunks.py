"""Documents that passed, in chunks: any input, compressed or not, is work for many."""

import gzip
import hashlib
import json

import hypothesis
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from codegen_pax.data.format.documents import Document, Turn
from codegen_pax.data.prepare import chunks, examine, stages, work_files
from codegen_pax.data.prepare.settings import Settings
from codegen_pax.data.sources import partitions, storage
from codegen_pax.data.sources.partitions import Partition
from tests.data.prepared_corpora import find, survey_corpus

TEXT = st.text(st.characters(codec="utf-8"), max_size=30)
DOCUMENTS = st.builds(
    Document,
    text=TEXT,
    source=TEXT,
    record=st.integers(0, 2**62),
    path=TEXT,
    repository=TEXT,
    licence=TEXT,
    language=TEXT,
    turns=st.lists(st.builds(Turn, TEXT, TEXT), max_size=3).map(tuple),
)


@hypothesis.settings(deadline=None)
@given(st.lists(DOCUMENTS, max_size=30), st.integers(1, 200))
def test_documents_are_read_as_they_were_stored(tmp_path_factory, documents, size):
    settings = Settings("pile", str(tmp_path_factory.mktemp("x")), bucket_bytes=size)
    writer = chunks.ChunkWriter(settings, Partition("pile", "raw.jsonl", 3, 1_000))
    digests = [hashlib.sha256(str(number).encode()).digest() for number in range(len(documents))]
    for document, digest in zip(documents, digests, strict=True):
        writer.add(document, digest, document.size)
    stored = writer.finish()
    read = [pair for chunk in stored for pair in chunk.read(settings)]
    assert read == [*zip(documents, digests, strict=True)]
    assert b"".join(one.read_digests(settings) for one in stored) == b"".join(digests)
    assert [one.first for one in stored] == [
        sum(before.documents for before in stored[:number]) for number in range(len(stored))
    ]
    assert all(one.size < size + max(each.size for each in documents) for one in stored)
    assert sum(one.share for one in stored) <= 1_000


@given(st.lists(st.integers(1, 99), max_size=40), st.integers(1, 300))
def test_groups_are_consecutive_and_about_equal(sizes, limit):
    several = [chunks.Chunk(0, n, n, 1, size, 0, "", "") for n, size in enumerate(sizes)]
    groups = chunks.group(several, limit, "size")
    assert [one for group in groups for one in group] == several
    assert all(groups) and len(groups) <= -(-sum(sizes) // limit)
    mean = sum(sizes) / max(1, -(-sum(sizes) // limit))
    for group in groups:
        largest = max(one.size for one in group)
        assert sum(one.size for one in group) <= mean + largest


PACKED = {
    "raw.jsonl": bytes,
    "raw.jsonl.gz": gzip.compress,
    "raw.jsonl.zst": zstandard.ZstdCompressor().compress,
    "raw.json": lambda data: b"[" + data.strip().replace(b"\n", b",") + b"]",
}


@pytest.mark.parametrize("name", PACKED)
def test_a_file_is_work_for_many_and_is_hashed_as_it_is_read(tmp_path, monkeypatch, name):
    lines = [json.dumps({"text": f"text {number} " * 9}) + "\n" for number in range(300)]
    data = PACKED[name]("".join(lines).encode())
    (tmp_path / name).write_bytes(data)
    settings = Settings("pile", str(tmp_path / "out"), bucket_bytes=2_000, validation=0.0)
    read_again = []
    monkeypatch.setattr(examine.storage, "sha256", read_again.append)
    first = survey_corpus(settings, tmp_path / name)
    assert len(first.batches) >= 6 and len(first.chunks) > 10
    documents = [one for chunk in first.chunks for one, _ in chunk.read(settings)]
    assert [one.text for one in documents] == [json.loads(line)["text"] for line in lines]
    (entry,) = first.inputs
    assert entry == {
        "path": str(tmp_path / name),
        "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    assert read_again == []


def test_a_damaged_file_is_hashed_to_its_end(tmp_path):
    data = gzip.compress(b'{"text": "x"}\n' * 99)
    data = data[:20] + bytes(40) + data[60:] + bytes(range(256)) * 9_000
    (tmp_path / "raw.jsonl.gz").write_bytes(data)
    settings = Settings("pile", str(tmp_path / "out"))
    (partition,) = find(settings, tmp_path / "raw.jsonl.gz")[1]
    examined = examine.examine(partition, settings)
    assert [*examined.report.damaged] == [str(tmp_path / "raw.jsonl.gz")] and not examined.chunks
    assert examined.hashes[0].sha256 == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize(
    ("is_remote", "whole", "expected"), [(False, 10_000, 3), (True, 10_000, 1), (True, 1_000, 3)]
)
def test_a_file_of_lines_is_divided_unless_it_is_remote_and_small(
    tmp_path, monkeypatch, is_remote, whole, expected
):
    (tmp_path / "raw.jsonl").write_text('{"text": "x"}\n' * 99)  # 1,386 bytes
    monkeypatch.setattr(partitions, "WHOLE_BYTES", whole)
    monkeypatch.setattr(partitions, "is_url", lambda path: is_remote)
    _, pieces = find(Settings("pile", "out"), tmp_path / "raw.jsonl", at_most=500)
    assert len(pieces) == expected
    assert all(piece.is_hashed == is_remote for piece in pieces)


def test_a_large_remote_file_is_hashed_in_parts(tmp_path, monkeypatch):
    path = tmp_path / "raw.jsonl"
    lines = [json.dumps({"text": f"text {number} " * 9}) + "\n" for number in range(30)]
    path.write_text("".join(lines) + "not JSON\n")
    data = path.read_bytes()
    monkeypatch.setattr(partitions, "WHOLE_BYTES", 0)
    monkeypatch.setattr(partitions, "is_url", lambda path: True)
    read_again = []
    monkeypatch.setattr(examine.storage, "sha256", read_again.append)
    settings = Settings("pile", str(tmp_path / "out"))
    inputs, pieces = find(settings, path, at_most=500)
    assert stages.to_describe(inputs, pieces) == [] and len(pieces) == 5
    merged = examine.merge(examine.examine(piece, settings) for piece in reversed(pieces))
    first = stages.survey(merged, settings)
    parts = [data[start : start + 500] for start in range(0, len(data), 500)]
    text = "".join(hashlib.sha256(part).hexdigest() + "\n" for part in parts)
    assert first.inputs == [
        {
            "path": str(path),
            "bytes": len(data),
            "part_bytes": 500,
            "sha256_of_parts": hashlib.sha256(text.encode()).hexdigest(),
        }
    ]
    assert read_again == [] and sum(chunk.documents for chunk in first.chunks) == 30


@pytest.mark.parametrize("read", [0, 30, 70, 90])
def test_a_part_that_is_read_in_part_is_hashed_to_its_end(tmp_path, read):
    path = tmp_path / "raw"
    data = bytes(range(100))
    path.write_bytes(data)
    opener = storage.HashingOpener(20, 80)
    with opener(str(path)) as file:
        file.seek(19)
        file.read(read // 2)
        file.read(read - read // 2)
    actual = opener.sha256(storage.File(str(path), 60))
    assert actual == hashlib.sha256(data[20:80]).hexdigest()


def test_read_ahead_is_limited_unless_the_user_says_otherwise(monkeypatch):
    monkeypatch.delenv("GCS_READ_CACHE_BLOCK_SIZE_MB", raising=False)
    work_files.limit_read_ahead()
    assert work_files.os.environ["GCS_READ_CACHE_BLOCK_SIZE_MB"] == "3"
    monkeypatch.setenv("GCS_READ_CACHE_BLOCK_SIZE_MB", "16")
    work_files.limit_read_ahead()
    assert work_files.os.environ["GCS_READ_CACHE_BLOCK_SIZE_MB"] == "16"
