"""Documents that passed the first reading, stored in chunks, which are tokenised in parallel.

Each input is read once, in order, since compressed ones cannot be read otherwise; what takes long,
tokenising above all, is then done for each chunk by itself.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import pyarrow as pa

from codegen_pax.data.format.documents import Document, Turn
from codegen_pax.data.prepare import work_files
from codegen_pax.data.prepare.settings import Settings
from codegen_pax.data.sources.partitions import Partition

# A chunk has `Settings.bucket_bytes` of text. Limits of what is held besides: documents of a chunk,
# and text until it is compressed.
CHUNK_DOCUMENTS = 1 << 16
COMPRESSED_AT_ONCE = 4 << 20

DIGEST_BYTES = 32  # of SHA-256

_TURNS = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
_TEXTS = ("text", "source", "path", "repository", "licence", "language")
_SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in _TEXTS),
        ("record", pa.int64()),
        ("turns", _TURNS),
    ]
)
_OPTIONS = pa.ipc.IpcWriteOptions(compression="zstd")


@dataclasses.dataclass(frozen=True, order=True)
class Chunk:
    """Consecutive documents of a partition, in a file: first their digests, then the documents.

    Attributes:
        partition: number of the partition.
        number: number of the chunk in its partition.
        first: index of the first document among those of its partition that passed.
        documents: number of documents.
        size: bytes of text.
        stored: size of the file.
        source: the input.
        place: `Partition.place_format`.
        share: bytes of the partition that it comes from, for progress.
    """

    partition: int
    number: int
    first: int
    documents: int
    size: int
    stored: int
    source: str
    place: str
    share: int = 0

    @property
    def name(self) -> str:
        """Name of its files, in the folders of the work folder."""
        return f"{self.partition:06d}-{self.number:06d}"

    @property
    def _path(self) -> str:
        return f"chunks/{self.name}"

    def read(self, settings: Settings) -> Iterator[tuple[Document, bytes]]:
        """Yield (document, digest of its content)."""
        data = work_files.Segment(self._path, 0, self.stored).read(settings)
        starts = iter(range(0, self.documents * DIGEST_BYTES, DIGEST_BYTES))
        for batch in pa.ipc.open_stream(memoryview(data)[self.documents * DIGEST_BYTES :]):
            for row in batch.to_pylist():
                start = next(starts)
                turns = tuple(Turn(**turn) for turn in row.pop("turns"))
                yield Document(**row, turns=turns), data[start : start + DIGEST_BYTES]

    def read_digests(self, settings: Settings) -> bytes:
        """Return the digests of its documents, one after another."""
        return work_files.Segment(self._path, 0, self.documents * DIGEST_BYTES).read(settings)


class ChunkWriter:
    """Writes the documents of a partition that pass, in chunks."""

    def __init__(self, settings: Settings, partition: Partition):
        self._settings, self._partition = settings, partition
        self._chunks: list[Chunk] = []
        self._first = 0
        self._begin()

    def _begin(self) -> None:
        self._sink = pa.BufferOutputStream()
        self._writer = pa.ipc.new_stream(self._sink, _SCHEMA, options=_OPTIONS)
        self._digests: list[bytes] = []
        self._waiting: list[Document] = []
        self._size = self._waiting_size = 0

    def add(self, document: Document, digest: bytes, size: int) -> None:
        """Add a document of `size` bytes."""
        self._waiting.append(document)
        self._digests.append(digest)
        self._size += size
        self._waiting_size += size
        if self._waiting_size >= COMPRESSED_AT_ONCE:
            self._compress()
        is_full = self._size >= self._settings.bucket_bytes
        if is_full or len(self._digests) >= CHUNK_DOCUMENTS:
            self._flush()

    def _compress(self) -> None:
        columns = {name: [getattr(one, name) for one in self._waiting] for name in _TEXTS}
        turns = [[dataclasses.asdict(turn) for turn in one.turns] for one in self._waiting]
        records = [one.record for one in self._waiting]
        columns |= {"record": records, "turns": turns}
        self._writer.write_batch(pa.RecordBatch.from_pydict(columns, schema=_SCHEMA))
        self._waiting, self._waiting_size = [], 0

    def finish(self) -> list[Chunk]:
        """Write the documents that are held, and return all chunks."""
        if self._digests:
            self._flush()
        total = sum(chunk.size for chunk in self._chunks)
        size = self._partition.size
        return [
            dataclasses.replace(chunk, share=size * chunk.size // max(1, total))
            for chunk in self._chunks
        ]

    def _flush(self) -> None:
        self._compress()
        self._writer.close()
        data = b"".join([*self._digests, self._sink.getvalue().to_pybytes()])
        chunk = Chunk(
            partition=self._partition.number,
            number=len(self._chunks),
            first=self._first,
            documents=len(self._digests),
            size=self._size,
            stored=len(data),
            source=self._partition.source,
            place=self._partition.place_format,
        )
        work_files.write(self._settings, f"chunks/{chunk.name}", data)
        self._chunks.append(chunk)
        self._first += chunk.documents
        self._begin()


@dataclasses.dataclass(frozen=True, order=True)
class Batch:
    """Consecutive chunks that are tokenised to one run.

    Attributes:
        number: number among all batches.
        chunks: the chunks.
    """

    number: int
    chunks: tuple[Chunk, ...]

    @property
    def share(self) -> int:
        """Bytes of the partitions that it comes from, for progress."""
        return sum(chunk.share for chunk in self.chunks)


def group(chunks: Sequence[Chunk], limit: int, measure: str) -> list[tuple[Chunk, ...]]:
    """Group consecutive chunks, so that groups hold about the same.

    Workers that have one group each should end at about the same time.

    Args:
        chunks: The chunks, in order.
        limit: The most that the mean group holds; none holds a chunk more than the mean one.
        measure: What is limited: 'size' or 'documents'.
    """
    amounts = [getattr(chunk, measure) for chunk in chunks]
    total = sum(amounts)
    num_groups = max(1, -(-total // limit))
    groups: dict[int, list[Chunk]] = {}
    before = 0
    for chunk, amount in zip(chunks, amounts, strict=True):
        middle = 2 * before + amount  # of the chunk, in halves of the measure
        number = min(middle * num_groups // max(1, 2 * total), num_groups - 1)
        groups.setdefault(number, []).append(chunk)
        before += amount
    return [tuple(one) for one in groups.values()]
