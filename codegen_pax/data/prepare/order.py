"""Buckets of tokenised documents to shards: sorted, concatenated, cut into rows.

Between steps, tokenised documents are stored as blocks. A block is pieces of documents one after
another: their tokens, and a table that says where each piece comes from.
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
from codegen_pax.data.prepare import steps
from codegen_pax.data.prepare.held_out import KeyRange
from codegen_pax.data.prepare.settings import BucketCounts, Settings

ROWS_AT_ONCE = 2_048  # rows that are encoded and written together

Bucket = tuple[str, str, int]  # part, split, number
SplitOfPart = tuple[str, str]  # part, split

# A piece of a document. `key` is its sort key, `tokens` its number of tokens, `offset` the position
# of its first token in its document; the other fields are its provenance.
PIECES = pa.schema(
    [
        ("key", pa.binary(16)),
        ("tokens", pa.int32()),
        ("offset", pa.int64()),
        ("source", pa.string()),
        ("record", pa.int64()),
        ("path", pa.string()),
        ("repository", pa.string()),
        ("licence", pa.string()),
        ("language", pa.string()),
        ("sha256", pa.string()),
    ]
)


@dataclasses.dataclass(frozen=True)
class Block:
    """Pieces of documents, one after another.

    Attributes:
        tokens: ids uint16 [n].
        answers: for conversations, uint8 [n], 1 where a token is part of an answer; else empty.
        pieces: a table of `PIECES`, whose `tokens` add up to n.
    """

    tokens: np.ndarray
    answers: np.ndarray
    pieces: pa.Table

    @classmethod
    def concatenate(cls, blocks: Sequence[Block]) -> Block:
        """Return the pieces of all blocks, one block after another."""
        empty = cls(np.empty(0, np.uint16), np.empty(0, np.uint8), PIECES.empty_table())
        blocks = [empty, *blocks]
        return cls(
            np.concatenate([block.tokens for block in blocks]),
            np.concatenate([block.answers for block in blocks]),
            pa.concat_tables([block.pieces for block in blocks]).combine_chunks(),
        )

    def starts(self) -> np.ndarray:
        """Return where each piece begins, and the end of the last: int64 [pieces + 1]."""
        return np.concatenate([[0], np.cumsum(self.pieces["tokens"].to_numpy(), dtype=np.int64)])

    def cut(self, end: int) -> tuple[Block, Block]:
        """Return the first `end` tokens, and the rest; a piece may be cut between the two."""
        starts = self.starts()
        left = np.minimum(starts[1:], end) - np.minimum(starts[:-1], end)
        right = np.diff(starts) - left
        offsets = self.pieces["offset"].to_numpy() + left

        def side(num_tokens: np.ndarray, offsets: np.ndarray, where: slice) -> Block:
            pieces = self.pieces.set_column(1, PIECES.field(1), pa.array(num_tokens, pa.int32()))
            pieces = pieces.set_column(2, PIECES.field(2), pa.array(offsets, pa.int64()))
            return Block(
                self.tokens[where], self.answers[where], pieces.filter(pa.array(num_tokens > 0))
            )

        first = side(left, self.pieces["offset"].to_numpy(), slice(0, end))
        return first, side(right, offsets, slice(end, None))

    def sort(self) -> Block:
        """Return the same pieces in the order of their keys."""
        keys = np.frombuffer(b"".join(self.pieces["key"].to_pylist()), ">u8").reshape(-1, 2)
        return self.select(np.lexsort((keys[:, 1], keys[:, 0])))

    def select(self, indices: np.ndarray) -> Block:
        """Return the pieces at `indices` (int64 [m]), in that order."""
        starts = self.starts()
        ranges = [slice(starts[index], starts[index + 1]) for index in indices]

        def gather(values: np.ndarray) -> np.ndarray:
            return np.concatenate([values[:0], *(values[where] for where in ranges)])

        return Block(gather(self.tokens), gather(self.answers), self.pieces.take(indices))

    def serialise(self) -> tuple[bytes, tuple[int, int, int]]:
        """Return the block as bytes, and the number of bytes of its tokens, answers and pieces."""
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, PIECES) as writer:
            writer.write_table(self.pieces)
        data = (self.tokens.tobytes(), self.answers.tobytes(), sink.getvalue().to_pybytes())
        return b"".join(data), (len(data[0]), len(data[1]), len(data[2]))


@dataclasses.dataclass(frozen=True, order=True)
class StoredBlock:
    """A block in a file.

    Attributes:
        path: the file.
        start: where the block begins in it.
        sizes: the sizes that `Block.serialise` returned.
    """

    path: str
    start: int
    sizes: tuple[int, int, int]

    def load(self) -> Block:
        """Read the block."""
        with epath.Path(self.path).open("rb") as file:
            file.seek(self.start)
            data = file.read(sum(self.sizes))
        tokens_end, answers_end = self.sizes[0], self.sizes[0] + self.sizes[1]
        return Block(
            np.frombuffer(data[:tokens_end], np.uint16),
            np.frombuffer(data[tokens_end:answers_end], np.uint8),
            pa.ipc.open_stream(data[answers_end:]).read_all(),
        )


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
    leftover: StoredBlock


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


def describe_bucket(bucket_blocks: tuple[Bucket, Iterable[StoredBlock]]) -> str:
    """Describe a bucket."""
    (part, split, number), _ = bucket_blocks
    return f"bucket {number} of {describe_split(((part, split), ()))}"


def describe_split(split_results: tuple[SplitOfPart, Iterable[BucketResult]]) -> str:
    """Describe a split of a part."""
    return ", ".join(filter(None, split_results[0]))


def write_bucket(
    bucket_blocks: tuple[Bucket, Iterable[StoredBlock]],
    settings: Settings,
    num_buckets: BucketCounts,
    extra: Mapping[str, KeyRange],
) -> Iterator[tuple[SplitOfPart, BucketResult]]:
    """Sort the documents of a bucket and write its shard.

    Args:
        bucket_blocks: (bucket, the blocks of its documents, in any order).
        settings: Settings of the corpus.
        num_buckets: Number of buckets of each split of a part.
        extra: part -> the keys of training that are held out besides the share.

    Yields:
        ((part, split), result of the bucket).
    """
    (part, split, number), stored = bucket_blocks
    block = Block.concatenate([one.load() for one in sorted(stored)]).sort()
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


def _store_leftover(name: str, block: Block, settings: Settings) -> StoredBlock:
    path = settings.work_folder / "leftovers" / name
    data, sizes = block.serialise()
    steps.write(path, data)
    return StoredBlock(str(path), 0, sizes)


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
        leftovers = [result.leftover.load() for result in results]
        name = names.name(names.num_buckets)
        shard, more, _ = _write(name, Block.concatenate(leftovers), settings)
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


def _open_output(name: str, settings: Settings) -> AbstractContextManager[BinaryIO]:
    """Open a file of the corpus for writing, staged in the work folder.

    If it were staged beside its target, an attempt that fails while another one succeeds would
    leave its temporary file in the finished corpus.
    """
    staged = settings.work_folder / "shards" / name
    return steps.atomic_file(epath.Path(settings.output) / name, staged)
