"""Rows by their number: from the shards of a prepared corpus, or from memory."""

from __future__ import annotations

import collections
import hashlib
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import seqio
from etils import epath

from codegen_pax.corpus.manifest import Manifest, Shard
from codegen_pax.corpus.prepared import PreparedCorpus
from codegen_pax.corpus.raw import storage
from codegen_pax.corpus.records import RowFormat
from codegen_pax.errors import InvalidValueError

# Rows of a prepared corpus that are read together, which they may be since its documents were
# shuffled when it was prepared: 16 MB of 2,048 tokens. TensorFlow reads no less than 64 MB of a
# bucket for a row alone. Every host reads every page: a whole run eats fewer than a million tokens
# a second, which is 2 MB/s.
PAGE_ROWS = 4_096
# Of each task: it goes from page to page, and only a batch at the end of one has rows of two.
_PAGES_KEPT = 2

# Tasks that are not prepared are held in memory: this many bytes of them at most.
MOST_BYTES = 2 << 30

_AGAIN = "prepare the corpus again, or fetch this shard again"


class DamagedShardError(InvalidValueError):
    """A shard, or a row of it, is not what was written."""


class Rows(Protocol):
    """The rows of one split of one task.

    Attributes:
      count: how many there are.
      page_rows: how many that follow one another are to be read together.
      fingerprint: equal only if the rows are.
    """

    count: int
    page_rows: int
    fingerprint: str

    def take(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """Rows by their numbers.

        Args:
          rows: int64 [n].

        Returns:
          (ids int32 [n, T]; how many of them are real, int64 [n]; whether each is to be predicted,
          bool [n, T], or None if all are).
        """


class _Shards:
    """The shards of a split, with their rows numbered from the first to the last."""

    def __init__(self, folder: epath.Path, shards: Sequence[Shard], row_format: RowFormat):
        self._folder, self._shards = folder, shards
        self._checked: set[int] = set()
        self.dtype = row_format.dtype
        self.starts = np.cumsum([0, *(shard.rows for shard in shards)])

    def of(self, rows: np.ndarray) -> np.ndarray:
        """The shard that each row [n] lies in."""
        return np.searchsorted(self.starts, rows, side="right") - 1

    def path(self, number: int) -> epath.Path:
        return self._folder / self._shards[number].name

    def checked(self, number: int) -> epath.Path:
        """The path of a shard; DamagedShardError if it is cut or longer than it was written."""
        path = self.path(number)
        if number not in self._checked:
            found, wanted = path.stat().length, self._shards[number].rows * self.dtype.itemsize
            if found != wanted:
                raise DamagedShardError(
                    f"{path} is damaged: found {found:,} bytes, wanted {wanted:,}; {_AGAIN}"
                )
            self._checked.add(number)
        return path


class _Mapped:
    """Shards of this machine, as arrays that are read where they are touched."""

    def __init__(self, shards: _Shards):
        self._shards = shards
        self._open: dict[int, np.memmap] = {}

    def read(self, rows: np.ndarray) -> np.ndarray:
        records = np.empty(len(rows), self._shards.dtype)
        shards = self._shards.of(rows)
        for number in np.unique(shards).tolist():
            if number not in self._open:
                path = self._shards.checked(number)
                self._open[number] = np.memmap(path, self._shards.dtype, mode="r")
            places = np.flatnonzero(shards == number)
            records[places] = self._open[number][rows[places] - self._shards.starts[number]]
        return records


class _Fetched:
    """Shards behind a URL: whole pages, of which the last ones are kept."""

    def __init__(self, shards: _Shards, page_rows: int):
        self._shards, self._page_rows = shards, page_rows
        self._kept: collections.OrderedDict[int, np.ndarray] = collections.OrderedDict()

    def read(self, rows: np.ndarray) -> np.ndarray:
        records = np.empty(len(rows), self._shards.dtype)
        pages, inside = np.divmod(rows, self._page_rows)
        for number in dict.fromkeys(pages.tolist()):  # in the order they are read in
            places = np.flatnonzero(pages == number)
            records[places] = self._page(number)[inside[places]]
        return records

    def _page(self, number: int) -> np.ndarray:
        if number not in self._kept:
            while len(self._kept) >= _PAGES_KEPT:
                self._kept.popitem(last=False)
            self._kept[number] = self._fetch(number)
        self._kept.move_to_end(number)
        return self._kept[number]

    def _fetch(self, number: int) -> np.ndarray:
        """The records of a page, out of as many shards as it lies in."""
        starts, size = self._shards.starts, self._shards.dtype.itemsize
        begin = number * self._page_rows
        end = min(begin + self._page_rows, int(starts[-1]))
        parts = []
        while begin < end:
            shard = int(self._shards.of(begin))
            stop = min(end, int(starts[shard + 1]))
            with self._shards.checked(shard).open("rb") as file:
                file.seek((begin - int(starts[shard])) * size)
                parts.append(file.read((stop - begin) * size))
            begin = stop
        return np.frombuffer(b"".join(parts), self._shards.dtype)


class PreparedRows:
    """The rows of a prepared corpus; each is checked against its own checksum when it is read."""

    def __init__(self, source: PreparedCorpus, split: str, row_length: int):
        """Raises CorpusMissingError (see `PreparedCorpus`); ValueError for another row length."""
        manifest: Manifest = source.manifest()
        if manifest.row_length != row_length:
            raise InvalidValueError(
                f"{source.label} was prepared with rows of {manifest.row_length} tokens; wanted"
                f" {row_length}: prepare it with --row-length {row_length}, or declare"
                f" row_length={manifest.row_length} in an experiment of your own, at most its"
                " size's context"
            )
        self._format = manifest.row_format
        folder = source.folder()
        self._shards = _Shards(folder, source.shards(split), self._format)
        self.count = int(self._shards.starts[-1])
        self.page_rows = PAGE_ROWS
        self.fingerprint = manifest.fingerprint(split, source.part)
        if storage.is_url(str(folder)):
            self._records = _Fetched(self._shards, self.page_rows)
        else:
            self._records = _Mapped(self._shards)

    def take(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """See `Rows`. Raises DamagedShardError for what is not as it was written."""
        records = self._records.read(rows)
        if not (intact := self._format.intact(records)).all():
            row = rows[~intact].min()
            shard = int(self._shards.of(row))
            raise DamagedShardError(
                f"row {row - self._shards.starts[shard]} of {self._shards.path(shard)} is damaged:"
                f" its checksum is not the one that was written; {_AGAIN}"
            )
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
            raise InvalidValueError(
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
                raise InvalidValueError(
                    f"task {task.name} ({split}) has a row of {len(flat[-1])} tokens; wanted at"
                    f" most {row_length}: to cut it would lose the end of its answer"
                )
            prompts.append(len(inputs))
            size += flat[-1].nbytes
            if size > MOST_BYTES:
                raise InvalidValueError(
                    f"task {task.name} ({split}) has more than {MOST_BYTES >> 20:,} MiB of rows,"
                    " the most that is held in memory: prepare it as a corpus"
                )
        if not flat:
            raise InvalidValueError(
                f"task {task.name} ({split}) has not one row of {row_length} tokens"
            )
        self._row_length = row_length
        self._lengths = np.array([len(row) for row in flat])
        self._prompts = np.array(prompts)
        self._starts = np.concatenate([[0], np.cumsum(self._lengths)])
        self._tokens = np.concatenate(flat).astype(np.int32)
        self._pairs = "inputs" in task.output_features
        # Nobody has shuffled them before: all are one page.
        self.count = self.page_rows = len(flat)
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
