"""What a job says of itself in its `lineage.json`: what it runs, on what, from which weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Protocol

import jax
from etils import epath

from codegen_pax.compare import Side, snapshot
from codegen_pax.data.mixtures import describe_data
from codegen_pax.environment import code
from codegen_pax.runs import checkpoints, lineage, log
from experiments import resume, start
from experiments.declaration import Declaration, from_environment


class Experiment(Protocol):
    """What of a `CodeGenExperiment` is told."""

    DECLARATION: Declaration

    def declaration(self) -> Declaration: ...


def document(
    experiment: Experiment,
    class_name: str,
    parents: list[dict[str, Any]],
    kind: str,
    data: list[dict[str, Any]],
) -> lineage.Receipt:
    """The lineage of a job, to be written into its directory and its checkpoints.

    Args:
      experiment: what is run.
      class_name: `module.Class` of it, as the stock binary takes it.
      parents: see `codegen_pax.runs.lineage`; none for random weights.
      kind: 'training' or 'import'.
      data: what it reads, as `describe_data` gives it.
    """
    side = Side.of(experiment.declaration().name, experiment)
    return _document(experiment, side, class_name) | {
        "kind": kind,
        "data": data,
        "parents": parents,
    }


def _document(experiment: Experiment, side: Side, class_name: str) -> lineage.Receipt:
    """What a lineage says of an experiment and of the code that runs it."""
    declaration = experiment.declaration()
    module = class_name.rpartition(".")[0]
    own = code.of_module(module)
    return {
        "format": lineage.FORMAT,
        "experiment": declaration.name,
        "class": class_name,
        "recipe": declaration.recipe.name,
        "recipe_values": _values(declaration.recipe),
        "mesh": str(declaration.mesh),
        "hosts": jax.process_count(),
        "mixture": declaration.mixture,
        "steps": side.parts["task"].train.num_train_steps,
        "batch_tokens": declaration.batch_tokens,
        "declared": _declared(declaration, experiment.DECLARATION.by_hand),
        "versions": lineage.versions(),
        "code": {code.PROJECT: code.of_project()} | ({module: own} if own else {}),
        "snapshot": snapshot(side).splitlines(),
    }


def keep(job: epath.Path, experiment: Experiment) -> None:
    """Sees to it that a job that is about to train, or to train on, has its lineage.

    A job that resumes has that of the checkpoint that it goes on from, with what has changed since
    in its `history`. One whose checkpoint was imported, or made by no run of ours, has that
    checkpoint as its parent.

    Args:
      job: its directory; made if it is not there.
      experiment: what trains in it.

    Raises:
      ValueError: see `resume.check`.
    """
    declaration, step = experiment.declaration(), checkpoints.last_step(job)
    class_name = f"{type(experiment).__module__}.{type(experiment).__name__}"
    side = Side.of(declaration.name, experiment)
    now = _document(experiment, side, class_name)
    found = lineage.of_checkpoint(job, step) if step is not None else None
    changes = resume.check(job, step, found, now, side) if found else []
    if jax.process_index() != 0:
        return
    if found and found["kind"] == "training":
        own = from_environment(experiment.DECLARATION)
        if any(getattr(own, name) != getattr(declaration, name) for name in resume.SCHEDULE):
            log.info(
                "the schedule is that of %s; %s=%s takes the one that is declared now",
                job,
                resume.SCHEDULE_VARIABLE,
                resume.DECLARED,
            )
        _go_on(job, step, found, now, changes)
        return
    parents = start.parents(declaration) if step is None else [start.parent(job, step)]
    lineage.write(
        job,
        now | {"kind": "training", "data": describe_data(declaration.mixture), "parents": parents},
    )


def _go_on(
    job: epath.Path,
    step: int,
    found: lineage.Receipt,
    now: lineage.Receipt,
    changes: list[dict[str, Any]],
) -> None:
    """Gives a job that resumes the lineage of its checkpoint, and what has changed since."""
    if step >= now["steps"]:
        return  # nothing is trained
    if "declared" not in found:
        log.info("%s has an older receipt, which says nothing of its code and its hosts", job)
    for change in changes:
        old, new = (
            "not recorded" if change[key] is None else change[key] for key in ("old", "new")
        )
        log.info("from step %s on %s: %s -> %s", f"{step:,}", change["name"], old, new)
    if changes:
        history = [*lineage.history(found), {"step": step, "changes": changes}]
        found = found | now | {"history": history}
        found.pop("resumed", None)
    if lineage.read(job) != found:
        lineage.write(job, found)


def _declared(declaration: Declaration, by_hand: Mapping[str, Any]) -> dict[str, Any]:
    """The experiment in plain values; what is by recipe, mesh and mixture is told beside them."""
    size, phase = declaration.size, declaration.phase
    numbers = ("batch_rows", "micro_batch_rows", "steps", *resume.SCHEDULE)
    return {
        "size": _values(size),
        "phase": {
            "name": phase.name,
            "start": phase.start,
            "languages": list(phase.languages),
            "vocabulary": phase.vocabulary,
            "loss_on": phase.loss_on,
            "packing": phase.packing,
        },
        "row_length": declaration.row_length,
        **{name: getattr(declaration, name) for name in numbers},
        "by_hand": dict(by_hand),
    }


def _values(row: Any) -> dict[str, Any]:
    values = {field.name: getattr(row, field.name) for field in fields(row)}
    return {
        name: dict(value) if isinstance(value, Mapping) else value for name, value in values.items()
    }
