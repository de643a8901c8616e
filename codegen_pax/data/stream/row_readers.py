"""Readers of rows by number: from the shards of a prepared corpus, or from memory."""

from __future__ import annotations

import collections
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import seqio
import tensorflow as tf
from etils import epath

from codegen_pax.data.format.manifest import DamagedShardError, Manifest, Shard
from codegen_pax.data.format.rows import check_length
from codegen_pax.data.format.tfrecords import RowFormat
from codegen_pax.data.seqio_sources import PreparedCorpus
from codegen_pax.data.sources import storage
from codegen_pax.data.stream.batches import TokenRows
from codegen_pax.data.stream.rows_in_memory import RowsInMemory
from codegen_pax.errors import InvalidValueError

# Rows of a prepared corpus that are read together: 16 MB of rows of 2,048 tokens. Reading in pages
# costs no randomness, because the documents were shuffled when the corpus was prepared. TensorFlow
# reads at least 64 MB of object storage even for a single row. Every host reads every page: a whole
# run consumes less than a million tokens a second, which is 2 MB/s.
PAGE_ROWS = 4_096
# Pages of each task to keep. Pages are read one after another, and only a batch at the end of a
# page has rows of two pages.
_MAX_CACHED_PAGES = 2


class RowReader(Protocol):
    """Reads the rows of one split of one task.

    Attributes:
        num_rows: The number of rows.
        page_rows: The number of consecutive rows that should be read together.
        fingerprint: A digest that is equal only if all rows are.
    """

    num_rows: int
    page_rows: int
    fingerprint: str

    def take(self, row_numbers: np.ndarray) -> TokenRows:
        """Return the rows with the given numbers, int64 [B]."""


class _ShardedRows:
    """The shards of a split, with their rows numbered from the first to the last.

    Attributes:
        dtype: The type of a record.
        starts: The number of the first row of each shard, then the number of all rows, int64
            [shards + 1].
    """

    def __init__(self, folder: epath.Path, shards: Sequence[Shard], row_format: RowFormat):
        self._folder, self._shards = folder, shards
        self._checked: set[int] = set()
        self.dtype = row_format.dtype
        self.starts = np.cumsum([0, *(shard.rows for shard in shards)])

    def shard_of(self, row_numbers: np.ndarray) -> np.ndarray:
        """Return the index of the shard that holds each row."""
        return np.searchsorted(self.starts, row_numbers, side="right") - 1

    def path(self, shard: int) -> epath.Path:
        """Return the path of a shard."""
        return self._folder / self._shards[shard].name

    def checked_path(self, shard: int) -> epath.Path:
        """Return the path of a shard; DamagedShardError if its size is not as written."""
        path = self.path(shard)
        if shard not in self._checked:
            size, expected = path.stat().length, self._shards[shard].rows * self.dtype.itemsize
            if size != expected:
                raise DamagedShardError(
                    f"{path} is damaged: found {size:,} bytes, expected {expected:,}; prepare the"
                    " corpus again, or fetch this shard again"
                )
            self._checked.add(shard)
        return path


class _Records(Protocol):
    """The records of the rows of some shards."""

    def read(self, row_numbers: np.ndarray) -> np.ndarray:
        """Return the records of the rows with the given numbers, [B]."""


class _MappedRecords:
    """Records of local shards, mapped into memory."""

    def __init__(self, shards: _ShardedRows):
        self._shards = shards
        self._arrays: dict[int, np.memmap] = {}

    def read(self, row_numbers: np.ndarray) -> np.ndarray:
        """Return the records of the rows with the given numbers, [B]."""
        records = np.empty(len(row_numbers), self._shards.dtype)
        shards = self._shards.shard_of(row_numbers)
        for shard in np.unique(shards).tolist():
            if shard not in self._arrays:
                path = self._shards.checked_path(shard)
                self._arrays[shard] = np.memmap(path, self._shards.dtype, mode="r")
            in_shard = np.flatnonzero(shards == shard)
            rows_of_shard = row_numbers[in_shard] - self._shards.starts[shard]
            records[in_shard] = self._arrays[shard][rows_of_shard]
        return records


