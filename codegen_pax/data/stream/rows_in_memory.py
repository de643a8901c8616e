"""The rows of a seqio task, held in memory and read by number."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import seqio
import tensorflow as tf

from codegen_pax.data.format.rows import check_length, concatenate, drop_longer, tokenize_documents
from codegen_pax.data.seqio_sources import PreparedCorpus
from codegen_pax.data.stream.batches import TokenRows
from codegen_pax.errors import InvalidValueError, UserError

# The most bytes of a task's rows that are held.
MAX_BYTES_IN_MEMORY = 2 << 30

# Rows that TensorFlow hands over together: one by one they take longer than to be tokenised.
BATCH_ROWS = 1_024

# For preprocessors that draw random numbers; stock `SeqIOInput` evaluates with the same seed.
_SEED = 42
_DETERMINISTIC_PREPROCESSORS = (tokenize_documents, concatenate, drop_longer, check_length)


class RowsInMemory:
    """Reads all rows of any other seqio task once, as its preprocessors make them."""

    def __init__(self, task: seqio.Task, split: str, row_length: int):
        """Read a split of a task.

        Raises:
            ValueError: The task has no row, more than `MAX_BYTES_IN_MEMORY` of rows, a row that is
                too long, features that do not make a row, or preprocessors that give different rows
                each time.
        """
        examples = _TaskExamples(task, split, row_length)
        if (steps := foreign_preprocessors(task)) and (
            _TaskExamples(task, split, row_length).digest != examples.digest
        ):
            raise InvalidValueError(
                f"task {task.name} ({split}): {', '.join(steps)} makes other rows each time it is"
                " read, and a run could not resume; expected the same rows, by seeds that seqio"
                " gives (seqio.map_over_dataset with num_seeds) in place of TensorFlow's own"
            )
        self._row_length, self._examples = row_length, examples
        self._starts = np.concatenate([[0], np.cumsum(examples.lengths)])
        # A single page: these rows have not been shuffled before.
        self.num_rows = self.page_rows = len(examples.lengths)
        self.fingerprint = examples.digest

    def take(self, row_numbers: np.ndarray) -> TokenRows:
        """Return the rows with the given numbers, int64 [B]."""
        columns = np.arange(self._row_length)
        lengths = self._examples.lengths[row_numbers]
        is_token = columns < lengths[:, None]
        places = (self._starts[row_numbers, None] + columns)[is_token]
        ids = np.zeros(is_token.shape, np.int32)
        ids[is_token] = self._examples.tokens[places]
        is_predicted: np.ndarray | None = None
        if self._examples.is_answer is not None:
            is_predicted = np.zeros(is_token.shape, bool)
            is_predicted[is_token] = self._examples.is_answer[places]
        elif self._examples.has_prompts:
            is_predicted = columns >= self._examples.prompt_lengths[row_numbers, None]
        return TokenRows(ids, lengths, is_predicted)


class _TaskExamples:
    """All examples of a task, one after another.

    Attributes:
        tokens: int32 [all tokens].
        lengths: The number of tokens of each example, [n].
        has_prompts: Whether the examples are prompts and answers.
        prompt_lengths: How many tokens of each example are its prompt, [n].
        is_answer: Whether each token belongs to an answer, bool [all tokens]; None unless the task
            has the feature `answers`.
        digest: SHA-256 of all of these and of the length of a row.
    """

    def __init__(self, task: seqio.Task, split: str, row_length: int):
        features = {*task.output_features}
        if features not in ({"targets"}, {"inputs", "targets"}, {"answers", "targets"}):
            raise InvalidValueError(
                f"task {task.name} has the features {', '.join(sorted(features))}; expected"
                " targets, inputs and targets, or answers and targets"
            )
        self.has_prompts = "inputs" in features
        tokens: list[np.ndarray] = []
        is_answer: list[np.ndarray] = []
        prompt_lengths: list[int] = []
        num_bytes = 0
        for example in _examples(task, split, row_length):
            prompt = example.get("inputs", np.empty(0, np.int32))
            row = np.concatenate([prompt, example["targets"]])
            if len(row) > row_length:
                raise InvalidValueError(
                    f"task {task.name} ({split}) has a row of {len(row)} tokens; expected at most"
                    f" {row_length}: to cut it would lose the end of its answer"
                )
            tokens.append(row)
            prompt_lengths.append(len(prompt))
            if "answers" in features:
                is_answer.append(_is_answer(example, task, split))
            num_bytes += row.nbytes
            if num_bytes > MAX_BYTES_IN_MEMORY:
                raise _too_large(task, split)
        if not tokens:
            raise InvalidValueError(
                f"task {task.name} ({split}) has not one row of {row_length} tokens"
            )
        self.lengths = np.array([len(row) for row in tokens])
        self.prompt_lengths = np.array(prompt_lengths)
        self.tokens = np.concatenate(tokens).astype(np.int32)
        self.is_answer = np.concatenate(is_answer) if is_answer else None
        digest = hashlib.sha256(f"{row_length} {self.has_prompts}".encode())
        for values in (self.tokens, self.lengths.astype("<i8"), self.prompt_lengths.astype("<i8")):
            digest.update(values.tobytes())
        if self.is_answer is not None:
            digest.update(self.is_answer.tobytes())
        self.digest = digest.hexdigest()


def _examples(task: seqio.Task, split: str, row_length: int) -> Iterator[dict[str, np.ndarray]]:
    """Yield a task's examples in seqio's own order, each feature [n]; ValueError as `_dataset`."""
    options = tf.data.Options()
    options.autotune.enabled = False  # its thread may hold up the end of a short read for seconds
    names = [*task.output_features]
    dataset = _dataset(task, split, row_length).map(lambda example: {n: example[n] for n in names})
    for batch in dataset.ragged_batch(BATCH_ROWS).with_options(options):
        for values in zip(*(_split(batch[name]) for name in names), strict=True):
            yield dict(zip(names, values, strict=True))


def _split(rows: tf.Tensor | tf.RaggedTensor) -> Sequence[np.ndarray]:
    """Return the rows of a batch, each [n]."""
    if isinstance(rows, tf.RaggedTensor):
        return np.split(rows.flat_values.numpy(), rows.row_splits.numpy()[1:-1])
    return rows.numpy()


def _dataset(task: seqio.Task, split: str, row_length: int) -> tf.data.Dataset:
    """Return a task's examples in seqio's own order; ValueError if seqio refuses to read it."""
    if task.requires_caching and not task.cache_dir:
        raise InvalidValueError(
            f"task {task.name} can only be read from seqio's cache, and no folder given to"
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


def _is_answer(example: Mapping[str, np.ndarray], task: seqio.Task, split: str) -> np.ndarray:
    """Return whether each token of a conversation belongs to an answer: bool [its tokens]."""
    num_answers, num_targets = len(example["answers"]), len(example["targets"])
    if num_answers < num_targets:
        raise InvalidValueError(
            f"task {task.name} ({split}) has an example of {num_targets} targets and {num_answers}"
            " answers: expected one for each"
        )
    return example["answers"][:num_targets].astype(bool)


def _too_large(task: seqio.Task, split: str) -> InvalidValueError:
    """Return the error for a task that is too large to hold in memory."""
    steps = foreign_preprocessors(task) if isinstance(task.source, PreparedCorpus) else []
    advice = (
        f", because {', '.join(steps)} is applied to a prepared corpus: apply it before the corpus"
        " is prepared, or leave it out"
        if steps
        else ": prepare it as a corpus"
    )
    return InvalidValueError(
        f"task {task.name} ({split}) has more than {MAX_BYTES_IN_MEMORY >> 20:,} MiB of rows, the"
        f" most that is held in memory{advice}"
    )


def foreign_preprocessors(task: seqio.Task) -> list[str]:
    """Return the names of a task's preprocessors that are not this package's own."""
    return [
        seqio.utils.function_name(step)
        for step in task.preprocessors
        if step not in _DETERMINISTIC_PREPROCESSORS
        and not isinstance(step, seqio.CacheDatasetPlaceholder)
    ]
