"""Which documents are copies, or near copies, of an earlier one.

Documents are compared within ranges of their hashes. In between, hashes and what is dropped go
through files with a segment for each range, or for each batch, which are read by one request each:

    sort_hashes     each group of chunks: a file of entries, with a segment for each range
    find_exact      each range: a file of the documents that it drops, with a segment for each
                      region, which is `BATCHES_IN_REGION` batches; `near` finds near duplicates
    sort_drops      each region: a file with a segment for each batch
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Sequence

import numpy as np

from codegen_pax.data.prepare import work_files
from codegen_pax.data.prepare.chunks import DIGEST_BYTES, Batch, Chunk, group
from codegen_pax.data.prepare.settings import Settings
from codegen_pax.data.prepare.work_files import Segment
from codegen_pax.data.rules import near_duplicates

EXACT, NEAR = "exact_duplicate", "near_duplicate"
RULES = (None, NEAR, EXACT)  # an exact duplicate is not counted as a near one too

# One range holds the digests of about this much text; they are in memory at once.
RANGE_BYTES = 4 << 30
# Documents of a group of chunks, whose entries are sorted in memory: 80 MB of DIGEST, 90 of BAND. A
# range of bands holds as many, or those of a range of digests if these are more.
EXACT_DOCUMENTS, NEAR_DOCUMENTS = 1 << 21, 1 << 19
BATCHES_IN_REGION = 64

# A document: its partition, and its index among those of the partition that passed.
DOCUMENT = np.dtype([("partition", "<i4"), ("index", "<i4")])
DIGEST = np.dtype([("hash", f"V{DIGEST_BYTES}"), ("document", DOCUMENT)])
BAND = np.dtype([("hash", "V8"), ("document", DOCUMENT)])
DROP = np.dtype([("document", DOCUMENT), ("rule", "u1")])


@dataclasses.dataclass(frozen=True)
class HashGroup:
    """Chunks whose entries are sorted together.

    Attributes:
        number: number among the groups of the same kind.
        is_near: whether the entries are BAND, not DIGEST.
        ranges: number of ranges that the entries are divided into.
        chunks: the chunks.
    """

    number: int
    is_near: bool
    ranges: int
    chunks: tuple[Chunk, ...]

    @property
    def folder(self) -> str:
        """Folder of their files."""
        return "bands" if self.is_near else "sorted_digests"


def num_ranges(num_bytes: int) -> int:
    """Return the number of ranges that the hashes of `num_bytes` of inputs are divided into."""
    return max(1, -(-num_bytes // RANGE_BYTES))


def hash_groups(chunks: Sequence[Chunk], is_near: bool, settings: Settings) -> list[HashGroup]:
    """Group the chunks, which are in order."""
    limit = NEAR_DOCUMENTS if is_near else EXACT_DOCUMENTS
    groups = group(chunks, limit, "documents")
    ranges = min(settings.ranges, len(groups)) if is_near else settings.ranges
    return [HashGroup(number, is_near, ranges, one) for number, one in enumerate(groups)]


def signature_file(chunk: Chunk) -> str:
    """Return the file of the MinHashes of a chunk, relative to the work folder."""
    return f"signatures/{chunk.name}"


def describe_group(hashes: HashGroup) -> str:
    """Describe a group."""
    return f"group {hashes.number} of {hashes.folder}"


def sort_hashes(hashes: HashGroup, settings: Settings) -> list[tuple[int, Segment]]:
    """Write the entries of a group by the ranges of their hashes.

    Returns:
        (range, segment of DIGEST or BAND).
    """
    make_entries = _bands if hashes.is_near else _digests
    entries = np.concatenate([make_entries(chunk, settings) for chunk in hashes.chunks])
    first_bytes = np.frombuffer(entries["hash"].tobytes(), np.uint8)
    first_bytes = first_bytes.reshape(len(entries), -1)[:, :8]
    ranges = first_bytes.copy().view("<u8").ravel() % np.uint64(hashes.ranges)
    return write_by(settings, f"{hashes.folder}/{hashes.number:06d}", ranges, entries)


def write_by(
    settings: Settings, path: str, keys: np.ndarray, entries: np.ndarray
) -> list[tuple[int, Segment]]:
    """Write entries with a segment for each key; those of a key remain in their order."""
    order = np.argsort(keys, kind="stable")
    distinct, starts = np.unique(keys[order], return_index=True)
    several = np.split(entries[order], starts[1:])
    pieces = ((int(key), [one.tobytes()]) for key, one in zip(distinct, several, strict=False))
    return work_files.write_segments(settings, path, pieces)


def _entries(dtype: np.dtype, hashes: bytes, chunk: Chunk, counts: Sequence[int]) -> np.ndarray:
    """Return an entry for each hash; each document of the chunk has as many as `counts` says."""
    entries = np.empty(sum(counts), dtype)
    entries["hash"] = np.frombuffer(hashes, dtype["hash"])
    entries["document"]["partition"] = chunk.partition
    indices = np.arange(chunk.first, chunk.first + chunk.documents)
    entries["document"]["index"] = np.repeat(indices, counts)
    return entries


def _digests(chunk: Chunk, settings: Settings) -> np.ndarray:
    return _entries(DIGEST, chunk.read_digests(settings), chunk, [1] * chunk.documents)


def _bands(chunk: Chunk, settings: Settings) -> np.ndarray:
    size = chunk.documents * near_duplicates.SIGNATURE.itemsize
    data = Segment(signature_file(chunk), 0, size).read(settings)
    signatures = np.frombuffer(data, "<u4").reshape(-1, near_duplicates.PERMUTATIONS)
    bands = [near_duplicates.bands(signature) for signature in signatures]
    hashes = [hashlib.blake2b(one, digest_size=8).digest() for several in bands for one in several]
    return _entries(BAND, b"".join(hashes), chunk, [len(several) for several in bands])


def load(segments: Iterable[Segment], dtype: np.dtype, settings: Settings) -> np.ndarray:
    """Return the entries of all segments, in the order of their documents."""
    return np.concatenate(
        [np.empty(0, dtype)]
        + [np.frombuffer(one.read(settings), dtype) for one in sorted(segments)]
    )


def places(documents: np.ndarray) -> np.ndarray:
    """Return numbers that are in the order of documents: int64 [n]."""
    return (documents["partition"].astype(np.int64) << 32) + documents["index"]


def describe(range_segments: tuple[int, Iterable[Segment]]) -> str:
    """Describe a range."""
    return f"range {range_segments[0]} of the digests"


def find_exact(
    range_segments: tuple[int, Iterable[Segment]], settings: Settings, batches: Sequence[Batch]
) -> list[tuple[int, Segment]]:
    """Find all but the first of equal documents in a range of digests.

    Args:
        range_segments: (range, its segments of DIGEST).
        settings: Settings of the corpus.
        batches: The batches of the corpus.

    Returns:
        (region, segment of DROP).
    """
    number, segments = range_segments
    entries = load(segments, DIGEST, settings)
    _, firsts = np.unique(entries["hash"], return_index=True)
    is_copy = np.ones(len(entries), bool)
    is_copy[firsts] = False
    return write_drops(EXACT, f"{number:06d}", entries["document"][is_copy], settings, batches)


def write_drops(
    rule: str, name: str, documents: np.ndarray, settings: Settings, batches: Sequence[Batch]
) -> list[tuple[int, Segment]]:
    """Write the documents that a rule drops by region; return (region, segment of DROP)."""
    drops = np.empty(len(documents), DROP)
    drops["document"], drops["rule"] = documents, RULES.index(rule)
    regions = _batch_numbers(documents, batches) // BATCHES_IN_REGION
    return write_by(settings, f"{rule}/{name}", regions, drops)


def _batch_numbers(documents: np.ndarray, batches: Sequence[Batch]) -> np.ndarray:
    """Return the number of the batch of each document; `batches` are consecutive."""
    firsts = np.array([(one.chunks[0].partition, one.chunks[0].first) for one in batches], DOCUMENT)
    numbers = np.array([batch.number for batch in batches], np.int64)
    return numbers[np.searchsorted(places(firsts), places(documents), "right") - 1]


def describe_region(region_segments: tuple[int, Iterable[Segment]]) -> str:
    """Describe a region."""
    return f"the duplicates in region {region_segments[0]} of the batches"


def sort_drops(
    region_segments: tuple[int, Iterable[Segment]], settings: Settings, batches: Sequence[Batch]
) -> list[tuple[int, Segment]]:
    """Write the documents of a region that are dropped by batch.

    Args:
        region_segments: (region, its segments of DROP).
        settings: Settings of the corpus.
        batches: The batches of the corpus.

    Returns:
        (number of a batch, segment of DROP).
    """
    region, segments = region_segments
    drops = load(segments, DROP, settings)
    drops = drops[np.lexsort((drops["rule"], places(drops["document"])))]
    first = region * BATCHES_IN_REGION
    numbers = _batch_numbers(drops["document"], batches[first : first + BATCHES_IN_REGION])
    return write_by(settings, f"drops/{region:06d}", numbers, drops)


def rules_of(chunk: Chunk, drops: np.ndarray) -> np.ndarray:
    """Return which of `RULES` drops each document of a chunk: uint8 [documents].

    Args:
        chunk: The chunk.
        drops: DROP of its batch.
    """
    rules = np.zeros(chunk.documents, np.uint8)
    indices = drops["document"]["index"] - chunk.first
    is_here = drops["document"]["partition"] == chunk.partition
    is_here &= (indices >= 0) & (indices < chunk.documents)
    np.maximum.at(rules, indices[is_here], drops["rule"][is_here])
    return rules


def load_drops(segments: Iterable[Segment], settings: Settings) -> np.ndarray:
    """Return DROP [n] of a batch."""
    return load(segments, DROP, settings)
