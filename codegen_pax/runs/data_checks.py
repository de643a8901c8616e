"""Checks, before a run starts, that its data exists, without reading all of it."""

from __future__ import annotations

import concurrent.futures
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import seqio
from etils import epath

from codegen_pax.data import TRAIN, VALIDATION, mixtures
from codegen_pax.data.seqio_sources import CorpusMissingError, PreparedCorpus
from codegen_pax.data.sources import storage
from codegen_pax.errors import InvalidValueError
from codegen_pax.messages import counted

_THREADS = 32  # that ask object storage for the sizes of shards


@dataclass(frozen=True)
class AvailableData:
    """The data that exists for one split of a mixture.

    Attributes:
        mixture: Its name.
        rows: The number of rows of each task that is read from a prepared corpus.
        uncounted: The tasks whose rows are counted only by reading them; each has at least one.
        empty: The tasks without a row.
    """

    mixture: str
    rows: dict[str, int]
    uncounted: tuple[str, ...]
    empty: tuple[str, ...]

    def __str__(self) -> str:
        if not self.rows:
            return self.mixture
        return f"{self.mixture}, {counted(sum(self.rows.values()), 'row')}"


def check_training(mixture: str, row_length: int) -> AvailableData:
    """Checks that a run can train on every task of a mixture.

    Args:
        mixture: A registered task or mixture.
        row_length: T.

    Returns:
        The data of the training split.

    Raises:
        UserError: A task cannot be read, or has no row; the message says how to prepare it.
    """
    available = _available(mixture, TRAIN, row_length)
    if available.empty:
        raise InvalidValueError(
            f"{mixture} cannot be trained on: {', '.join(available.empty)} has not one row of "
            f"{row_length} tokens{_preparation(available.empty, row_length)}"
        )
    return available


def check_evaluation(mixture: str, row_length: int) -> AvailableData:
    """Checks that a run can be evaluated on a task of a mixture; others may have no rows.

    Args:
        mixture: A registered task or mixture.
        row_length: T.

    Returns:
        The data of the validation split.

    Raises:
        UserError: A task cannot be read, or none has a row.
    """
    available = _available(mixture, VALIDATION, row_length)
    if not (available.rows or available.uncounted):
        raise InvalidValueError(
            f"{mixture} has no row to evaluate on"
            f"{_preparation(available.empty, row_length, ' --validation 0.01')}; or train without "
            "--eval_on_test"
        )
    return available


def check_prompts(task: str, prompt_length: int, split: str = VALIDATION) -> int:
    """Reads the prompts that a run would decode.

    Args:
        task: A registered task.
        prompt_length: The largest number of tokens in a prompt.
        split: The split of the task.

    Returns:
        The number of prompts.

    Raises:
        UserError: There is no prompt, or one is too long.
    """
    lengths = [len(example["inputs"]) for example in _examples(task, None, split)]
    if not lengths:
        raise InvalidValueError(f"{task} ({split}) has no prompt to decode")
    if (longest := max(lengths)) > prompt_length:
        raise InvalidValueError(
            f"{task} ({split}) has a prompt of {longest} tokens; expected at most {prompt_length}"
        )
    return len(lengths)


def _available(mixture: str, split: str, row_length: int) -> AvailableData:
    rows: dict[str, int] = {}
    uncounted: list[str] = []
    empty: list[str] = []
    for name, rate in mixtures.task_rates(mixture, split).items():
        task = seqio.TaskRegistry.get(name)
        if isinstance(task.source, PreparedCorpus):
            if count := _count_prepared_rows(task.source, split, row_length):
                rows[name] = count
            else:
                empty.append(name)
        elif rate and _has_row(name, split, row_length):
            uncounted.append(name)
        else:
            empty.append(name)
    return AvailableData(mixture, rows, tuple(uncounted), tuple(empty))


def _count_prepared_rows(source: PreparedCorpus, split: str, row_length: int) -> int:
    """Returns the number of rows of a prepared corpus; first checks the size of every shard."""
    with storage.translate_errors(str(source.folder())):
        manifest, folder = source.manifest(), source.folder()
        if manifest.row_length != row_length:
            raise InvalidValueError(
                f"{source.label} was prepared with rows of {manifest.row_length} tokens; expected "
                f"{row_length}: prepare it with --row-length {row_length}"
            )
        shards = [shard for shard in manifest.shards(split, source.part) if shard.rows]
        with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
            sizes = pool.map(lambda shard: _size(folder / shard.name), shards)
        for shard, size in zip(shards, sizes, strict=True):
            expected = shard.rows * manifest.row_format.dtype.itemsize
            if size != expected:
                state = "is missing" if size is None else f"has {size:,} bytes"
                raise CorpusMissingError(
                    f"{folder / shard.name} {state}; expected {expected:,} bytes: fetch the shard "
                    "again, or prepare the corpus again"
                )
        return sum(shard.rows for shard in shards)


def _size(path: epath.Path) -> int | None:
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


def _examples(name: str, row_length: int | None, split: str) -> Iterator[dict[str, Any]]:
    task = seqio.get_mixture_or_task(name)
    lengths = row_length and dict.fromkeys(task.output_features, row_length)
    dataset = task.get_dataset(lengths, split=split, shuffle=False, num_epochs=1)
    return dataset.as_numpy_iterator()


def _preparation(tasks: Sequence[str], row_length: int, option: str = "") -> str:
    """Returns the command that prepares the first of some tasks; '' if no command does."""
    source = seqio.TaskRegistry.get(tasks[0]).source
    if not isinstance(source, PreparedCorpus):
        return ""
    return (
        f": {source.label} has none: prepare it from {source.raw}: codegen-pax prepare "
        f"{source.kind} --input ...{option} --row-length {row_length} --output "
        f"{shlex.quote(str(source.folder()))} (once {source.folder()} is moved away)"
    )
