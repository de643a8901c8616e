"""Pax inputs over seqio tasks and mixtures: what a task trains on, evaluates and decodes.

Training reads a stream of rows that resumes exactly, on any number of hosts (`stream`): set
`task.train.enable_input_checkpointing = True` and `task.train.eval_skip_train = True` on the task.
Evaluation reads the same rows, each once. Decoding reads every prompt once, through the stock
`paxml.seqio_input.SeqIOInput`.

Each function returns a configuration; it looks the name up in seqio's registry and touches no data.
Pax instantiates it when a run starts. `batch_size` is that of one host, as everywhere in Pax: the
trainer sets `num_infeed_hosts` to the number of JAX processes and gives each an
`infeed_host_index`.
"""

from __future__ import annotations

import seqio
from paxml import seqio_input
from praxis import pax_fiddle

from codegen_pax.data import installed, prepared
from codegen_pax.data.stream import features
from codegen_pax.data.stream.evaluation import EvaluationRows
from codegen_pax.data.stream.training import TrainingRows
from codegen_pax.errors import InvalidValueError


def training_input(
    mixture: str,
    *,
    batch_size: int,
    row_length: int,
    seed: int,
    split: str = installed.TRAIN,
    packing: bool = False,
) -> pax_fiddle.Config[TrainingRows]:
    """Shuffled rows without end, for training.

    Args:
      mixture: the name of a registered task or mixture.
      batch_size: rows of one host.
      row_length: T; T - 1 tokens of a row are predicted.
      seed: of the order of the rows, which is a function of it alone.
      split: the split to read.
      packing: whether the documents of a row do not see each other (`stream.batches`).

    Raises ValueError if `mixture` is not registered, or `packing` is asked of what holds one
      example a row.
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
    split: str = installed.VALIDATION,
    packing: bool = False,
) -> pax_fiddle.Config[EvaluationRows]:
    """Every row of a split once, in a fixed order, for evaluation: see `EvaluationRows`.

    Arguments and errors as for `training_input`; and ValueError if a task has metrics of seqio's
      that score what is evaluated: what is told is the loss.
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
    split: str = installed.VALIDATION,
) -> pax_fiddle.Config[seqio_input.SeqIOInput]:
    """Every prompt of a split once, in order, for decoding.

    The last batch is filled up with copies of a prompt that have `eval_sample_weights` 0: they are
    decoded, and praxis leaves them out of what it writes.

    Args:
      mixture: the name of a registered task with `inputs`, the prompts.
      batch_size: prompts of one host.
      prompt_length: P; a longer prompt is an error when it is read.
      split: the split to read.

    Raises ValueError if `mixture` is not registered or has no `inputs`.
    """
    if "inputs" not in _features(mixture):
        found = ", ".join(_features(mixture))
        raise InvalidValueError(f"{mixture} has no prompts: found {found}, wanted inputs")
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
        # It would hold the whole epoch; nothing here is random, so each is read as the last was.
        eval_enable_cache=False,
        trim_output_features=False,
        task_feature_lengths={"inputs": prompt_length},
        feature_converter=pax_fiddle.Config(features.Prompts),
    )


def _features(mixture: str) -> list[str]:
    """The features of a registered task or mixture; ValueError with the nearest name if none."""
    return list(prepared.registered(mixture).output_features)


def _check_packing(mixture: str, packing: bool) -> None:
    """Raises ValueError if `packing` is asked of what holds one example a row, or is not known."""
    found = _features(mixture)
    if packing and found != ["targets"]:
        raise InvalidValueError(
            f"{mixture} holds one example a row: packing was asked for, wanted False"
        )


def _check_metrics(mixture: str) -> None:
    """Raises ValueError if seqio has metrics to be computed from the scores of a task."""
    found = prepared.registered(mixture)
    if isinstance(found, seqio.Task) and found.score_metric_fns:
        metrics = ", ".join(function.__name__ for function in found.score_metric_fns)
        raise InvalidValueError(
            f"task {mixture} has metrics of its scores ({metrics}), which an evaluation does not"
            " compute: it tells the loss; wanted a task without them"
        )
