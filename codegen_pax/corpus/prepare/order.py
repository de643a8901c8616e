"""Buckets of token documents to shards: in order, joined, cut into rows."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from typing import BinaryIO

import numpy as np
import pyarrow as pa
from etils import epath
from pyarrow import parquet

from codegen_pax.corpus.manifest import Shard
from codegen_pax.corpus.prepare import blocks, work
from codegen_pax.corpus.prepare.blocks import Block
from codegen_pax.corpus.prepare.settings import Settings
from codegen_pax.corpus.prepare.tokenise import Bucket
from codegen_pax.corpus.records import RowFormat

_ROWS = 2_048  # written at once

Segment = tuple[str, int, tuple[int, int, int]]


@dataclasses.dataclass(frozen=True)
class Ordered:
    """What came of a bucket: its shard, how many tokens it had, and what was left over."""

    number: int
    shard: Shard
    tokens: int
    in_rows: int
    rest: Segment


def _shards(buckets: int) -> int:
    """How many shards a split has: one more than buckets for what they leave over, if several."""
    return buckets + 1 if buckets > 1 else 1


def _name(part: str, split: str, number: int, buckets: int) -> str:
    folder = f"{part}/" if part else ""
    return f"{folder}{split}-{number:05d}-of-{_shards(buckets):05d}.tfrecord"


def order(
    keyed: tuple[Bucket, Iterable[Segment]],
    settings: Settings,
    buckets: dict[tuple[str, str], int],
) -> tuple[tuple[str, str], Ordered]:
    """Orders the documents of a bucket and writes its shard.

    Args:
      keyed: (bucket, the segments of its documents, in any order).
      settings: of the corpus.
      buckets: how many each (part, split) has.

    Returns:
      ((part, split), what came of it).
    """
    (part, split, number), segments = keyed
    block = blocks.join([blocks.load(*segment) for segment in sorted(segments)]).ordered()
    name = _name(part, split, number, buckets[part, split])
    shard, in_rows, rest = _write(name, block, settings)
    path = settings.work / "rests" / name
    data, sizes = rest.dump()
    work.write(path, data)
    return (part, split), Ordered(number, shard, len(block.tokens), in_rows, (str(path), 0, sizes))


def finish(
    keyed: tuple[tuple[str, str], Iterable[Ordered]],
    settings: Settings,
    buckets: dict[tuple[str, str], int],
) -> tuple[tuple[str, str], tuple[list[Shard], dict[str, int]]]:
    """Joins what the buckets of a split left over, and writes it as a last shard.

    Returns:
      ((part, split), (its shards in order, {'tokens', 'in_rows', 'last_row'})).
    """
    (part, split), several = keyed
    by_number = {ordered.number: ordered for ordered in several}
    count = buckets[part, split]
    for number in range(count):
        if number not in by_number:  # so small that no document fell into it
            shard, _, _ = _write(_name(part, split, number, count), blocks.empty(), settings)
            by_number[number] = Ordered(number, shard, 0, 0, ("", 0, (0, 0, 0)))
    ordered = [by_number[number] for number in range(count)]
    shards = [one.shard for one in ordered]
    tokens = sum(one.tokens for one in ordered)
    in_rows = sum(one.in_rows for one in ordered)
    if _shards(count) > count:
        rests = [blocks.load(*one.rest) for one in ordered if one.rest[0]]
        shard, more, _ = _write(_name(part, split, count, count), blocks.join(rests), settings)
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
