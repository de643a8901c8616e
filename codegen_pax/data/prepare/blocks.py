"""Token documents in a row, and where each is from: what runs and left-overs are made of."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from etils import epath

# A piece of a document. `key` is what it is ordered by; `offset` is that of its first token in its
# document; the rest is its provenance.
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
      answers: of conversations, uint8 [n]: 1 where a token is of an answer; else empty.
      pieces: `PIECES`; their `tokens` add up to n.
    """

    tokens: np.ndarray
    answers: np.ndarray
    pieces: pa.Table

    def starts(self) -> np.ndarray:
        """Where each piece begins, and the end of the last: int64 [pieces + 1]."""
        return np.concatenate([[0], np.cumsum(self.pieces["tokens"].to_numpy(), dtype=np.int64)])

    def cut(self, at: int) -> tuple[Block, Block]:
        """The first `at` tokens, and the rest; a piece that is cut goes on in the rest."""
        starts = self.starts()
        left = np.minimum(starts[1:], at) - np.minimum(starts[:-1], at)
        right = np.diff(starts) - left
        offsets = self.pieces["offset"].to_numpy() + left

        def taken(tokens: np.ndarray, offset: np.ndarray, where: slice) -> Block:
            pieces = self.pieces.set_column(1, PIECES.field(1), pa.array(tokens, pa.int32()))
            pieces = pieces.set_column(2, PIECES.field(2), pa.array(offset, pa.int64()))
            return Block(
                self.tokens[where], self.answers[where], pieces.filter(pa.array(tokens > 0))
            )

        first = taken(left, self.pieces["offset"].to_numpy(), slice(0, at))
        return first, taken(right, offsets, slice(at, None))

    def ordered(self) -> Block:
        """The same pieces in the order of their keys."""
        keys = np.frombuffer(b"".join(self.pieces["key"].to_pylist()), ">u8").reshape(-1, 2)
        return self.select(np.lexsort((keys[:, 1], keys[:, 0])))

    def select(self, places: np.ndarray) -> Block:
        """The pieces at these places (int64 [m]), in that order."""
        starts = self.starts()
        ranges = [slice(starts[place], starts[place + 1]) for place in places]

        def gathered(values: np.ndarray) -> np.ndarray:
            return np.concatenate([values[:0], *(values[where] for where in ranges)])

        return Block(gathered(self.tokens), gathered(self.answers), self.pieces.take(places))

    def dump(self) -> tuple[bytes, tuple[int, int, int]]:
        """The block as bytes, and how many of them are tokens, answers and pieces."""
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, PIECES) as writer:
            writer.write_table(self.pieces)
        parts = (self.tokens.tobytes(), self.answers.tobytes(), sink.getvalue().to_pybytes())
        return b"".join(parts), tuple(map(len, parts))


def empty() -> Block:
    """No pieces."""
    return Block(np.empty(0, np.uint16), np.empty(0, np.uint8), PIECES.empty_table())


def join(blocks: Sequence[Block]) -> Block:
    """The pieces of all, one block after another."""
    blocks = [empty(), *blocks]
    return Block(
        np.concatenate([block.tokens for block in blocks]),
        np.concatenate([block.answers for block in blocks]),
        pa.concat_tables([block.pieces for block in blocks]).combine_chunks(),
    )


def load(path: str, start: int, sizes: tuple[int, int, int]) -> Block:
    """The block that `dump` gave with these sizes, from a place in a file."""
    with epath.Path(path).open("rb") as file:
        file.seek(start)
        data = file.read(sum(sizes))
    tokens, answers = sizes[0], sizes[0] + sizes[1]
    return Block(
        np.frombuffer(data[:tokens], np.uint16),
        np.frombuffer(data[tokens:answers], np.uint8),
        pa.ipc.open_stream(data[answers:]).read_all(),
    )
