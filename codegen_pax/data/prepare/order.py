"""Buckets of tokenised documents to shards: sorted, concatenated, cut into rows.

A shard is written in the work folder of its run and moved to the corpus when all are complete
(`output.finish`), so that a run that was given up cannot write into the corpus of a later one.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import BinaryIO

import numpy as np
import pyarrow as pa
from etils import epath
from pyarrow import parquet

from codegen_pax.data import TRAIN, VALIDATION
from codegen_pax.data.format.manifest import Shard
from codegen_pax.data.format.tfrecords import RowFormat
from codegen_pax.data.prepare import work_files
from codegen_pax.data.prepare.blocks import Block
from codegen_pax.data.prepare.held_out import KeyRange
from codegen_pax.data.prepare.settings import BucketCounts, Settings
from codegen_pax.data.prepare.shuffle import Bucket
from codegen_pax.data.prepare.work_files import Segment

ROWS_AT_ONCE = 2_048  # rows that are encoded and written together

SplitOfPart = tuple[str, str]  # part, split


@dataclasses.dataclass(frozen=True)
class BucketResult:
    """The result of a bucket, or the documents that a bucket of training gives to validation.

    Attributes:
        number: number of the bucket.
        shard: its shard; None for documents given to validation, which are all left over.
        tokens: how many tokens it had.
        in_rows: how many of them are in rows of the shard.
        leftover: the rest.
    """

    number: int
    shard: Shard | None
    tokens: int
    in_rows: int
    leftover: Segment


@dataclasses.dataclass(frozen=True)
class SplitResult:
    """The shards of a split of a part.

    Attributes:
        part: the part.
        split: the split.
        shards: its shards, in order.
        tokens: how many tokens it had.
        in_rows: how many of them are in rows.
    """

    part: str
    split: str
    shards: list[Shard]
    tokens: int
    in_rows: int


@dataclasses.dataclass(frozen=True)
class _ShardNames:
    """How the shards of a split are numbered and named.

    Attributes:
        part: the part.
        split: the split.
        num_buckets: how many buckets it has, each of which is a shard.
        num_shards: how many shards it has: one for each bucket, and one more if several buckets
            leave documents over or the split gets documents besides the share; at least one.
    """

    part: str
    split: str
    num_buckets: int
    num_shards: int

    @classmethod
    def of(
        cls, part: str, split: str, num_buckets: BucketCounts, extra: Mapping[str, KeyRange]
    ) -> _ShardNames:
        count = num_buckets.get((part, split), 0)
        has_more = split == VALIDATION and part in extra
        return cls(part, split, count, count + 1 if count > 1 or has_more else 1)

    def name(self, number: int) -> str:
        """Return the name of a shard, relative to the corpus."""
        folder = f"{self.part}/" if self.part else ""
        return f"{folder}{self.split}-{number:05d}-of-{self.num_shards:05d}.tfrecord"


def describe_bucket(bucket_segments: tuple[Bucket, Iterable[Segment]]) -> str:
    """Describe a bucket."""
    (part, split, number), _ = bucket_segments
    return f"bucket {number} of {describe_split(((part, split), ()))}"


def describe_split(split_results: tuple[SplitOfPart, Iterable[BucketResult]]) -> str:
    """Describe a split of a part."""
    return ", ".join(filter(None, split_results[0]))


def write_bucket(
    bucket_segments: tuple[Bucket, Iterable[Segment]],
    settings: Settings,
    num_buckets: BucketCounts,
    extra: Mapping[str, KeyRange],
) -> Iterator[tuple[SplitOfPart, BucketResult]]:
    """Sort the documents of a bucket and write its shard.

    Args:
        bucket_segments: (bucket, segments of blocks of its documents, in any order).
        settings: Settings of the corpus.
        num_buckets: Number of buckets of each split of a part.
        extra: part -> the keys of training that are held out besides the share.

    Yields:
        ((part, split), result of the bucket).
    """
    (part, split, number), stored = bucket_segments
    block = Block.load(sorted(stored), settings).sort()
    names = _ShardNames.of(part, split, num_buckets, extra)
    if split == TRAIN and part in extra:
        block, held_out = _hold_out(block, extra[part], settings)
        if size := len(held_out.tokens):
            leftover = _store_leftover(f"{names.name(number)}.held_out", held_out, settings)
            yield (part, VALIDATION), BucketResult(number, None, size, 0, leftover)
    shard, in_rows, rest = _write(names.name(number), block, settings)
    leftover = _store_leftover(names.name(number), rest, settings)
    yield (part, split), BucketResult(number, shard, len(block.tokens), in_rows, leftover)


def _hold_out(block: Block, key_range: KeyRange, settings: Settings) -> tuple[Block, Block]:
    """Divide documents of training into those that remain there and those that are held out."""
    columns = (block.pieces[name].to_pylist() for name in ("repository", "sha256"))
    is_held_out = np.array(
        [
            key_range.holds(settings, repository, bytes.fromhex(digest))
            for repository, digest in zip(*columns, strict=True)
        ],
        bool,
    )
    return block.select(np.flatnonzero(~is_held_out)), block.select(np.flatnonzero(is_held_out))


def _store_leftover(name: str, block: Block, settings: Settings) -> Segment:
    return work_files.write(settings, f"leftovers/{name}", block.serialise())


def finish_split(
    split_results: tuple[SplitOfPart, Iterable[BucketResult]],
    settings: Settings,
    num_buckets: BucketCounts,
    extra: Mapping[str, KeyRange],
) -> SplitResult:
    """Write the leftovers of the buckets of a split as a last shard.

    Args:
        split_results: ((part, split), results of its buckets, in any order).
        settings: Settings of the corpus.
        num_buckets: Number of buckets of each split of a part.
        extra: part -> the keys of training that are held out besides the share.
    """
    (part, split), unordered = split_results
    results = sorted(unordered, key=lambda result: result.number)
    names = _ShardNames.of(part, split, num_buckets, extra)
    shards_by_number = {result.number: result.shard for result in results if result.shard}
    shards = []
    for number in range(names.num_buckets):
        shard = shards_by_number.get(number)
        if shard is None:  # so small a bucket that no document fell into it
            shard, _, _ = _write(names.name(number), Block.concatenate([]), settings)
        shards.append(shard)
    in_rows = sum(result.in_rows for result in results)
    if names.num_shards > names.num_buckets:
        # Documents that training gives to validation follow validation's own leftovers.
        results.sort(key=lambda result: result.shard is None)
        leftovers = Block.load([result.leftover for result in results], settings)
        shard, more, _ = _write(names.name(names.num_buckets), leftovers, settings)
        shards.append(shard)
        in_rows += more
    return SplitResult(part, split, shards, sum(result.tokens for result in results), in_rows)


def _write(name: str, block: Block, settings: Settings) -> tuple[Shard, int, Block]:
    """Write a shard and its list of documents; return it, its tokens, and the leftover block."""
    if settings.kind.answers:
        num_rows, columns = len(block.pieces), _conversation_rows
        used, rest = block, Block.concatenate([])
        starts = np.arange(num_rows) * settings.row_length
    else:
        num_rows, columns = len(block.tokens) // settings.row_length, _text_rows
        used, rest = block.cut(num_rows * settings.row_length)
        starts = used.starts()[:-1]
    row_format = RowFormat(settings.row_length, settings.kind.answers)
    digest = hashlib.sha256()
    with _open_output(name, settings) as file:
        for first in range(0, num_rows, ROWS_AT_ONCE):
            end = min(first + ROWS_AT_ONCE, num_rows)
            data = row_format.encode(*columns(used, settings.row_length, first, end)).tobytes()
            digest.update(data)
            file.write(data)
    shard = Shard(name, num_rows, digest.hexdigest())
    _write_documents(shard.documents, used.pieces, starts, settings)
    return shard, len(used.tokens), rest


def _text_rows(block: Block, row_length: int, first: int, end: int) -> Sequence[np.ndarray]:
    """Return rows `first` to `end` - 1 of a block that fills its rows: (tokens [rows, T],)."""
    return (block.tokens[first * row_length : end * row_length].reshape(-1, row_length),)


def _conversation_rows(block: Block, row_length: int, first: int, end: int) -> Sequence[np.ndarray]:
    """Return rows of one conversation each: tokens and answers [rows, T], and lengths [rows]."""
    starts = block.starts()[first : end + 1]
    lengths = np.diff(starts)
    where = slice(starts[0], starts[-1])
    is_token = np.arange(row_length) < lengths[:, None]
    tokens = np.zeros(is_token.shape, np.uint16)
    answers = np.zeros(is_token.shape, np.uint8)
    tokens[is_token], answers[is_token] = block.tokens[where], block.answers[where]
    return tokens, answers, lengths


def _write_documents(name: str, pieces: pa.Table, starts: np.ndarray, settings: Settings) -> None:
    """Write the documents of a shard: `pieces` without keys, and where each begins in it."""
    table = pieces.drop_columns(["key"]).add_column(0, "start", pa.array(starts, pa.int64()))
    sink = pa.BufferOutputStream()
    parquet.write_table(table, sink, compression="zstd")
    with _open_output(name, settings) as file:
        file.write(sink.getvalue().to_pybytes())


def shards_folder(settings: Settings) -> epath.Path:
    """Return the folder in which the shards of a run are named as in the corpus."""
    return settings.work_folder / "shards"


def _open_output(name: str, settings: Settings) -> AbstractContextManager[BinaryIO]:
    return work_files.atomic_file(shards_folder(settings) / name)
