"""The changes that are allowed when a job resumes, and the schedule that it keeps.

Any change that is not listed here changes what the weights mean or the order of the rows. It is
refused, and needs a job of its own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NoReturn

from etils import epath

from codegen_pax.compare import (
    HARDWARE,
    NETWORK,
    Change,
    ExperimentConfig,
    changes_since,
    group_of,
    strip_module,
)
from codegen_pax.environment import code
from codegen_pax.errors import InvalidValueError
from codegen_pax.runs import lineage
from experiments.declaration import Declaration
from experiments.settings import VARIABLES, Schedule
from experiments.start import Run

# The fields of a declaration that make up its schedule.
SCHEDULE = ("warmup_steps", "anneal_steps", "learning_rate", "learning_rate_end")
_OPTIMIZER = "task.train.learner.optimizer"
_SCHEDULE_PATHS = re.compile(rf"^{re.escape(_OPTIMIZER)}\.(learning_rate|lr_schedule\b.*)$")
_TRAINED = re.compile(r"datasets\[(\d+)\]\.is_training = True")
_DATASET = re.compile(r"datasets\[(\d+)\]")
_BATCH = re.compile(r"^((decode_)?datasets\[\d+\]|input_specs)\.batch_size$")
_MOST_NAMED = 8  # the most changes that an error names


def _always(_: Change) -> bool:
    return True


def _is_added_or_removed(change: Change) -> bool:
    return None in (change.old, change.new)


def _are_among(*references: str) -> Callable[[Change], bool]:
    """Returns a function that tells whether both values are None or among these class names."""

    def is_valid(change: Change) -> bool:
        values = {strip_module(value or "None") for value in (change.old, change.new)}
        return values <= {"None", *references}

    return is_valid


def _computes_the_same(change: Change) -> bool:
    """Whether both are layers of this project, or praxis layers that compute the same."""
    same = (
        "codegen_pax.model.",
        "praxis.layers.embedding_softmax.FullSoftmax",
        "praxis.layers.attentions.DotProductAttention",
        "praxis.layers.attentions.CombinedQKVProjectionLayer",
        "praxis.layers.base_ops.EinsumOp",
    )
    return all((value or "").startswith(same) for value in (change.old, change.new))


@dataclass(frozen=True)
class Rule:
    """A rule that allows some paths of a configuration to change.

    Attributes:
        pattern: A regular expression that finds the paths.
        why: What they decide, which is neither what the weights mean nor the order of the data.
        is_valid: Whether the rule allows a change of such a path.
        recorded_as: The field of a receipt that records the same change.
    """

    pattern: str
    why: str
    is_valid: Callable[[Change], bool] = _always
    recorded_as: str | None = None


MAY_CHANGE = (
    Rule(r"^task\.train\.num_train_steps$", "how far it goes; the rows go on", recorded_as="steps"),
    Rule(
        r"^task\.train\.\w*(interval|max_to_keep|keep_|summary|profiler|inflight|log_)\w*$",
        "when it saves, evaluates and reports",
    ),
    Rule(
        r"^task\.(train\.learner\.\w+_norm_(summary|individual_vars)|summary_)", "what it reports"
    ),
    Rule(r"\.eval_skip_train$", "whether a training batch is evaluated too"),
    Rule(r"\b(checkpoint_policy|remat\w*)$", "what is computed twice to save memory"),
    # The micro-batches' gradients sum to that of the batch; the recipe has the type of the sum.
    Rule(
        r"^task\.train\.learner\.stochastic_gradient$",
        "whether a batch is computed in parts",
        _are_among("AccumulatedGradient", "StandardGradient"),
    ),
    Rule(r"\.stochastic_gradient\.accumulation_steps$", "in how many parts a batch is computed"),
    Rule(
        r"\.stochastic_gradient\.\w+$",
        "whether a batch is computed in parts",
        _is_added_or_removed,
    ),
    Rule(r"\.\w*chunk\w*$", "how attention or loss is computed"),
    Rule(
        r"\.(softmax_tpl|tr_atten_tpl|combined_qkv_proj_tpl|einsum_tpl)$",
        "how attention or loss is computed",
        _computes_the_same,
    ),
    Rule(r"^task\.(decode|evaluate|infer)\b", "what is evaluated and decoded"),
    Rule(r"^task\.model\.decoder_tpl\b", "how prompts are continued"),
    Rule(r"^(decode_datasets|evaluation)\b", "which rows are evaluated, which prompts continued"),
    Rule(r"^task\.train\.init_from_checkpoint_rules\b", "where it began, as its parents say"),
    Rule(r"\.(params_init|weight_init|\w+_init)\b", "how weights begin: it has weights"),
)

_HARDWARE = Rule(r"", "where arrays lie", recorded_as="mesh")


def receipt_of(run: Run) -> lineage.Receipt | None:
    """Returns the receipt of the checkpoint from which a run resumes training; None without one."""
    if not run.trains or run.job is None or run.step is None:
        return None
    receipt = lineage.of_checkpoint(run.job, run.step)
    return receipt if receipt and receipt["kind"] == "training" else None


def keep_schedule(
    declaration: Declaration, receipt: lineage.Receipt | None, schedule: Schedule | None
) -> Declaration:
    """Returns the declaration with the schedule that a job resumes with.

    Args:
        declaration: The declaration of the run.
        receipt: The receipt of the checkpoint from which the job resumes; None if it does not.
        schedule: The schedule that the settings choose.

    Returns:
        The declaration with the receipt's schedule. It is returned unchanged if there is no receipt
        or the receipt has no schedule; if the settings choose the declared schedule; or if they
        choose none and the declaration has another by hand, which `check` refuses.
    """
    then = schedule_of(receipt) if receipt else None
    if receipt is None or then is None or schedule == Schedule.DECLARED:
        return declaration
    by_hand_then = receipt.get("declared", {}).get("by_hand", {})
    differs = any(
        value != by_hand_then.get(name, then[name])
        for name, value in declaration.by_hand.items()
        if name in then
    )
    if differs and schedule != Schedule.RECEIPT:
        return declaration
    return replace(declaration, **then)


def schedule_of(receipt: lineage.Receipt) -> dict[str, Any] | None:
    """Returns the fields of `SCHEDULE` in a receipt; None if one is missing."""
    declared = receipt.get("declared", {})
    if all(type(declared.get(name)) in (int, float) for name in SCHEDULE):
        return {name: declared[name] for name in SCHEDULE}
    values = _values(receipt.get("snapshot", []))
    try:
        rate = float(values[f"{_OPTIMIZER}.learning_rate"])
        ramp = f"{_OPTIMIZER}.lr_schedule"
        warmup = int(values[f"{ramp}.warmup_steps"])
        return {
            "warmup_steps": warmup,
            "anneal_steps": int(values[f"{ramp}.decay_end"]) - warmup,
            "learning_rate": rate,
            "learning_rate_end": rate * float(values[f"{ramp}.min_ratio"]),
        }
    except (KeyError, ValueError):  # another form, which `check` compares path by path
        return None


def check(
    job: epath.Path,
    step: int,
    old: lineage.Receipt,
    new: lineage.Receipt,
    side: ExperimentConfig,
    schedule: Schedule | None = None,
) -> list[dict[str, Any]]:
    """Compares what is about to train with what the job has been trained with.

    Args:
        job: The job directory.
        step: The step from which the job resumes.
        old: The receipt of the checkpoint of that step.
        new: The receipt that a new job would have.
        side: The experiment's whole configuration.
        schedule: The schedule that the settings choose.

    Returns:
        The changes, all of them allowed, in the form of a receipt's `history`.

    Raises:
        ValueError: A change is not allowed, or the job is past its last step.
    """
    _check_names(job, old, new)
    is_training = old["kind"] == "training"
    if is_training and new["steps"] < step:
        raise InvalidValueError(
            f"{job} is at step {step:,}, and {new['experiment']} ends at step {new['steps']:,}; "
            "expected more steps than that, or a --job_log_dir of its own"
        )
    changed = _changed(old, new, side)
    if not is_training:  # no step was taken: only the network must be the same
        changed = [change for change in changed if group_of(change.path) == NETWORK]
    takes_declared = schedule == Schedule.DECLARED
    refused = [
        change
        for change in changed
        if not (_rule(change) or (takes_declared and _SCHEDULE_PATHS.match(change.path)))
    ]
    if refused:
        raise InvalidValueError(_refusal(job, new["experiment"], refused))
    if not is_training:
        return []
    changed_fields = _changed_fields(old, new)
    recorded = {change["name"] for change in changed_fields}
    return changed_fields + [
        {"name": change.path, "old": change.old, "new": change.new}
        for change in changed
        if (rule := _rule(change)) is None or rule.recorded_as not in recorded
    ]


def _check_names(job: epath.Path, old: lineage.Receipt, new: lineage.Receipt) -> None:
    """Raises ValueError if the experiment or the recipe is another."""
    # Imported weights have not been trained yet: any experiment of their size and phase may do so.
    is_for = old["kind"] != "training" and _table_name(old) == _table_name(new)
    if new["experiment"] not in lineage.experiment_names(old) and not is_for:
        _refuse_name(job, "experiment", old, new)
    if new["recipe"] != old["recipe"]:
        _refuse_name(job, "recipe", old, new)


def _refuse_name(
    job: epath.Path, field: str, old: lineage.Receipt, new: lineage.Receipt
) -> NoReturn:
    raise InvalidValueError(
        f"{job} holds checkpoints of {field} {old[field]}; expected {new[field]}: give "
        f"{new['experiment']} a --job_log_dir of its own"
    )


def _table_name(receipt: lineage.Receipt) -> str:
    """Returns the experiment of the tables that a receipt's experiment is, or is a variant of."""
    declared = receipt.get("declared")
    if declared is None:
        return receipt["experiment"]
    return f"CodeGen{declared['size']['name']}{declared['phase']['name']}"


