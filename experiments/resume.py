"""What may change when a job goes on, and the schedule that it keeps.

Whatever is not named here changes what the weights mean or which rows come when: it is refused,
and wants a job of its own.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NoReturn

from absl import flags
from etils import epath

from codegen_pax import names
from codegen_pax.compare import Change, Side, changes, group_of
from codegen_pax.compare.changes import plain
from codegen_pax.compare.grouping import HARDWARE, NETWORK
from codegen_pax.environment import code
from codegen_pax.errors import InvalidValueError, UnknownNameError
from codegen_pax.runs import checkpoints, lineage
from experiments import start
from experiments.declaration import Declaration

# Which schedule a job goes on by: its receipt's, or the one that is declared now. Unset: the
# receipt's, unless another is set by hand, which is refused.
SCHEDULE_VARIABLE = "CODEGEN_SCHEDULE"
RECEIPT, DECLARED = SCHEDULES = ("receipt", "declared")
SCHEDULE = ("warmup_steps", "anneal_steps", "learning_rate", "learning_rate_end")
_OPTIMIZER = "task.train.learner.optimizer"
_SCHEDULE_PATHS = re.compile(rf"^{re.escape(_OPTIMIZER)}\.(learning_rate|lr_schedule\b.*)$")
_TRAINED = re.compile(r"datasets\[(\d+)\]\.is_training = True")
_DATASET = re.compile(r"datasets\[(\d+)\]")
_BATCH = re.compile(r"^((decode_)?datasets\[\d+\]|input_specs)\.batch_size$")
_MOST_NAMED = 8  # changes in an error


def _always(change: Change) -> bool:
    return True


def _comes_or_goes(change: Change) -> bool:
    return None in (change.old, change.new)


def _one_of(*references: str) -> Callable[[Change], bool]:
    """Whether both values are nothing, or classes of these names."""
    return lambda change: (
        {plain(value or "None") for value in (change.old, change.new)}
        <= {
            "None",
            *references,
        }
    )


def _computes_the_same(change: Change) -> bool:
    """Whether both are layers of this project, or those of praxis whose numbers they have."""
    same = ("codegen_pax.model.", "praxis.layers.embedding_softmax.FullSoftmax")
    return all((value or "").startswith(same) for value in (change.old, change.new))


@dataclass(frozen=True)
class Rule:
    """Paths of a configuration that may change.

    Attributes:
      pattern: finds them.
      why: it changes neither what the weights mean nor the order of the data.
      fits: whether a change is one of those meant.
      told_by: the field of a lineage that says the same.
    """

    pattern: str
    why: str
    fits: Callable[[Change], bool] = _always
    told_by: str | None = None


MAY_CHANGE = (
    Rule(r"^task\.train\.num_train_steps$", "how far it goes; the rows go on", told_by="steps"),
    Rule(
        r"^task\.train\.\w*(interval|max_to_keep|keep_|summary|profiler|inflight|log_)\w*$",
        "when it saves, evaluates and reports",
    ),
    Rule(
        r"^task\.(train\.learner\.\w+_norm_(summary|individual_vars)|summary_)", "what it reports"
    ),
    Rule(r"\.eval_skip_train$", "whether a training batch is evaluated too"),
    Rule(r"\b(checkpoint_policy|remat\w*)$", "what is computed twice to save memory"),
    # The sum of the micro-batches' gradients is that of the batch; in which type, the recipe says.
    Rule(
        r"^task\.train\.learner\.stochastic_gradient$",
        "whether a batch is computed in parts",
        _one_of("AccumulatedGradient", "StandardGradient"),
    ),
    Rule(r"\.stochastic_gradient\.accumulation_steps$", "in how many parts a batch is computed"),
    Rule(r"\.stochastic_gradient\.\w+$", "whether a batch is computed in parts", _comes_or_goes),
    Rule(r"\.\w*chunk\w*$", "how attention or loss is computed"),
    Rule(r"\.(softmax_tpl|tr_atten_tpl)$", "how attention or loss is computed", _computes_the_same),
    Rule(r"^task\.(decode|evaluate|infer)\b", "what is evaluated and decoded"),
    Rule(r"^task\.model\.decoder_tpl\b", "how prompts are continued"),
    Rule(r"^(decode_datasets|evaluation)\b", "which rows are evaluated, which prompts continued"),
    Rule(r"^task\.train\.init_from_checkpoint_rules\b", "where it began, as its parents say"),
    Rule(r"\.(params_init|weight_init|\w+_init)\b", "how weights begin: it has weights"),
)

_HARDWARE = Rule(r"", "where arrays lie", told_by="mesh")


def keep_schedule(
    declaration: Declaration, environment: Mapping[str, str] = os.environ
) -> Declaration:
    """The declaration, with the schedule of the job that the stock binary is about to resume.

    Args:
      declaration: with all that follows from it.
      environment: may name the schedule.

    Returns:
      The declaration itself in any other process, and where its own schedule is asked for, or is
      set by hand and another (`check` refuses that).

    Raises:
      KeyError: the environment asks for a schedule that there is not.
    """
    wanted = environment.get(SCHEDULE_VARIABLE, "")
    if wanted and wanted not in SCHEDULES:
        raise UnknownNameError(names.unknown(f"{SCHEDULE_VARIABLE} schedule", wanted, SCHEDULES))
    if not start.is_training() or wanted == DECLARED:
        return declaration
    job = epath.Path(flags.FLAGS.job_log_dir)
    step = checkpoints.last_step(job)
    found = lineage.of_checkpoint(job, step) if step is not None else None
    if found is None or found["kind"] != "training":
        return declaration
    return scheduled(declaration, found, by_force=wanted == RECEIPT)


def scheduled(
    declaration: Declaration, found: lineage.Receipt, *, by_force: bool = False
) -> Declaration:
    """The declaration with the schedule of a lineage; itself if another is set by hand.

    Args:
      declaration: with all that follows from it.
      found: the lineage.
      by_force: whatever is set by hand.
    """
    then = schedule_of(found)
    if then is None:
        return declaration
    by_hand_then = found.get("declared", {}).get("by_hand", {})
    differs = any(
        value != by_hand_then.get(name, then[name])
        for name, value in declaration.by_hand.items()
        if name in then
    )
    return declaration if differs and not by_force else replace(declaration, **then)


def schedule_of(found: lineage.Receipt) -> dict[str, Any] | None:
    """The fields of `SCHEDULE` in a lineage; None if it has not got them."""
    declared = found.get("declared", {})
    if all(type(declared.get(name)) in (int, float) for name in SCHEDULE):
        return {name: declared[name] for name in SCHEDULE}
    said = dict(line.split(" = ", 1) for line in found.get("snapshot", []) if " = " in line)
    try:
        rate = float(said[f"{_OPTIMIZER}.learning_rate"])
        ramp = f"{_OPTIMIZER}.lr_schedule"
        warmup = int(said[f"{ramp}.warmup_steps"])
        return {
            "warmup_steps": warmup,
            "anneal_steps": int(said[f"{ramp}.decay_end"]) - warmup,
            "learning_rate": rate,
            "learning_rate_end": rate * float(said[f"{ramp}.min_ratio"]),
        }
    except (KeyError, ValueError):  # of a schedule of another form: compared as it is
        return None


def check(
    job: epath.Path,
    step: int,
    found: lineage.Receipt,
    now: lineage.Receipt,
    side: Side,
    environment: Mapping[str, str] = os.environ,
) -> list[dict[str, Any]]:
    """Compares what is about to train with what its job was trained by.

    Args:
      job: its directory.
      step: that it goes on from.
      found: the lineage of that checkpoint.
      now: the lineage as it would be.
      side: the experiment's whole configuration.
      environment: may ask for the schedule that is declared.

    Returns:
      What is changed and may be, as a lineage's `history` has it.

    Raises:
      ValueError: what may not be changed is; or no step is left.
    """
    _check_names(job, found, now)
    trained = found["kind"] == "training"
    if trained and now["steps"] < step:
        raise InvalidValueError(
            f"{job} is at step {step:,}, and {now['experiment']} ends at step {now['steps']:,}; "
            "wanted more steps than that, or a --job_log_dir of its own"
        )
    changed = _changed(found, now, side)
    if not trained:  # no step was taken: the weights bind the network alone
        changed = [change for change in changed if group_of(change.path) == NETWORK]
    asked = environment.get(SCHEDULE_VARIABLE) == DECLARED
    refused = [
        change
        for change in changed
        if not (_rule(change) or (asked and _SCHEDULE_PATHS.match(change.path)))
    ]
    if refused:
        raise InvalidValueError(_refusal(job, now["experiment"], refused))
    if not trained:
        return []
    fields = _fields(found, now)
    told = {change["name"] for change in fields}
    return fields + [
        {"name": change.path, "old": change.old, "new": change.new}
        for change in changed
        if (rule := _rule(change)) is None or rule.told_by not in told
    ]


def _check_names(job: epath.Path, found: lineage.Receipt, now: lineage.Receipt) -> None:
    """Raises ValueError for another experiment, or another recipe."""
    known = lineage.experiment_names(found)
    # Weights that were imported have not been trained on: any run of their size and phase may be.
    is_for = found["kind"] != "training" and _of_tables(found) == _of_tables(now)
    if now["experiment"] not in known and not is_for:
        _refuse_name(job, "experiment", found, now)
    if now["recipe"] != found["recipe"]:
        _refuse_name(job, "recipe", found, now)


def _refuse_name(
    job: epath.Path, name: str, found: lineage.Receipt, now: lineage.Receipt
) -> NoReturn:
    raise InvalidValueError(
        f"{job} holds checkpoints of {name} {found[name]}; wanted {now[name]}: give "
        f"{now['experiment']} a --job_log_dir of its own"
    )


def _of_tables(document: lineage.Receipt) -> str:
    """The experiment of the tables that one is a variant of."""
    declared = document.get("declared")
    if declared is None:
        return document["experiment"]
    return f"CodeGen{declared['size']['name']}{declared['phase']['name']}"


def _rule(change: Change) -> Rule | None:
    """The rule by which it may change; None if it may not."""
    if group_of(change.path) == HARDWARE:
        return _HARDWARE
    return next(
        (rule for rule in MAY_CHANGE if re.search(rule.pattern, change.path) and rule.fits(change)),
        None,
    )


def _changed(found: lineage.Receipt, now: lineage.Receipt, side: Side) -> list[Change]:
    """What differs of the whole configurations, but for how rows are shared among hosts."""
    if "snapshot" not in found:
        names = ("mixture", "batch_tokens")
        changed = (Change(name, str(found[name]), str(now[name])) for name in names)
        return [change for change in changed if change.old != change.new]
    lines = (*found["snapshot"], *now["snapshot"])
    trained = {made[1] for line in lines if (made := _TRAINED.fullmatch(line))}
    kept = []
    for change in changes(found["snapshot"], side):
        dataset = _DATASET.match(change.path)
        if _BATCH.search(change.path):
            then, since = _rows(found, change.old), _rows(now, change.new)
            if then == since:
                continue
            change = replace(change, old=then, new=since)
        if dataset and dataset[1] not in trained:
            # Evaluated alone: which held-out rows are read says nothing of the weights.
            change = replace(change, path=f"evaluation.{change.path}")
        kept.append(change)
    return kept


def _rows(document: lineage.Receipt, batch_size: str | None) -> str | None:
    """Rows of a batch over all hosts, of those that one reads."""
    if batch_size is None or not batch_size.isdecimal():
        return batch_size
    hosts = document.get("hosts")
    if hosts is None:  # of an older version: the batch of all has as many tokens as it says
        said = dict(line.split(" = ", 1) for line in document["snapshot"] if " = " in line)
        rows, length = (
            said.get(f"input_specs.{name}", "") for name in ("batch_size", "row_length")
        )
        of_one = int(rows) * int(length) if rows.isdecimal() and length.isdecimal() else 0
        hosts = document["batch_tokens"] // of_one if of_one else 1
    return str(int(batch_size) * max(1, hosts))


def _fields(found: lineage.Receipt, now: lineage.Receipt) -> list[dict[str, Any]]:
    """What differs of a lineage's own fields, its software and its code, as `history` has it."""
    plain = [
        {"name": name, "old": found[name], "new": now[name]}
        for name in ("experiment", "class", "steps", "mesh", "hosts")
        if name in found and found[name] != now[name]
    ]
    then = found.get("code", {})
    modules = {**dict.fromkeys(then), **now["code"]}
    codes = [
        {
            "name": f"code of {name}",
            "old": code.describe(then[name]) if name in then else None,
            "new": code.describe(now["code"][name]) if name in now["code"] else None,
        }
        for name in modules
        if then.get(name) != now["code"].get(name)
    ]
    versions = lineage.version_changes(lineage.last_versions(found), now["versions"])
    return plain + codes + versions


def _refusal(job: epath.Path, name: str, refused: Sequence[Change]) -> str:
    said = [
        f"{change.path} was {change.old or 'not set'}, is {change.new or 'not set'}"
        for change in refused[:_MOST_NAMED]
    ]
    if more := len(refused) - len(said):
        said.append(f"and {more:,} more")
    schedule = (
        f" ({SCHEDULE_VARIABLE}={RECEIPT} goes on by the job's schedule, {DECLARED} by the new one)"
        if any(_SCHEDULE_PATHS.match(change.path) for change in refused)
        else ""
    )
    return (
        f"{job} was trained otherwise than {name} is now: {'; '.join(said)}{schedule}. Run it as "
        "it was, or give it a --job_log_dir of its own"
    )
