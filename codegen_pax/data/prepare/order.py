"""Buckets of token documents to shards: in order, joined, cut into rows."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import BinaryIO

import numpy as np
import pyarrow as pa
from etils import epath
from pyarrow import parquet

from codegen_pax.data.format.manifest import Shard
from codegen_pax.data.format.tfrecords import RowFormat
from codegen_pax.data.prepare import blocks, work
from codegen_pax.data.prepare.blocks import Block
from codegen_pax.data.prepare.held_out import TRAIN, VALIDATION, Limit
from codegen_pax.data.prepare.settings import Settings
from codegen_pax.data.prepare.tokenise import Bucket

_ROWS = 2_048  # written at once

Segment = tuple[str, int, tuple[int, int, int]]


@dataclasses.dataclass(frozen=True)
class Ordered:
    """What came of a bucket: its shard, how many tokens it had, and what was left over.

    Without a shard: what a bucket of training gives to validation (`held_out`), all left over.
    """

    number: int
    shard: Shard | None
    tokens: int
    in_rows: int
    rest: Segment


@dataclasses.dataclass(frozen=True)
class Layout:
    """How the shards of a split are numbered and named.

    Attributes:
      part, split: which.
      buckets: how many it has, of which each is a shard.
      shards: how many it has: one more than buckets for what they leave over, if they are several,
        or for what is held out besides the share.
    """

    part: str
    split: str
    buckets: int
    shards: int

    def name(self, number: int) -> str:
        """Of a shard, relative to the corpus."""
        folder = f"{self.part}/" if self.part else ""
        return f"{folder}{self.split}-{number:05d}-of-{self.shards:05d}.tfrecord"


def _layout(
    part: str, split: str, buckets: dict[tuple[str, str], int], limits: dict[str, Limit]
) -> Layout:
    count = buckets.get((part, split), 0)
    has_more = split == VALIDATION and part in limits
    return Layout(part, split, count, count + 1 if count > 1 or has_more else 1)


def place(keyed: tuple[Bucket, Iterable[Segment]]) -> str:
    """What a bucket is, in words."""
    (part, split, number), _ = keyed
    return f"bucket {number} of {split_name(((part, split), ()))}"


def split_name(keyed: tuple[tuple[str, str], Iterable[Ordered]]) -> str:
    """What a split of a part is, in words."""
    return ", ".join(filter(None, keyed[0]))


def order(
    keyed: tuple[Bucket, Iterable[Segment]],
    settings: Settings,
    buckets: dict[tuple[str, str], int],
    limits: dict[str, Limit],
) -> Iterator[tuple[tuple[str, str], Ordered]]:
    """Orders the documents of a bucket and writes its shard.

    Args:
      keyed: (bucket, the segments of its documents, in any order).
      settings: of the corpus.
      buckets: how many each (part, split) has.
      limits: part -> what of its training is held out as well.

    Yields:
      ((part, split), what came of it).
    """
    (part, split, number), segments = keyed
    block = blocks.join([blocks.load(*segment) for segment in sorted(segments)]).ordered()
    layout = _layout(part, split, buckets, limits)
    if split == TRAIN and part in limits:
        block, held = _parted(block, limits[part], settings)
        if len(held.tokens):
            rest = _keep(f"{layout.name(number)}.held", held, settings)
            yield (part, VALIDATION), Ordered(number, None, len(held.tokens), 0, rest)
    shard, in_rows, left = _write(layout.name(number), block, settings)
    rest = _keep(layout.name(number), left, settings)
    yield (part, split), Ordered(number, shard, len(block.tokens), in_rows, rest)


def _parted(block: Block, limit: Limit, settings: Settings) -> tuple[Block, Block]:
    """The documents of training that stay there, and those that are held out."""
    columns = (block.pieces[name].to_pylist() for name in ("repository", "sha256"))
    pieces = zip(*columns, strict=True)
    held = np.array(
        [limit.holds(settings, name, bytes.fromhex(digest)) for name, digest in pieces], bool
    )
    return block.select(np.flatnonzero(~held)), block.select(np.flatnonzero(held))


def _keep(name: str, block: Block, settings: Settings) -> Segment:
    path = settings.work / "rests" / name
    data, sizes = block.dump()
    work.write(path, data)
    return str(path), 0, sizes


def finish(
    keyed: tuple[tuple[str, str], Iterable[Ordered]],
    settings: Settings,
    buckets: dict[tuple[str, str], int],
    limits: dict[str, Limit],
) -> tuple[tuple[str, str], tuple[list[Shard], dict[str, int]]]:
    """Joins what the buckets of a split left over, and writes it as a last shard.

    Returns:
      ((part, split), (its shards in order, {'tokens', 'in_rows', 'last_row'})).
    """
    (part, split), several = keyed
    several = sorted(several, key=lambda one: one.number)
    layout = _layout(part, split, buckets, limits)
    by_number = {one.number: one for one in several if one.shard}
    for number in range(layout.buckets):
        if number not in by_number:  # so small that no document fell into it
            shard, _, _ = _write(layout.name(number), blocks.empty(), settings)
            by_number[number] = Ordered(number, shard, 0, 0, ("", 0, (0, 0, 0)))
    ordered = [by_number[number] for number in range(layout.buckets)]
    shards = [one.shard for one in ordered]
    ordered += [one for one in several if not one.shard]
    tokens = sum(one.tokens for one in ordered)
    in_rows = sum(one.in_rows for one in ordered)
    if layout.shards > layout.buckets:
        rests = [blocks.load(*one.rest) for one in ordered if one.rest[0]]
        shard, more, _ = _write(layout.name(layout.buckets), blocks.join(rests), settings)
        shards.append(shard)
        in_rows += more
    said = {"tokens": tokens, "in_rows": in_rows, "last_row": tokens - in_rows}
    return (part, split), (shards, said)


def _write(name: str, block: Block, settings: Settings) -> tuple[Shard, int, Block]:
    """Writes a shard and its sidecar; returns it, its real tokens, and what fills no row."""
    if settings.kind.answers:
        rows, columns = len(block.pieces), _conversations
        used, rest, starts = block, blocks.empty(), np.arange(rows) * settings.row_length
    else:
        rows, columns = len(block.tokens) // settings.row_length, _text
        used, rest = block.cut(rows * settings.row_length)
        starts = used.starts()[:-1]
    row_format = RowFormat(settings.row_length, settings.kind.answers)
    digest = hashlib.sha256()
    with _output(name, settings) as file:
        for first in range(0, rows, _ROWS):
            among = columns(used, settings.row_length, first, min(first + _ROWS, rows))
            data = row_format.encode(*among).tobytes()
            digest.update(data)
            file.write(data)
    shard = Shard(name, rows, digest.hexdigest())
    _write_sidecar(shard.documents, used.pieces, starts, settings)
    return shard, len(used.tokens), rest


def _text(block: Block, row_length: int, first: int, end: int) -> Sequence[np.ndarray]:
    """Rows `first` to before `end` of a block that fills its rows: (tokens [rows, T],)."""
    return (block.tokens[first * row_length : end * row_length].reshape(-1, row_length),)


def _conversations(block: Block, row_length: int, first: int, end: int) -> Sequence[np.ndarray]:
    """The same, one conversation a row: tokens [rows, T], answers [rows, T], lengths [rows]."""
    starts = block.starts()[first : end + 1]
    lengths = np.diff(starts)
    among = slice(starts[0], starts[-1])
    real = np.arange(row_length) < lengths[:, None]
    tokens = np.zeros(real.shape, np.uint16)
    answers = np.zeros(real.shape, np.uint8)
    tokens[real], answers[real] = block.tokens[among], block.answers[among]
    return tokens, answers, lengths


def _write_sidecar(name: str, pieces: pa.Table, starts: np.ndarray, settings: Settings) -> None:
    """The documents of a shard: `pieces` without their keys, and where each begins in it."""
    table = pieces.drop_columns(["key"]).add_column(0, "start", pa.array(starts, pa.int64()))
    sink = pa.BufferOutputStream()
    parquet.write_table(table, sink, compression="zstd")
    with _output(name, settings) as file:
        file.write(sink.getvalue().to_pybytes())


def _output(name: str, settings: Settings) -> AbstractContextManager[BinaryIO]:
    """A file of the corpus, staged in the work folder.

    Staged beside where it belongs an attempt that was given up, while another one succeeded, would
    be left in the finished corpus.
    """
    return work.whole(epath.Path(settings.output) / name, settings.work / "shards" / name)
