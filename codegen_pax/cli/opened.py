"""A run that a verb was given: its experiment, and the checkpoint that is asked for."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from etils import epath

from codegen_pax.cli.catalogue import DOOR, Entry, catalogue, find
from codegen_pax.cli.facts import Facts
from codegen_pax.errors import MissingFileError, UsageError
from codegen_pax.runs import checkpoints, lineage
from experiments.declaration import MESH_VARIABLE, RECIPE_VARIABLE, Declaration, from_environment


def local_folder(text: str) -> Path:
    """A folder of this machine, for argparse: a conversion writes parts of files in any order."""
    if "://" in text:
        raise argparse.ArgumentTypeError(
            f"{text} is no folder of this machine; copy to and from a bucket by its own tool"
        )
    return Path(text)


@dataclass(frozen=True)
class Run:
    """A job with a checkpoint.

    Attributes:
      job: its directory.
      entry: its experiment, with the environment's mesh and the recipe it was trained by.
      document: its lineage; None if it has none.
      step: of the checkpoint.
    """

    job: epath.Path
    entry: Entry
    document: lineage.Receipt | None
    step: int

    @property
    def declaration(self) -> Declaration:
        return self.entry.declaration

    @property
    def checkpoint(self) -> epath.Path:
        """The checkpoint's directory."""
        return checkpoints.path(self.job, self.step)

    def facts(self) -> Facts:
        """What a lineage says of the experiment, for a job that has none."""
        declaration = self.declaration
        return {
            "experiment": declaration.name,
            "class": f"{self.entry.module}.{self.entry.name}",
            "recipe": declaration.recipe.name,
            "mesh": str(declaration.mesh),
            "mixture": declaration.mixture,
            "steps": declaration.steps,
            "batch_tokens": declaration.batch_tokens,
            "data": [],
        }


def run(name: str, experiment: str | None, modules: Sequence[str], step: int | None = None) -> Run:
    """Opens a job.

    Args:
      name: its directory, local or a URL.
      experiment: of it; what its lineage says if None.
      modules: in which experiments are looked for. What its lineage names is not imported: a
        folder is data, and a module is code that runs.
      step: of the checkpoint; the newest whole one if None.

    Raises:
      FileNotFoundError: there is no such directory, no such checkpoint, or no lineage and no
        `experiment`.
      UsageError: the experiment or a module is unknown, or the lineage tells of another.
    """
    job = epath.Path(name)
    if not job.is_dir():
        raise MissingFileError(f"{name} is no directory; wanted a run's folder")
    document = lineage.read(job)
    if not (experiment or document):
        raise MissingFileError(
            f"{name} has no {lineage.FILE}: name its experiment with --experiment"
        )
    entry = _entry(name, experiment, modules, document)
    environment = dict(os.environ)
    if document:
        if not lineage.experiment_names(document) & {entry.name, entry.declaration.name}:
            raise UsageError(
                f"--experiment {experiment}: {name} is a run of {document['experiment']}, as its "
                f"{lineage.FILE} says; wanted that one, or none given"
            )
        environment.pop(RECIPE_VARIABLE, None)
        if entry.declaration.recipe.name != document["recipe"]:
            environment[RECIPE_VARIABLE] = document["recipe"]  # the network has its arrays
        # The declared mesh need not fit the batch: it may have been trained on another.
        environment[MESH_VARIABLE] = environment.get(MESH_VARIABLE) or document["mesh"]
    last = checkpoints.last_step(job)
    if last is None:
        raise MissingFileError(f"{name} has no whole checkpoint under checkpoints/")
    if step is not None and step not in checkpoints.complete_steps(job):
        known = ", ".join(map(str, checkpoints.complete_steps(job)))
        raise UsageError(f"{name} has no checkpoint of step {step}; it has {known}")
    entry = replace(entry, declaration=from_environment(entry.declaration, environment))
    if "://" not in name:
        job = job.resolve()  # Orbax takes a relative path for one below the checkpoints' own
    step = last if step is None else step
    return Run(job, entry, lineage.of_checkpoint(job, step), step)


def _entry(
    name: str, experiment: str | None, modules: Sequence[str], document: lineage.Receipt | None
) -> Entry:
    """The experiment that is asked for, or that a lineage names, of the tables or of `modules`.

    Raises:
      UsageError: it is in neither.
    """
    if not document:
        return find([experiment], modules)[0]
    module, _, own = document["class"].rpartition(".")
    if experiment and experiment.rpartition(".")[2] != own:
        return find([experiment], modules)[0]
    if module in ("", DOOR):
        return find([own])[0]
    # In a module that may have been renamed, but not the one of the tables that is called so.
    found = [one for one in catalogue(modules).values() if one.name == own and one.module != DOOR]
    if len(found) > 1:
        found = [one for one in found if one.module == module]
    if found:
        return found[0]
    if module in modules or not all(map(str.isidentifier, module.split("."))):
        raise UsageError(f"{name} is a run of {own!r} of {module!r}, which is in no --module given")
    raise UsageError(
        f"{name} is a run of {own!r} of the module {module!r}, as its {lineage.FILE} says: give "
        f"--module {module} if you trust it, since its code will run"
    )