class _PagedRecords:
    """Records of shards behind a URL, read in whole pages; the last few pages are kept."""

    def __init__(self, shards: _ShardedRows, page_rows: int):
        self._shards, self._page_rows = shards, page_rows
        self._pages: collections.OrderedDict[int, np.ndarray] = collections.OrderedDict()

    def read(self, row_numbers: np.ndarray) -> np.ndarray:
        """Return the records of the rows with the given numbers, [B]."""
        records = np.empty(len(row_numbers), self._shards.dtype)
        pages, rows_of_page = np.divmod(row_numbers, self._page_rows)
        for page in dict.fromkeys(pages.tolist()):  # in the order of their first rows
            in_page = np.flatnonzero(pages == page)
            records[in_page] = self._page(page)[rows_of_page[in_page]]
        return records

    def _page(self, page: int) -> np.ndarray:
        if page not in self._pages:
            while len(self._pages) >= _MAX_CACHED_PAGES:
                self._pages.popitem(last=False)
            self._pages[page] = self._fetch(page)
        self._pages.move_to_end(page)
        return self._pages[page]

    def _fetch(self, page: int) -> np.ndarray:
        """Return the records of a page, which may extend over several shards."""
        starts, record_bytes = self._shards.starts, self._shards.dtype.itemsize
        begin = page * self._page_rows
        end = min(begin + self._page_rows, int(starts[-1]))
        chunks = []
        while begin < end:
            shard = int(self._shards.shard_of(np.array(begin)))
            stop = min(end, int(starts[shard + 1]))
            with self._shards.checked_path(shard).open("rb") as file:
                file.seek((begin - int(starts[shard])) * record_bytes)
                chunks.append(file.read((stop - begin) * record_bytes))
            begin = stop
        return np.frombuffer(b"".join(chunks), self._shards.dtype)


class PreparedRows:
    """Reads the rows of a prepared corpus; each is verified by its own checksum when it is read."""

    def __init__(self, source: PreparedCorpus, split: str, row_length: int):
        """Open a split of a corpus.

        Raises:
            CorpusMissingError: See `PreparedCorpus`.
            ValueError: The corpus was prepared with another row length.
        """
        manifest: Manifest = source.manifest()
        if manifest.row_length != row_length:
            raise InvalidValueError(
                f"{source.label} was prepared with rows of {manifest.row_length} tokens; expected"
                f" {row_length}: prepare it with --row-length {row_length}, or declare"
                f" row_length={manifest.row_length} in an experiment of your own, at most its"
                " size's context"
            )
        self._format = manifest.row_format
        folder = source.folder()
        self._shards = _ShardedRows(folder, source.shards(split), self._format)
        self.num_rows = int(self._shards.starts[-1])
        self.page_rows = PAGE_ROWS
        self.fingerprint = manifest.fingerprint(split, source.part)
        self._records: _Records = (
            _PagedRecords(self._shards, self.page_rows)
            if storage.is_url(str(folder))
            else _MappedRecords(self._shards)
        )

    def take(self, row_numbers: np.ndarray) -> TokenRows:
        """Return the rows with the given numbers, int64 [B].

        Raises:
            DamagedShardError: A shard or a row is not as it was written.
        """
        records = self._records.read(row_numbers)
        if not (intact := self._format.intact(records)).all():
            row = row_numbers[~intact].min()
            shard = int(self._shards.shard_of(row))
            raise DamagedShardError(
                f"row {row - self._shards.starts[shard]} of {self._shards.path(shard)} is damaged:"
                " its checksum is not the one that was written; prepare the corpus again, or fetch"
                " this shard again"
            )
        ids = records["tokens"].astype(np.int32)
        if not self._format.answers:
            return TokenRows(ids, np.full(len(row_numbers), self._format.row_length))
        return TokenRows(ids, records["length"].astype(np.int64), records["answer"].astype(bool))


def _leaves_rows_unchanged(task: seqio.Task) -> bool:
    """Return whether a task gives the rows of a prepared corpus as they are in its shards."""
    if type(task) is not seqio.Task or type(task.source) is not PreparedCorpus:
        return False
    features = {name: (kind.dtype, kind.rank) for name, kind in task.output_features.items()}
    expected = ["targets", "answers"] if task.source.answers else ["targets"]
    return (
        features == dict.fromkeys(expected, (tf.int32, 1))
        and not task.requires_caching
        and all(
            step is check_length or isinstance(step, seqio.CacheDatasetPlaceholder)
            for step in task.preprocessors
        )
    )


def open_task(task: seqio.Task, split: str, row_length: int) -> RowReader:
    """Return a reader of the rows of a task, for training and evaluation.

    A prepared corpus is read from its shards. If a task changes the rows, with preprocessors of any
    kind, they run once and the results stay in memory: the same rows every epoch, and after resume.
    """
    if _leaves_rows_unchanged(task):
        return PreparedRows(task.source, split, row_length)
    return RowsInMemory(task, split, row_length)
