"""Tokenised documents as they are held between steps: in blocks.

A block is pieces of documents one after another: their tokens, and a table that says where each
piece comes from. Blocks are stored one after another, each as its sizes and its compressed fields.
"""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa
import zstandard

from codegen_pax.data.prepare.settings import Settings
from codegen_pax.data.prepare.work_files import Segment

_LEVEL = 1  # of zstd: reads 2.4 times as few bytes as without it, for a fiftieth of the time
_SIZES = struct.Struct("<QQQ")  # bytes of tokens, answers and pieces

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

    def keys(self) -> np.ndarray:
        """Return the key of each piece as two numbers, the more significant first: [pieces, 2]."""
        return np.frombuffer(b"".join(self.pieces["key"].to_pylist()), ">u8").reshape(-1, 2)

    def sort(self) -> Block:
        """Return the same pieces in the order of their keys."""
        keys = self.keys()
        return self.select(np.lexsort((keys[:, 1], keys[:, 0])))

    def select(self, indices: np.ndarray) -> Block:
        """Return the pieces at `indices` (int64 [m]), in that order."""
        starts = self.starts()
        ranges = [slice(starts[index], starts[index + 1]) for index in indices]

        def gather(values: np.ndarray) -> np.ndarray:
            return np.concatenate([values[:0], *(values[where] for where in ranges)])

        return Block(gather(self.tokens), gather(self.answers), self.pieces.take(indices))

    def serialise(self) -> bytes:
        """Return the block as bytes, which other blocks may follow."""
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, PIECES) as writer:
            writer.write_table(self.pieces)
        compressor = zstandard.ZstdCompressor(level=_LEVEL)
        data = self.tokens.tobytes(), self.answers.tobytes(), sink.getvalue().to_pybytes()
        fields = [compressor.compress(one) for one in data]
        return b"".join([_SIZES.pack(*map(len, fields)), *fields])

    @classmethod
    def parse(cls, data: bytes) -> Iterator[Block]:
        """Yield the blocks that `serialise` returned, one after another."""
        decompressor = zstandard.ZstdDecompressor()
        start = 0
        while start < len(data):
            sizes = _SIZES.unpack_from(data, start)
            start += _SIZES.size
            fields = []
            for size in sizes:
                fields.append(decompressor.decompress(data[start : start + size]))
                start += size
            tokens, answers = (
                np.frombuffer(field, dtype)
                for field, dtype in zip(fields, (np.uint16, np.uint8), strict=False)
            )
            yield cls(tokens, answers, pa.ipc.open_stream(fields[2]).read_all())

    @classmethod
    def load(cls, segments: Iterable[Segment], settings: Settings) -> Block:
        """Return the blocks of several segments as one."""
        blocks = (block for segment in segments for block in cls.parse(segment.read(settings)))
        return cls.concatenate([*blocks])