def _rule(change: Change) -> Rule | None:
    """Returns the rule that allows a change; None if no rule does."""
    if group_of(change.path) == HARDWARE:
        return _HARDWARE
    return next(
        (
            rule
            for rule in MAY_CHANGE
            if re.search(rule.pattern, change.path) and rule.is_valid(change)
        ),
        None,
    )


def _changed(old: lineage.Receipt, new: lineage.Receipt, side: ExperimentConfig) -> list[Change]:
    """Returns the differences between configurations, except how hosts share rows."""
    if "snapshot" not in old:
        fields = ("mixture", "batch_tokens")
        return [
            Change(name, str(old[name]), str(new[name]))
            for name in fields
            if str(old[name]) != str(new[name])
        ]
    lines = (*old["snapshot"], *new["snapshot"])
    trained = {match[1] for line in lines if (match := _TRAINED.fullmatch(line))}
    changed = []
    for change in changes_since(old["snapshot"], side):
        dataset = _DATASET.match(change.path)
        if _BATCH.search(change.path):
            rows = (_global_rows(old, change.old), _global_rows(new, change.new))
            if rows[0] == rows[1]:
                continue
            change = replace(change, old=rows[0], new=rows[1])
        if dataset and dataset[1] not in trained:
            # Only for evaluation: the choice of held-out rows does not change the weights.
            change = replace(change, path=f"evaluation.{change.path}")
        changed.append(change)
    return changed


