"""Pax inputs over seqio tasks and mixtures: what a run trains on, evaluates and decodes.

- Training reads an endless stream of rows that resumes exactly, on any number of hosts. Set
  `task.train.enable_input_checkpointing = True` and `task.train.eval_skip_train = True`.
- Evaluation reads the same rows, each once.
- Decoding reads each prompt once, through the stock `paxml.seqio_input.SeqIOInput`.

Each function returns a configuration. It looks up the name in seqio's registry but reads no data.
Pax instantiates it when a run starts. `batch_size` counts the rows of one host, as everywhere in
Pax: the trainer sets `num_infeed_hosts` to the number of JAX processes and gives each process its
`infeed_host_index`.
"""

from __future__ import annotations

import seqio
from paxml import seqio_input
from praxis import pax_fiddle

from codegen_pax.data import TRAIN, VALIDATION, mixtures
from codegen_pax.data.stream import batches
from codegen_pax.data.stream.mixture_rows import EvaluationRows
from codegen_pax.data.stream.training import TrainingRows
from codegen_pax.errors import InvalidValueError


def training_input(
    mixture: str,
    *,
    batch_size: int,
    row_length: int,
    seed: int,
    split: str = TRAIN,
    packing: bool = False,
) -> pax_fiddle.Config[TrainingRows]:
    """Return an input of shuffled rows without end, for training.

    Args:
        mixture: The name of a registered task or mixture.
        batch_size: Rows of one host.
        row_length: T; T - 1 tokens of a row are predicted.
        seed: The order of the rows depends on the seed alone.
        split: The split to read.
        packing: Whether attention stays within each document of a row (see `batches`).

    Raises:
        ValueError: `mixture` is not registered, or `packing` is set and its rows hold one example
            each.
    """
    _check_packing(mixture, packing)
    return pax_fiddle.Config(
        TrainingRows,
        name=f"{mixture}_{split}",
        mixture_name=mixture,
        split_name=split,
        is_training=True,
        batch_size=batch_size,
        row_length=row_length,
        packing=packing,
        seed=seed,
    )


def evaluation_input(
    mixture: str,
    *,
    batch_size: int,
    row_length: int,
    split: str = VALIDATION,
    packing: bool = False,
) -> pax_fiddle.Config[EvaluationRows]:
    """Return an input of every row of a split once, in a fixed order, for evaluation.

    Args:
        mixture: The name of a registered task or mixture.
        batch_size: Rows of one host.
        row_length: T.
        split: The split to read.
        packing: Whether attention stays within each document of a row.

    Raises:
        ValueError: As for `training_input`; or seqio has metrics of the task's scores, which this
            evaluation does not compute: it reports the loss.
    """
    _check_packing(mixture, packing)
    _check_metrics(mixture)
    return pax_fiddle.Config(
        EvaluationRows,
        name=f"{mixture}_{split}",
        mixture_name=mixture,
        split_name=split,
        is_training=False,
        batch_size=batch_size,
        row_length=row_length,
        packing=packing,
        reset_for_eval=True,
        eval_loop_num_batches=None,  # all of them
    )


def decoding_input(
    mixture: str,
    *,
    batch_size: int,
    prompt_length: int,
    split: str = VALIDATION,
) -> pax_fiddle.Config[seqio_input.SeqIOInput]:
    """Return an input of every prompt of a split once, in order, for decoding.

    The last batch is filled up with copies of a prompt that have `eval_sample_weights` 0: they are
    decoded, and praxis leaves them out of what it writes.

    Args:
        mixture: The name of a registered task with `inputs`, the prompts.
        batch_size: Prompts of one host.
        prompt_length: P; a longer prompt is an error when it is read.
        split: The split to read.

    Raises:
        ValueError: `mixture` is not registered or has no `inputs`.
    """
    features = mixtures.get_mixture_or_task(mixture).output_features
    if "inputs" not in features:
        raise InvalidValueError(
            f"{mixture} has no prompts: found the features {', '.join(features)}, expected inputs"
        )
    return pax_fiddle.Config(
        seqio_input.SeqIOInput,
        name=f"{mixture}_{split}",
        mixture_name=mixture,
        split_name=split,
        is_training=False,
        batch_size=batch_size,
        reset_for_eval=True,
        eval_loop_num_batches=None,  # all of them
        try_in_mem_cache=False,
        # The cache would hold the whole epoch, and reading is deterministic without it.
        eval_enable_cache=False,
        trim_output_features=False,
        task_feature_lengths={"inputs": prompt_length},
        feature_converter=pax_fiddle.Config(batches.PromptConverter),
    )


def _check_packing(mixture: str, packing: bool) -> None:
    """Raise ValueError for an unknown mixture, or one whose rows hold one example each."""
    features = list(mixtures.get_mixture_or_task(mixture).output_features)
    if packing and features != ["targets"]:
        raise InvalidValueError(
            f"{mixture} has one example a row (features: {', '.join(features)}), and packing is for"
            " rows of several documents: found packing=True, expected False"
        )


def _check_metrics(mixture: str) -> None:
    """Raise ValueError for a task with metrics that seqio computes from scores."""
    provider = mixtures.get_mixture_or_task(mixture)
    if isinstance(provider, seqio.Task) and provider.score_metric_fns:
        metrics = ", ".join(function.__name__ for function in provider.score_metric_fns)
        raise InvalidValueError(
            f"task {mixture} has metrics of its scores ({metrics}), which an evaluation does not"
            " compute, since it reports the loss alone: expected a task without them"
        )
