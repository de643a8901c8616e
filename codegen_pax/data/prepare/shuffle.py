"""The shuffle: documents on their way from batches, in the inputs' order, to buckets.

A bucket is a range of the keys that documents are ordered by. The documents of a batch are written
as a run, a file with a segment for each bucket, and a bucket reads its segment of every run. With
many buckets, segments would be many and small, so that a part with more than `ONE_LEVEL_BUCKETS` is
shuffled in two levels: runs have a segment for each coarse bucket, of about the root of the number
of buckets, and `divide` makes of several segments of a coarse bucket a run of its buckets.

Runs grow with the number of their segments (`Settings.chunks_in_batch`), up to 512 MiB of text, so
that the requests of a level are in proportion to the text.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator

import numpy as np

from codegen_pax.data.prepare import work_files
from codegen_pax.data.prepare.blocks import Block
from codegen_pax.data.prepare.settings import BucketCounts, Settings, buckets_in_coarse
from codegen_pax.data.prepare.work_files import Segment

Bucket = tuple[str, str, int]  # part, split, number

# Limits of what is held before it is compressed; the number of documents is limited as well as
# their size, since very short documents take more memory than their text.
HELD_TOKENS, HELD_DOCUMENTS = 1 << 24, 1 << 16
# Stored bytes of the segments that are divided together, in `Settings.bucket_bytes`: with the
# default, 128 MiB, which is about as much as a run of eight chunks.
DIVIDED_BUCKETS = 2


class RunWriter:
    """Collects documents by bucket, and writes them as a run.

    Compressed documents stay in memory until the run is written: some 180 MB of 512 MiB of text.
    """

    def __init__(self, settings: Settings, path: str):
        self._settings, self._path = settings, path
        self._held: dict[Bucket, list[Block]] = {}
        self._num_tokens = self._num_documents = 0
        self._stored: dict[Bucket, list[bytes]] = {}

    def add(self, bucket: Bucket, block: Block) -> None:
        """Add documents of a bucket."""
        self._held.setdefault(bucket, []).append(block)
        self._num_tokens += len(block.tokens)
        self._num_documents += len(block.pieces)
        if self._num_tokens >= HELD_TOKENS or self._num_documents >= HELD_DOCUMENTS:
            self._compress()

    def _compress(self) -> None:
        for bucket, blocks in self._held.items():
            stored = Block.concatenate(blocks).serialise()
            self._stored.setdefault(bucket, []).append(stored)
        self._held, self._num_tokens, self._num_documents = {}, 0, 0

    def finish(self) -> list[tuple[Bucket, Segment]]:
        """Write the run; return (bucket, its segment)."""
        self._compress()
        return work_files.write_segments(self._settings, self._path, sorted(self._stored.items()))


def coarse_bucket(part: str, split: str, bucket: int, num_buckets: BucketCounts) -> Bucket:
    """Return the coarse bucket of a bucket; without two levels, the bucket itself."""
    return part, split, bucket // buckets_in_coarse(num_buckets[part, split])


def is_coarse(bucket: Bucket, num_buckets: BucketCounts) -> bool:
    """Return whether segments of a run are to be divided into their buckets."""
    part, split, _ = bucket
    return buckets_in_coarse(num_buckets[part, split]) > 1


@dataclasses.dataclass(frozen=True)
class Division:
    """Segments of a coarse bucket that are divided together.

    Attributes:
        bucket: the coarse bucket.
        number: number among the divisions of the bucket.
        segments: the segments.
    """

    bucket: Bucket
    number: int
    segments: tuple[Segment, ...]


def plan_divisions(
    bucket_segments: tuple[Bucket, Iterable[Segment]], settings: Settings
) -> Iterator[Division]:
    """Group the segments of a coarse bucket."""
    bucket, segments = bucket_segments
    limit = DIVIDED_BUCKETS * settings.bucket_bytes
    groups: list[list[Segment]] = []
    size = limit
    for segment in sorted(segments):
        if size + segment.size > limit:
            groups.append([])
            size = 0
        groups[-1].append(segment)
        size += segment.size
    for number, several in enumerate(groups):
        yield Division(bucket, number, tuple(several))


def describe_division(division: Division) -> str:
    """Describe a division."""
    part, split, number = division.bucket
    return ", ".join(filter(None, (f"coarse bucket {number} of {part}", split)))


def divide(
    division: Division, settings: Settings, num_buckets: BucketCounts
) -> list[tuple[Bucket, Segment]]:
    """Write segments of a coarse bucket as a run of its buckets.

    Returns:
        (bucket, its segment).
    """
    part, split, coarse = division.bucket
    name = "-".join(filter(None, (part, split, f"{coarse:04d}", f"{division.number:06d}")))
    writer = RunWriter(settings, f"divided/{name}")
    for segment in division.segments:
        for block in Block.parse(segment.read(settings)):
            buckets = bucket_numbers(block.keys()[:, 0], num_buckets[part, split])
            for number in np.unique(buckets).tolist():
                some = block.select(np.flatnonzero(buckets == number))
                writer.add((part, split, number), some)
    return writer.finish()


def bucket_numbers(keys: np.ndarray, num_buckets: int) -> np.ndarray:
    """Return the buckets of keys (the first 8 of their bytes, uint64 [n]): int64 [n].

    A bucket is a range of keys, so that the sorted buckets together are the sorted split. Bucket n
    begins at the least key k with k * num_buckets >= n * 2**64.
    """
    firsts = [-(-(number << 64) // num_buckets) for number in range(1, num_buckets)]
    return np.searchsorted(np.array(firsts, np.uint64), keys, "right")