def _global_rows(receipt: lineage.Receipt, batch_size: str | None) -> str | None:
    """Returns the rows of a batch over all hosts, from those that one host reads."""
    if batch_size is None or not batch_size.isdecimal():
        return batch_size
    hosts = receipt.get("hosts")
    if hosts is None:  # an older receipt: hosts follow from its batch_tokens
        values = _values(receipt["snapshot"])
        rows, length = (
            values.get(f"input_specs.{name}", "") for name in ("batch_size", "row_length")
        )
        of_one = int(rows) * int(length) if rows.isdecimal() and length.isdecimal() else 0
        hosts = receipt["batch_tokens"] // of_one if of_one else 1
    return str(int(batch_size) * max(1, hosts))


def _values(snapshot: Iterable[str]) -> Mapping[str, str]:
    """Returns path -> value from the lines of a snapshot."""
    pairs = (line.partition(" = ") for line in snapshot if " = " in line)
    return {path: value for path, _, value in pairs}


def _changed_fields(old: lineage.Receipt, new: lineage.Receipt) -> list[dict[str, Any]]:
    """Returns the changed fields, versions and code of a receipt, in the form of `history`."""
    plain_fields = [
        {"name": name, "old": old[name], "new": new[name]}
        for name in ("experiment", "class", "steps", "mesh", "hosts")
        if name in old and old[name] != new[name]
    ]
    old_code = old.get("code", {})
    modules = {**dict.fromkeys(old_code), **new["code"]}
    codes = [
        {
            "name": f"code of {name}",
            "old": code.describe(old_code[name]) if name in old_code else None,
            "new": code.describe(new["code"][name]) if name in new["code"] else None,
        }
        for name in modules
        if old_code.get(name) != new["code"].get(name)
    ]
    versions = lineage.version_changes(lineage.last_versions(old), new["versions"])
    return plain_fields + codes + versions


def _refusal(job: epath.Path, name: str, refused: Sequence[Change]) -> str:
    parts = [
        f"{change.path} was {change.old or 'not set'}, is {change.new or 'not set'}"
        for change in refused[:_MOST_NAMED]
    ]
    if more := len(refused) - len(parts):
        parts.append(f"and {more:,} more")
    schedule = (
        f" ({VARIABLES['schedule'].name}={Schedule.RECEIPT} keeps the job's schedule, "
        f"{Schedule.DECLARED} takes the new one)"
        if any(_SCHEDULE_PATHS.match(change.path) for change in refused)
        else ""
    )
    return (
        f"{job} was trained otherwise than {name} is now: {'; '.join(parts)}{schedule}. Run it as "
        "it was, or give it a --job_log_dir of its own"
    )
