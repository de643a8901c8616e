"""Rows by their number: from the shards of a prepared corpus, or from memory."""

from __future__ import annotations

import concurrent.futures
import hashlib
import threading
from typing import Protocol

import numpy as np
import seqio
from etils import epath

from codegen_pax.corpus.manifest import Manifest, Shard
from codegen_pax.corpus.prepared import PreparedCorpus
from codegen_pax.corpus.records import RowFormat

# Tasks that are not prepared are held in memory: this many bytes of them at most.
MOST_BYTES = 2 << 30

_READERS = 32  # threads that wait for a bucket's answers
_AGAIN = "prepare the corpus again, or fetch this shard again"


class DamagedShardError(ValueError):
    """A shard, or a row of it, is not what was written."""


class Rows(Protocol):
    """The rows of one split of one task.

    Attributes:
      count: how many there are.
      fingerprint: equal only if the rows are.
    """

    count: int
    fingerprint: str

    def take(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """Rows by their numbers.

        Args:
          rows: int64 [n].

        Returns:
          (ids int32 [n, T]; how many of them are real, int64 [n]; whether each is to be predicted,
          bool [n, T], or None if all are).
        """


class _Mapped:
    """A local shard, as an array that is read where it is touched."""

    def __init__(self, path: epath.Path, row_format: RowFormat):
        self._records = np.memmap(path, row_format.dtype, mode="r")

    def read(self, rows: np.ndarray) -> np.ndarray:
        return np.asarray(self._records[rows])


class _Fetched:
    """A shard behind a URL: one ranged read a row, many at a time."""

    _pool = None
    _lock = threading.Lock()

    def __init__(self, path: epath.Path, row_format: RowFormat):
        self._path, self._dtype = path, row_format.dtype
        with self._lock:
            _Fetched._pool = _Fetched._pool or concurrent.futures.ThreadPoolExecutor(_READERS)

    def _one(self, row: int) -> bytes:
        with self._path.open("rb") as file:
            file.seek(row * self._dtype.itemsize)
            return file.read(self._dtype.itemsize)

    def read(self, rows: np.ndarray) -> np.ndarray:
        found = b"".join(self._pool.map(self._one, rows.tolist()))
        return np.frombuffer(found, self._dtype)


class PreparedRows:
    """The rows of a prepared corpus; each is checked against its own checksum when it is read."""

    def __init__(self, source: PreparedCorpus, split: str, row_length: int):
        """Raises CorpusMissingError (see `PreparedCorpus`); ValueError for another row length."""
        manifest: Manifest = source.manifest()
        if manifest.row_length != row_length:
            raise ValueError(
                f"{source.label} was prepared with rows of {manifest.row_length} tokens; wanted"
                f" {row_length}: prepare it with --row-length {row_length}"
            )
        self._format = manifest.row_format
        self._folder = source.folder()
        self._shards: tuple[Shard, ...] = source.shards(split)
        self._starts = np.cumsum([0, *(shard.rows for shard in self._shards)])
        self._open: dict[int, _Mapped | _Fetched] = {}
        self.count = int(self._starts[-1])
        self.fingerprint = manifest.fingerprint(split, source.part)

    def _shard(self, number: int) -> _Mapped | _Fetched:
        if number not in self._open:
            shard = self._shards[number]
            path = self._folder / shard.name
            found, wanted = path.stat().length, shard.rows * self._format.record_bytes
            if found != wanted:
                raise DamagedShardError(
                    f"{path} is damaged: found {found:,} bytes, wanted {wanted:,}; {_AGAIN}"
                )
            kind = _Fetched if "://" in str(path) else _Mapped
            self._open[number] = kind(path, self._format)
        return self._open[number]

    def take(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """See `Rows`. Raises DamagedShardError for what is not as it was written."""
        shards = np.searchsorted(self._starts, rows, side="right") - 1
        records = np.empty(len(rows), self._format.dtype)
        for number in np.unique(shards):
            places = np.flatnonzero(shards == number)
            inside = rows[places] - self._starts[number]
            found = self._shard(number).read(inside)
            if not (intact := self._format.intact(found)).all():
                name = self._folder / self._shards[number].name
                raise DamagedShardError(
                    f"row {inside[~intact][0]} of {name} is damaged: its checksum is not the one"
                    f" that was written; {_AGAIN}"
                )
            records[places] = found
        ids = records["tokens"].astype(np.int32)
        if not self._format.answers:
            return ids, np.full(len(rows), self._format.row_length), None
        return ids, records["length"].astype(np.int64), records["answer"].astype(bool)


class RowsInMemory:
    """The rows of any other seqio task, read once."""

    def __init__(self, task: seqio.Task, split: str, row_length: int):
        """Raises ValueError for a task without a row, with more than `MOST_BYTES` of them, with one
        that is too long, or with other features than `targets` and `inputs`.
        """
        if (found := {*task.output_features}) not in ({"targets"}, {"inputs", "targets"}):
            raise ValueError(
                f"task {task.name} has the features {', '.join(sorted(found))}; wanted targets, or"
                " inputs and targets"
            )
        lengths = dict.fromkeys(task.output_features, row_length)
        dataset = task.get_dataset(lengths, split=split, shuffle=False, num_epochs=1)
        flat: list[np.ndarray] = []
        prompts: list[int] = []
        size = 0
        for example in dataset.as_numpy_iterator():
            inputs = example.get("inputs", np.empty(0, np.int32))
            flat.append(np.concatenate([inputs, example["targets"]]))
            if len(flat[-1]) > row_length:
                raise ValueError(
                    f"task {task.name} ({split}) has a row of {len(flat[-1])} tokens; wanted at"
                    f" most {row_length}: to cut it would lose the end of its answer"
                )
            prompts.append(len(inputs))
            size += flat[-1].nbytes
            if size > MOST_BYTES:
                raise ValueError(
                    f"task {task.name} ({split}) has more than {MOST_BYTES >> 20:,} MiB of rows,"
                    " the most that is held in memory: prepare it as a corpus"
                )
        if not flat:
            raise ValueError(f"task {task.name} ({split}) has not one row of {row_length} tokens")
        self._row_length = row_length
        self._lengths = np.array([len(row) for row in flat])
        self._prompts = np.array(prompts)
        self._starts = np.concatenate([[0], np.cumsum(self._lengths)])
        self._tokens = np.concatenate(flat).astype(np.int32)
        self._pairs = "inputs" in task.output_features
        self.count = len(flat)
        digest = hashlib.sha256(f"{row_length} {self._pairs}".encode())
        for values in (self._tokens, self._lengths.astype("<i8"), self._prompts.astype("<i8")):
            digest.update(values.tobytes())
        self.fingerprint = digest.hexdigest()

    def take(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """See `Rows`."""
        columns = np.arange(self._row_length)
        lengths = self._lengths[rows]
        real = columns < lengths[:, None]
        ids = np.zeros(real.shape, np.int32)
        ids[real] = self._tokens[(self._starts[rows, None] + columns)[real]]
        predicted = columns >= self._prompts[rows, None] if self._pairs else None
        return ids, lengths, predicted


def open_rows(task: seqio.Task, split: str, row_length: int) -> Rows:
    """The rows of a task, wherever they lie."""
    if isinstance(task.source, PreparedCorpus):
        return PreparedRows(task.source, split, row_length)
    return RowsInMemory(task, split, row_length)
