"""What a job says of itself in its `lineage.json`: what it runs, on what, from which weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Protocol

import jax
from etils import epath

from codegen_pax.compare import Side, snapshot
from codegen_pax.corpus.origins import origins
from codegen_pax.errors import InvalidValueError
from codegen_pax.weights import lineage
from experiments import start
from experiments.declaration import Declaration
from experiments.recipes import Recipe


class Experiment(Protocol):
    """What of a `CodeGenExperiment` is told."""

    def declaration(self) -> Declaration: ...


def document(
    experiment: Experiment,
    class_name: str,
    parents: list[dict[str, Any]],
    kind: str,
    data: list[dict[str, Any]],
) -> lineage.Document:
    """The lineage of a job, to be written into its directory and its checkpoints.

    Args:
      experiment: what is run.
      class_name: `module.Class` of it, as the stock binary takes it.
      parents: see `codegen_pax.weights.lineage`; none for random weights.
      kind: 'training' or 'import'.
      data: what it reads, as `origins` tells it.
    """
    declaration = experiment.declaration()
    return {
        "format": lineage.FORMAT,
        "kind": kind,
        "experiment": declaration.name,
        "class": class_name,
        "recipe": declaration.recipe.name,
        "recipe_values": _values(declaration.recipe),
        "mesh": str(declaration.mesh),
        "mixture": declaration.mixture,
        "steps": declaration.steps,
        "batch_tokens": declaration.batch_tokens,
        "data": data,
        "parents": parents,
        "versions": lineage.versions(),
        "snapshot": snapshot(Side.of(declaration.name, experiment)).splitlines(),
    }


def keep(job: epath.Path, experiment: Experiment) -> None:
    """Sees to it that a job that is about to train, or to train on, has its lineage.

    A job that resumes keeps the one it has, and notes other versions of the software. One whose
    checkpoint was imported, or made by no run of ours, has that checkpoint as its parent.

    Args:
      job: its directory; made if it is not there.
      experiment: what trains in it.

    Raises:
      ValueError: see `check_resumed`.
    """
    declaration, step = experiment.declaration(), lineage.last_step(job)
    if step is not None:
        check_resumed(job, declaration)
    if jax.process_index() != 0:
        return
    found = lineage.read(job) if step is not None else None
    if found is not None and found["kind"] == "training":
        _note_versions(job, found, step)
        return
    parents = start.parents(declaration) if step is None else [start.parent(job, step)]
    data = origins(declaration.mixture)
    class_name = f"{type(experiment).__module__}.{type(experiment).__name__}"
    lineage.write(job, document(experiment, class_name, parents, "training", data))


def check_resumed(job: epath.Path, declaration: Declaration) -> None:
    """Refuses to go on with another experiment's checkpoints.

    Raises:
      ValueError: the job has the lineage of another experiment or recipe.
    """
    found = lineage.read(job)
    if found is None:
        return
    wanted = {"experiment": declaration.name, "recipe": declaration.recipe.name}
    for key, value in wanted.items():
        if found[key] != value:
            raise InvalidValueError(
                f"{job} holds checkpoints of {key} {found[key]}; wanted {value}: give "
                f"{declaration.name} a --job_log_dir of its own"
            )


def _note_versions(job: epath.Path, found: lineage.Document, step: int) -> None:
    """Adds the software's versions to a lineage, if they are not those it went on with last."""
    now, resumed = lineage.versions(), found.get("resumed", [])
    last = resumed[-1]["versions"] if resumed else found["versions"]
    if now != last:
        lineage.write(job, found | {"resumed": [*resumed, {"step": step, "versions": now}]})


def _values(recipe: Recipe) -> dict[str, Any]:
    values = {field.name: getattr(recipe, field.name) for field in fields(recipe)}
    return {
        name: dict(value) if isinstance(value, Mapping) else value for name, value in values.items()
    }
