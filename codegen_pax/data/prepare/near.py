"""Which documents are near copies of an earlier one.

Two documents with a band of their MinHashes in common are compared by their MinHashes. These are
brought to the ranges of bands as documents are to buckets, so that no range reads those of a chunk:

    sign                each chunk: MinHashes
    sort_hashes         each group of chunks: bands, with a segment for each range (`duplicates`)
    find_shared         each range: the bands that several documents share, and a segment for each
                          group of the documents whose MinHashes are wanted
    gather_signatures   each group: wanted MinHashes, with a segment for each range
    find_pairs          each range: pairs of near duplicates
    find_near           all pairs: the documents that are dropped
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Iterable, Sequence

import numpy as np

from codegen_pax.data.prepare import duplicates, work_files
from codegen_pax.data.prepare.chunks import Batch, Chunk
from codegen_pax.data.prepare.duplicates import BAND, DOCUMENT, HashGroup, places, signature_file
from codegen_pax.data.prepare.examine import content_bytes
from codegen_pax.data.prepare.settings import Settings
from codegen_pax.data.prepare.work_files import Segment
from codegen_pax.data.rules import near_duplicates
from codegen_pax.data.sources import storage

PAIR = np.dtype([("first", DOCUMENT), ("other", DOCUMENT)])

# Pairs that are compared at once: 64 MiB of MinHashes.
PAIRS_AT_ONCE = 1 << 16
# Documents that share a band are compared with the first of them; those that are unlike it are
# compared with the first of those that remain, and so on, at most this many times (our choice).
# The limit bounds the time for a band that thousands of documents share without being alike.
_MAX_ROUNDS = 64


@dataclasses.dataclass(frozen=True)
class Shared:
    """The bands of a range that several documents share.

    Attributes:
        number: number of the range.
        entries: segment of BAND.
        wanted: (number of a group, segment of DOCUMENT: its documents among these).
    """

    number: int
    entries: Segment
    wanted: tuple[tuple[int, Segment], ...]


def describe_chunk(chunk: Chunk) -> str:
    """Describe a chunk."""
    return f"chunk {chunk.number} of {storage.escape_path(chunk.source)}"


def sign(chunk: Chunk, settings: Settings) -> Chunk:
    """Write the MinHashes of the documents of a chunk; return the chunk."""
    signatures = [
        near_duplicates.signature(content_bytes(document).decode()).tobytes()
        for document, _ in chunk.read(settings)
    ]
    work_files.write(settings, signature_file(chunk), b"".join(signatures))
    return chunk


def describe_range(range_segments: tuple[int, Iterable[Segment]]) -> str:
    """Describe a range."""
    return f"range {range_segments[0]} of the bands"


def find_shared(
    range_segments: tuple[int, Iterable[Segment]], settings: Settings, groups: Sequence[HashGroup]
) -> Shared:
    """Find the bands of a range that several documents share.

    Args:
        range_segments: (range, its segments of BAND).
        settings: Settings of the corpus.
        groups: The groups of the chunks, in order.
    """
    number, segments = range_segments
    entries = duplicates.load(segments, BAND, settings)
    _, inverse, counts = np.unique(entries["hash"], return_inverse=True, return_counts=True)
    entries = entries[counts[inverse] > 1]
    documents = np.unique(entries["document"])
    firsts = np.array([(one.chunks[0].partition, one.chunks[0].first) for one in groups], DOCUMENT)
    numbers = np.searchsorted(places(firsts), places(documents), "right") - 1
    written = work_files.write(settings, f"shared/{number:06d}", entries.tobytes())
    wanted = duplicates.write_by(settings, f"wanted/{number:06d}", numbers, documents)
    return Shared(number, written, tuple(wanted))


def describe_wanted(group_wanted: tuple[HashGroup, Iterable[tuple[int, Segment]]]) -> str:
    """Describe a group whose MinHashes are wanted."""
    return duplicates.describe_group(group_wanted[0])


def gather_signatures(
    group_wanted: tuple[HashGroup, Iterable[tuple[int, Segment]]], settings: Settings
) -> list[tuple[int, Segment]]:
    """Write the MinHashes of a group that ranges want.

    Args:
        group_wanted: (group, (range, segment of DOCUMENT) of the ranges that want some).
        settings: Settings of the corpus.

    Returns:
        (range, segment of the MinHashes, in the order of the documents).
    """
    group, wanted = group_wanted
    if not wanted:
        return []
    documents = []
    num_documents = sum(chunk.documents for chunk in group.chunks)
    signatures = np.empty(num_documents, near_duplicates.SIGNATURE)
    start = 0
    for chunk in group.chunks:
        size = chunk.documents * near_duplicates.SIGNATURE.itemsize
        data = Segment(signature_file(chunk), 0, size).read(settings)
        signatures[start : start + chunk.documents] = np.frombuffer(data, near_duplicates.SIGNATURE)
        start += chunk.documents
        own = np.empty(chunk.documents, DOCUMENT)
        own["partition"] = chunk.partition
        own["index"] = np.arange(chunk.first, chunk.first + chunk.documents)
        documents.append(places(own))
    rows = np.concatenate(documents)

    def signatures_of(segment: Segment) -> bytes:
        some = places(duplicates.load([segment], DOCUMENT, settings))
        return signatures[np.searchsorted(rows, some)].tobytes()

    pieces = ((number, map(signatures_of, [segment])) for number, segment in sorted(wanted))
    return work_files.write_segments(settings, f"gathered/{group.number:06d}", pieces)


def describe_shared(shared_signatures: tuple[Shared, Iterable[Segment]]) -> str:
    """Describe the shared bands of a range."""
    return describe_range((shared_signatures[0].number, ()))


def find_pairs(shared_signatures: tuple[Shared, Iterable[Segment]], settings: Settings) -> Segment:
    """Find near duplicates that share a band in a range.

    The MinHashes are held in a temporary file of this machine.

    Args:
        shared_signatures: (shared bands, segments of the MinHashes of their documents).
        settings: Settings of the corpus.

    Returns:
        A segment of PAIR.
    """
    shared, segments = shared_signatures
    entries = duplicates.load([shared.entries], BAND, settings)
    bands = np.frombuffer(entries["hash"].tobytes(), "<u8")
    order = np.argsort(bands, kind="stable")
    bands, documents = bands[order], entries["document"][order]
    rows = np.unique(places(documents))  # those of the groups one after another
    near = [np.empty(0, PAIR)]
    with tempfile.TemporaryFile() as file:
        for segment in sorted(segments):
            file.write(segment.read(settings))
        file.flush()
        signatures = np.empty((0, near_duplicates.PERMUTATIONS), np.uint32)
        if len(rows):
            shape = (len(rows), near_duplicates.PERMUTATIONS)
            signatures = np.memmap(file, "<u4", "r", shape=shape)
        for _ in range(_MAX_ROUNDS):
            first = np.searchsorted(bands, bands)  # where the documents of the same band begin
            others = np.flatnonzero(first != np.arange(len(bands)))
            if not len(others):
                break
            pairs = np.empty(len(others), PAIR)
            pairs["first"], pairs["other"] = documents[first[others]], documents[others]
            # Most pairs share more than one band.
            pairs, inverse = np.unique(pairs, return_inverse=True)
            is_near = _are_similar(pairs, rows, signatures)
            near.append(pairs[is_near])
            others = others[~is_near[inverse]]
            bands, documents = bands[others], documents[others]
    data = np.unique(np.concatenate(near)).tobytes()
    return work_files.write(settings, f"pairs/{shared.number:06d}", data)


def _are_similar(pairs: np.ndarray, rows: np.ndarray, signatures: np.ndarray) -> np.ndarray:
    """Return which of `pairs` (PAIR [n]) are near duplicates: bool [n].

    Args:
        pairs: The pairs.
        rows: `places` of the documents of `signatures`, ascending: int64 [m].
        signatures: uint32 [m, PERMUTATIONS].
    """
    is_similar = np.empty(len(pairs), bool)
    for start in range(0, len(pairs), PAIRS_AT_ONCE):
        some = slice(start, start + PAIRS_AT_ONCE)
        first, other = (
            signatures[np.searchsorted(rows, places(pairs[side][some]))]
            for side in ("first", "other")
        )
        is_similar[some] = near_duplicates.are_similar(first, other)
    return is_similar


def find_near(
    segments: Iterable[Segment], settings: Settings, batches: Sequence[Batch]
) -> list[tuple[int, Segment]]:
    """Find all but the first document of each cluster that pairs of near duplicates connect.

    All pairs are in memory at once: some hundred bytes for each near duplicate of the corpus.

    Args:
        segments: Segments of PAIR.
        settings: Settings of the corpus.
        batches: The batches of the corpus.

    Returns:
        (region, segment of DROP).
    """
    pairs = (
        (tuple(pair["first"].tolist()), tuple(pair["other"].tolist()))
        for segment in sorted(segments)
        for pair in np.frombuffer(segment.read(settings), PAIR)
    )
    dropped = sorted(near_duplicates.all_but_first(pairs))
    documents = np.array(dropped, DOCUMENT)
    return duplicates.write_drops(duplicates.NEAR, "all", documents, settings, batches)
