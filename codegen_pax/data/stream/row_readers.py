"""Rows by their number: from the shards of a prepared corpus, or from memory."""

from __future__ import annotations

import collections
import hashlib
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import seqio
import tensorflow as tf
from etils import epath

from codegen_pax.data.format.manifest import Manifest, Shard
from codegen_pax.data.format.rows import check_length, concatenate, drop_longer, tokenize_documents
from codegen_pax.data.format.tfrecords import RowFormat
from codegen_pax.data.prepared import PreparedCorpus
from codegen_pax.data.sources import storage
from codegen_pax.errors import InvalidValueError, UserError

# Rows of a prepared corpus that are read together, which they may be since its documents were
# shuffled when it was prepared: 16 MB of 2,048 tokens. TensorFlow reads no less than 64 MB of a
# bucket for a row alone. Every host reads every page: a whole run eats fewer than a million tokens
# a second, which is 2 MB/s.
PAGE_ROWS = 4_096
# Of each task: it goes from page to page, and only a batch at the end of one has rows of two.
_PAGES_KEPT = 2

# Tasks that are not prepared are held in memory: this many bytes of them at most.
MOST_BYTES = 2 << 30

# For preprocessors that draw at random: as stock `SeqIOInput` reads a task that it evaluates.
_SEED = 42
# This package's own preprocessors: nothing in them is random.
_KNOWN_STEPS = (tokenize_documents, concatenate, drop_longer, check_length)

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
    """The rows of any other seqio task, read once, as its preprocessors make them."""

    def __init__(self, task: seqio.Task, split: str, row_length: int):
        """Raises ValueError for a task without a row, with more than `MOST_BYTES` of them, with one
        that is too long, with features that no row is made of, or with preprocessors that make
        other rows each time.
        """
        read = _Examples(task, split, row_length)
        if (steps := unknown_steps(task)) and _Examples(task, split, row_length).digest != (
            read.digest
        ):
            raise InvalidValueError(
                f"task {task.name} ({split}): {', '.join(steps)} makes other rows each time it is"
                " read, and a run could not be resumed; wanted the same ones, by seeds that seqio"
                " gives (seqio.map_over_dataset with num_seeds) in place of TensorFlow's own"
            )
        self._row_length, self._read = row_length, read
        self._starts = np.concatenate([[0], np.cumsum(read.lengths)])
        # Nobody has shuffled them before: all are one page.
        self.count = self.page_rows = len(read.lengths)
        self.fingerprint = read.digest

    def take(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """See `Rows`."""
        columns = np.arange(self._row_length)
        lengths = self._read.lengths[rows]
        real = columns < lengths[:, None]
        places = (self._starts[rows, None] + columns)[real]
        ids = np.zeros(real.shape, np.int32)
        ids[real] = self._read.tokens[places]
        if self._read.answers is not None:
            predicted = np.zeros(real.shape, bool)
            predicted[real] = self._read.answers[places]
            return ids, lengths, predicted
        predicted = columns >= self._read.prompts[rows, None] if self._read.pairs else None
        return ids, lengths, predicted


class _Examples:
    """All examples of a task, one after another.

    Attributes:
      tokens: int32 [all tokens].
      lengths: of each example, [n].
      prompts: how many tokens of each are its prompt, [n].
      pairs: whether they are prompts and answers.
      answers: bool [all tokens], whether each is of an answer; None unless the task says so.
      digest: SHA-256 of all that, and of the length of a row.
    """

    def __init__(self, task: seqio.Task, split: str, row_length: int):
        features = {*task.output_features}
        if features not in ({"targets"}, {"inputs", "targets"}, {"answers", "targets"}):
            raise InvalidValueError(
                f"task {task.name} has the features {', '.join(sorted(features))}; wanted targets,"
                " inputs and targets, or answers and targets"
            )
        self.pairs = "inputs" in features
        flat: list[np.ndarray] = []
        answers: list[np.ndarray] = []
        prompts: list[int] = []
        size = 0
        for example in _dataset(task, split, row_length).as_numpy_iterator():
            inputs = example.get("inputs", np.empty(0, np.int32))
            row = np.concatenate([inputs, example["targets"]])
            if len(row) > row_length:
                raise InvalidValueError(
                    f"task {task.name} ({split}) has a row of {len(row)} tokens; wanted at most"
                    f" {row_length}: to cut it would lose the end of its answer"
                )
            flat.append(row)
            prompts.append(len(inputs))
            size += row.nbytes
            if "answers" in features:
                answers.append(_of_answers(example, task, split))
            if size > MOST_BYTES:
                steps = unknown_steps(task) if isinstance(task.source, PreparedCorpus) else []
                raise InvalidValueError(
                    f"task {task.name} ({split}) has more than {MOST_BYTES >> 20:,} MiB of rows,"
                    " the most that is held in memory"
                    + (
                        f", where {', '.join(steps)} is applied: apply it before the corpus is"
                        " prepared, or leave it out"
                        if steps
                        else ": prepare it as a corpus"
                    )
                )
        if not flat:
            raise InvalidValueError(
                f"task {task.name} ({split}) has not one row of {row_length} tokens"
            )
        self.lengths = np.array([len(row) for row in flat])
        self.prompts = np.array(prompts)
        self.tokens = np.concatenate(flat).astype(np.int32)
        self.answers = np.concatenate(answers) if answers else None
        digest = hashlib.sha256(f"{row_length} {self.pairs}".encode())
        for values in (self.tokens, self.lengths.astype("<i8"), self.prompts.astype("<i8")):
            digest.update(values.tobytes())
        if self.answers is not None:
            digest.update(self.answers.tobytes())
        self.digest = digest.hexdigest()


def _dataset(task: seqio.Task, split: str, row_length: int) -> tf.data.Dataset:
    """A task's examples, as seqio reads them in their order; ValueError if it refuses to."""
    if task.requires_caching and not task.cache_dir:
        raise InvalidValueError(
            f"task {task.name} is to be read from seqio's cache, and no folder that was given to"
            " seqio.add_global_cache_dirs has it: cache it by `python -m"
            f" seqio.scripts.cache_tasks_main --tasks={task.name} ...`"
        )
    try:
        return task.get_dataset(
            dict.fromkeys(task.output_features, row_length),
            split=split,
            use_cached=task.requires_caching,
            shuffle=False,
            seed=_SEED,
            num_epochs=1,
        )
    except ValueError as error:
        if isinstance(error, UserError):
            raise
        raise InvalidValueError(f"task {task.name} ({split}): {error}") from error


def _of_answers(example: Mapping[str, np.ndarray], task: seqio.Task, split: str) -> np.ndarray:
    """Whether each token of a conversation is of an answer: bool [its tokens]."""
    found, wanted = len(example["answers"]), len(example["targets"])
    if found < wanted:
        raise InvalidValueError(
            f"task {task.name} ({split}) has an example of {wanted} targets and {found} answers:"
            " wanted one for each"
        )
    return example["answers"][:wanted].astype(bool)


def unknown_steps(task: seqio.Task) -> list[str]:
    """The preprocessors of a task, by name, that are not this package's own."""
    return [
        seqio.utils.function_name(step)
        for step in task.preprocessors
        if step not in _KNOWN_STEPS and not isinstance(step, seqio.CacheDatasetPlaceholder)
    ]


def _is_as_prepared(task: seqio.Task) -> bool:
    """Whether a task gives the rows of a prepared corpus as they lie there."""
    if type(task) is not seqio.Task or type(task.source) is not PreparedCorpus:
        return False
    features = {name: (kind.dtype, kind.rank) for name, kind in task.output_features.items()}
    wanted = ["targets", "answers"] if task.source.answers else ["targets"]
    return (
        features == dict.fromkeys(wanted, (tf.int32, 1))
        and not task.requires_caching
        and all(
            step is check_length or isinstance(step, seqio.CacheDatasetPlaceholder)
            for step in task.preprocessors
        )
    )


def open_rows(task: seqio.Task, split: str, row_length: int) -> Rows:
    """The rows of a task, for training and for evaluation.

    A prepared corpus is read where it lies. What a task does to its rows, with preprocessors of
    anybody's, is done once, in memory: the same rows every epoch, and when the run is resumed.
    """
    if _is_as_prepared(task):
        return PreparedRows(task.source, split, row_length)
    return RowsInMemory(task, split, row_length)
