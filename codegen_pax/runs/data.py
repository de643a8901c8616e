"""Whether what a run reads is there, found out without reading it through."""

from __future__ import annotations

import concurrent.futures
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

import seqio

from codegen_pax.data import TRAIN, VALIDATION, mixtures
from codegen_pax.data.seqio_sources import CorpusMissingError, PreparedCorpus
from codegen_pax.data.sources import storage
from codegen_pax.errors import InvalidValueError
from codegen_pax.names import counted

_THREADS = 32  # that ask a bucket for the sizes of shards


@dataclass(frozen=True)
class Found:
    """What there is of a mixture in one split.

    Attributes:
      mixture: its name.
      rows: of the tasks of which it is known before they are read: those of prepared corpora.
      unknown: its tasks of which it is not; each has at least one row.
      empty: its tasks without a row.
    """

    mixture: str
    rows: dict[str, int]
    unknown: tuple[str, ...]
    empty: tuple[str, ...]

    def __str__(self) -> str:
        if not self.rows:
            return self.mixture
        return f"{self.mixture}, {counted(sum(self.rows.values()), 'row')}"


def check_training(mixture: str, row_length: int) -> Found:
    """What a run would train on. Every task must have rows, of this length.

    Args:
      mixture: a registered task or mixture.
      row_length: T.

    Raises:
      UserError: a task cannot be read; the message says how it is prepared.
    """
    found = _look(mixture, TRAIN, row_length)
    if found.empty:
        raise InvalidValueError(
            f"{mixture} cannot be trained on: {', '.join(found.empty)} has not one row of "
            f"{row_length} tokens{_preparing(found.empty, row_length)}"
        )
    return found


def check_evaluation(mixture: str, row_length: int) -> Found:
    """What a run would be evaluated on: at least one task must have rows, `empty` are the others.

    Arguments as of `check_training`.

    Raises:
      UserError: a task cannot be read, or none has a row that is held out.
    """
    found = _look(mixture, VALIDATION, row_length)
    if not (found.rows or found.unknown):
        raise InvalidValueError(
            f"{mixture} has no row to evaluate on"
            f"{_preparing(found.empty, row_length, ' --validation 0.01')}; or train without "
            "--eval_on_test"
        )
    return found


def check_prompts(task: str, prompt_length: int, split: str = VALIDATION) -> int:
    """How many prompts a run would decode. Reads them.

    Raises:
      UserError: there is none, or one is longer than `prompt_length` tokens.
    """
    lengths = [len(one["inputs"]) for one in _examples(task, None, split)]
    if not lengths:
        raise InvalidValueError(f"{task} ({split}) has no prompt to decode")
    if (longest := max(lengths)) > prompt_length:
        raise InvalidValueError(
            f"{task} ({split}) has a prompt of {longest} tokens; wanted at most {prompt_length}"
        )
    return len(lengths)


def _look(mixture: str, split: str, row_length: int) -> Found:
    rows: dict[str, int] = {}
    unknown: list[str] = []
    empty: list[str] = []
    for name, rate in mixtures.task_rates(mixture, split).items():
        task = seqio.TaskRegistry.get(name)
        if isinstance(task.source, PreparedCorpus):
            if count := _prepared_rows(task.source, split, row_length):
                rows[name] = count
            else:
                empty.append(name)
        elif rate and _has_row(name, split, row_length):
            unknown.append(name)
        else:
            empty.append(name)
    return Found(mixture, rows, tuple(unknown), tuple(empty))


def _prepared_rows(source: PreparedCorpus, split: str, row_length: int) -> int:
    """Rows of a prepared corpus, of which every shard is there as it was written."""
    with storage.told(str(source.folder())):
        found, folder = source.manifest(), source.folder()
        if found.row_length != row_length:
            raise InvalidValueError(
                f"{source.label} was prepared with rows of {found.row_length} tokens; wanted "
                f"{row_length}: prepare it with --row-length {row_length}"
            )
        shards = [shard for shard in found.shards(split, source.part) if shard.rows]
        with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
            sizes = pool.map(lambda shard: _size(folder / shard.name), shards)
        for shard, size in zip(shards, sizes, strict=True):
            wanted = shard.rows * found.row_format.dtype.itemsize
            if size != wanted:
                there = "is missing" if size is None else f"has {size:,} bytes"
                raise CorpusMissingError(
                    f"{folder / shard.name} {there}; wanted {wanted:,} bytes: fetch the shard "
                    "again, or prepare the corpus again"
                )
        return sum(shard.rows for shard in shards)


def _size(path) -> int | None:
    try:
        return path.stat().length
    except FileNotFoundError:
        return None


def _has_row(name: str, split: str, row_length: int) -> bool:
    task = seqio.TaskRegistry.get(name)
    if split not in task.splits:
        raise InvalidValueError(
            f"task {name} has no split {split!r}; it has {', '.join(task.splits)}"
        )
    return any(True for _ in _examples(name, row_length, split))


def _examples(name: str, row_length: int | None, split: str):
    task = seqio.get_mixture_or_task(name)
    lengths = row_length and dict.fromkeys(task.output_features, row_length)
    dataset = task.get_dataset(lengths, split=split, shuffle=False, num_epochs=1)
    return dataset.as_numpy_iterator()


def _preparing(tasks: Sequence[str], row_length: int, option: str = "") -> str:
    """The command that prepares the first of some tasks with what is missing, if one does."""
    source = seqio.TaskRegistry.get(tasks[0]).source
    if not isinstance(source, PreparedCorpus):
        return ""
    return (
        f": {source.label} has none: prepare it from {source.raw}: codegen-pax prepare "
        f"{source.kind} --input ...{option} --row-length {row_length} --output "
        f"{shlex.quote(str(source.folder()))} (once {source.folder()} is moved away)"
    )
