"""Writes the receipt of a job: its experiment, data, code and start weights.

`codegen_pax.runs.lineage` defines receipts (`lineage.json`) and reads them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Protocol

import jax
from etils import epath

from codegen_pax.compare import ExperimentConfig, snapshot
from codegen_pax.data.mixtures import describe_data
from codegen_pax.environment import code
from codegen_pax.runs import checkpoints, lineage, log
from experiments import resume, start
from experiments.declaration import Declaration, configured
from experiments.recipes import Recipe
from experiments.settings import VARIABLES, Schedule, Settings
from experiments.sizes import SIZES
from experiments.start import StartCheckpoint


class Experiment(Protocol):
    """The parts of a `CodeGenExperiment` that a receipt records."""

    DECLARATION: Declaration
    settings: Settings
    start: StartCheckpoint | None

    def declaration(self) -> Declaration:
        """Returns the declaration of what is run."""


def document(
    experiment: Experiment,
    class_name: str,
    parents: list[dict[str, Any]],
    kind: str,
    data: list[dict[str, Any]],
) -> lineage.Receipt:
    """Returns the receipt of a job, to be written into its directory and its checkpoints.

    Args:
        experiment: The experiment that is run.
        class_name: The experiment's `module.Class`, as the stock binary takes it.
        parents: See `codegen_pax.runs.lineage`; empty for random weights.
        kind: 'training' or 'import'.
        data: The data that the job reads, as `describe_data` returns it.
    """
    side = ExperimentConfig.of(experiment.declaration().name, experiment)
    return _document(experiment, side, class_name) | {
        "kind": kind,
        "data": data,
        "parents": parents,
    }


def _document(experiment: Experiment, side: ExperimentConfig, class_name: str) -> lineage.Receipt:
    """Returns the part of a receipt that describes the experiment and its code."""
    declaration = experiment.declaration()
    module = class_name.rpartition(".")[0]
    own = code.of_module(module)
    task: Any = side.sections["task"]
    return {
        "format": lineage.FORMAT,
        "experiment": declaration.name,
        "class": class_name,
        "recipe": declaration.recipe.name,
        "recipe_values": _recipe_values(declaration.recipe),
        "mesh": str(declaration.mesh),
        "hosts": jax.process_count(),
        "mixture": declaration.mixture,
        "steps": task.train.num_train_steps,
        "batch_tokens": declaration.batch_tokens,
        "declared": _declared(declaration, experiment.DECLARATION.by_hand),
        "versions": lineage.versions(),
        "code": {code.PROJECT: code.of_project()} | ({module: own} if own else {}),
        "snapshot": snapshot(side).splitlines(),
    }


def keep(job: epath.Path, experiment: Experiment) -> None:
    """Writes the receipt of a job that is about to train or to resume.

    A job that resumes gets the receipt of the checkpoint from which it resumes, with the changes
    since then in its `history`. If that checkpoint was imported, or was not saved by a run of this
    project, the job gets a new receipt with the checkpoint as its parent.

    Args:
        job: The job directory; made if it does not exist.
        experiment: The experiment that trains in it.

    Raises:
        ValueError: See `resume.check`.
    """
    declaration, step = experiment.declaration(), checkpoints.last_step(job)
    class_name = f"{type(experiment).__module__}.{type(experiment).__name__}"
    side = ExperimentConfig.of(declaration.name, experiment)
    new = _document(experiment, side, class_name)
    old = lineage.of_checkpoint(job, step) if step is not None else None
    schedule = experiment.settings.schedule
    changes = resume.check(job, step, old, new, side, schedule) if old and step is not None else []
    if jax.process_index() != 0:
        return
    if old and old["kind"] == "training" and step is not None:
        declared = configured(experiment.DECLARATION, experiment.settings)
        if any(getattr(declared, name) != getattr(declaration, name) for name in resume.SCHEDULE):
            log.info(
                "the schedule is that of %s; %s=%s takes the one that is declared now",
                job,
                VARIABLES["schedule"].name,
                Schedule.DECLARED,
            )
        _resume(job, step, old, new, changes)
        return
    origin = experiment.start if step is None else StartCheckpoint(job, step)
    parents = [start.parent(origin)] if origin else []
    data = describe_data(declaration.mixture)
    lineage.write(job, new | {"kind": "training", "data": data, "parents": parents})


def _resume(
    job: epath.Path,
    step: int,
    old: lineage.Receipt,
    new: lineage.Receipt,
    changes: list[dict[str, Any]],
) -> None:
    """Gives a job that resumes the receipt of its checkpoint, with the changes since then."""
    if step >= new["steps"]:
        return  # nothing is trained
    if "declared" not in old:
        log.info("%s has an older receipt, which says nothing of its code and its hosts", job)
    for change in changes:
        before, after = (
            "not recorded" if change[key] is None else change[key] for key in ("old", "new")
        )
        log.info("from step %s on %s: %s -> %s", f"{step:,}", change["name"], before, after)
    if changes:
        history = [*lineage.history(old), {"step": step, "changes": changes}]
        old = old | new | {"history": history}
        old.pop("resumed", None)
    if lineage.read(job) != old:
        lineage.write(job, old)


def _declared(declaration: Declaration, by_hand: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the experiment in plain values, without recipe, mesh and mixture."""
    phase = declaration.phase
    numbers = ("batch_rows", "micro_batch_rows", "steps", *resume.SCHEDULE)
    return {
        "size": declaration.size.values(),
        "phase": {
            "name": phase.name,
            "start": phase.start,
            "languages": list(phase.languages),
            "vocabulary": declaration.vocabulary,
            "loss_on": phase.loss_on,
            "packing": phase.packing,
        },
        "row_length": declaration.row_length,
        **{name: getattr(declaration, name) for name in numbers},
        "by_hand": dict(by_hand),
    }


def _recipe_values(recipe: Recipe) -> dict[str, Any]:
    """Returns a recipe in plain values, with the batch of every size."""
    values = {field.name: getattr(recipe, field.name) for field in fields(recipe)}
    batch = values.pop("batch")
    batches = {size.name: size.batch_tokens[batch] for size in SIZES.values()}
    return {"name": values.pop("name"), "batch_tokens": batches, **values}
