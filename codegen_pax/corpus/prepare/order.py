"""Buckets of token documents to shards: in order, joined, cut into rows."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Sequence

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
        rows, columns = _conversations(block, settings.row_length)
        used, rest, starts = block, blocks.empty(), np.arange(rows) * settings.row_length
    else:
        rows = len(block.tokens) // settings.row_length
        used, rest = block.cut(rows * settings.row_length)
        columns = (used.tokens.reshape(rows, settings.row_length),)
        starts = used.starts()[:-1]
    row_format = RowFormat(settings.row_length, settings.kind.answers)
    path = epath.Path(settings.output) / name
    digest = hashlib.sha256()
    unfinished = work.begin(settings.work / "shards" / name)
    with unfinished.open("wb") as file:
        for first in range(0, rows, _ROWS):
            data = row_format.encode(*(values[first : first + _ROWS] for values in columns))
            digest.update(data.tobytes())
            file.write(data.tobytes())
    shard = Shard(name, rows, digest.hexdigest())
    path.parent.mkdir(parents=True, exist_ok=True)
    _write_sidecar(epath.Path(settings.output) / shard.documents, used.pieces, starts)
    unfinished.replace(path)
    return shard, len(used.tokens), rest


def _conversations(block: Block, row_length: int) -> tuple[int, Sequence[np.ndarray]]:
    """One conversation a row: (rows, (tokens [rows, T], answers [rows, T], lengths [rows]))."""
    starts = block.starts()
    lengths = np.diff(starts)
    real = np.arange(row_length) < lengths[:, None]
    tokens = np.zeros(real.shape, np.uint16)
    answers = np.zeros(real.shape, np.uint8)
    tokens[real], answers[real] = block.tokens, block.answers
    return len(lengths), (tokens, answers, lengths)


def _write_sidecar(path: epath.Path, pieces: pa.Table, starts: np.ndarray) -> None:
    """The documents of a shard: `pieces` without their keys, and where each begins in it."""
    table = pieces.drop_columns(["key"]).add_column(0, "start", pa.array(starts, pa.int64()))
    sink = pa.BufferOutputStream()
    parquet.write_table(table, sink, compression="zstd")
    work.write(path, sink.getvalue().to_pybytes())
