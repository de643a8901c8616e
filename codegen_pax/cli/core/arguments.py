"""Finds the experiments and the folders of runs that are named on the command line."""

from __future__ import annotations

import argparse
import collections
import importlib
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codegen_pax import messages
from codegen_pax.errors import MissingFileError, UsageError
from codegen_pax.silent_imports import silenced
from experiments.declaration import Declaration, configured, declarations
from experiments.declared import DOOR
from experiments.meshes import parse_mesh
from experiments.recipes import find_recipe
from experiments.settings import Settings, from_environment

if TYPE_CHECKING:  # `list` starts at once, without the modules that read a run
    from etils import epath

    from codegen_pax.runs import lineage


def add_module_argument(parser: argparse.ArgumentParser) -> None:
    """Adds `--module`, which makes a person's own experiments known."""
    parser.add_argument(
        "--module",
        action="append",
        default=[],
        help="also the experiments that this Python module of yours registers (may be repeated)",
    )


def local_folder(text: str) -> Path:
    """Parses an argument that must be a folder on this machine, not a URL."""
    if "://" in text:
        raise argparse.ArgumentTypeError(
            f"{text} is not a folder on this machine; train in object storage with paxml.main "
            "itself, and copy weights from and to it with the storage's own tool"
        )
    return Path(text)


def class_path(declaration: Declaration) -> str:
    """Returns `module.Class` of an experiment, as `paxml.main --exp=` takes it."""
    return f"{declaration.module}.{declaration.name}"


def list_experiments(modules: Sequence[str] = ()) -> dict[str, Declaration]:
    """Lists the experiments of the tables, and those of a person's own modules.

    Args:
        modules: Modules that register experiments. Without any, nothing of Pax is imported.

    Returns:
        Name -> declaration, without the environment's settings. Where several modules have an
        experiment of the same name, the keys are `module.Name`.

    Raises:
        UsageError: There is no such module, or it registers no experiment of this project.
    """
    known = list(declarations())
    for module in dict.fromkeys(modules):
        own = _registered_by(module)
        # The tables also contain the phases that the module has declared.
        known = [one for one in known if class_path(one) not in own] + [*own.values()]
    count = collections.Counter(declaration.name for declaration in known)
    return {
        declaration.name if count[declaration.name] == 1 else class_path(declaration): declaration
        for declaration in known
    }


def lookup_experiment(name: str, known: Mapping[str, Declaration]) -> Declaration | None:
    """Looks up an experiment by its name, with or without its module.

    Returns:
        Its declaration; None if no experiment has that name.

    Raises:
        UsageError: Several modules have an experiment of that name.
    """
    module, _, own_name = name.rpartition(".")
    matches = [declaration for declaration in known.values() if declaration.name == own_name]
    if module:
        matches = [declaration for declaration in matches if declaration.module == module]
    if len(matches) > 1:
        paths = " or ".join(map(class_path, matches))
        raise UsageError(f"several experiments are called {own_name}: expected {paths}")
    return matches[0] if matches else None


def find_experiments(requested: Sequence[str], modules: Sequence[str] = ()) -> list[Declaration]:
    """Finds experiments by their names, with or without their modules.

    Raises:
        UsageError: See `list_experiments` and `lookup_experiment`; or a name is unknown, and the
            message has the nearest ones.
    """
    known = list_experiments(modules)
    matches = []
    for name in requested:
        declaration = lookup_experiment(name, known)
        if declaration is None:
            raise UsageError(messages.unknown("experiment", name, known))
        matches.append(declaration)
    return matches


def _registered_by(module: str) -> dict[str, Declaration]:
    """Imports a module; returns `module.Name` -> declaration of the experiments it registers."""
    with silenced():
        importlib.import_module(DOOR)
    here = os.getcwd()
    # The working directory comes first, as for `python -m paxml.main`. If it is a run's folder,
    # which is data, it comes last, so that no module in it hides another of the same name.
    is_run = os.path.lexists(os.path.join(here, "lineage.json"))
    sys.path.insert(len(sys.path) if is_run else 0, here)
    try:
        with silenced():
            importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module.partition(".")[0] and error.name != module:
            raise
        raise UsageError(f"no module is called {module!r}; looked in {here}") from None
    finally:
        if places := [place for place, path in enumerate(sys.path) if path == here]:
            del sys.path[places[-1 if is_run else 0]]
    from paxml import experiment_registry

    registered = {
        name: cls.DECLARATION
        for name, cls in experiment_registry.get_all().items()
        if cls.__module__ == module and hasattr(cls, "DECLARATION")
    }
    if not registered:
        raise UsageError(
            f"module {module!r} registers no experiment; expected a call of "
            "experiments.registry.declare_phase, or a subclass of a registered experiment"
        )
    return registered


@dataclass(frozen=True)
class Job:
    """A job directory with a checkpoint.

    Attributes:
        directory: The job directory.
        declaration: Its experiment, with the environment's mesh and the recipe of its training.
        receipt: The receipt of the checkpoint or the job; None if neither has one.
        step: The step of the checkpoint.
        settings: The environment's settings, with the mesh and the recipe of `declaration`.
    """

    directory: epath.Path
    declaration: Declaration
    receipt: lineage.Receipt | None
    step: int
    settings: Settings

    @property
    def checkpoint(self) -> epath.Path:
        """The checkpoint's directory."""
        from codegen_pax.runs import checkpoints

        return checkpoints.path(self.directory, self.step)

    def receipt_fields(self) -> dict[str, Any]:
        """Returns the fields of a receipt about the experiment, for a job without a receipt."""
        return {
            "experiment": self.declaration.name,
            "class": class_path(self.declaration),
            "recipe": self.declaration.recipe.name,
            "mesh": str(self.declaration.mesh),
            "mixture": self.declaration.mixture,
            "steps": self.declaration.steps,
            "batch_tokens": self.declaration.batch_tokens,
            "data": [],
        }


def open_job(
    name: str, experiment: str | None, modules: Sequence[str], step: int | None = None
) -> Job:
    """Finds a checkpoint of a job, and the job's experiment.

    Args:
        name: The job directory, local or a URL.
        experiment: The name of its experiment; the one its receipt names if None.
        modules: Modules in which experiments are looked for. One that only the receipt names is
            not imported: a folder is data, and a module is code that runs.
        step: The step of the checkpoint; that of the newest complete one if None.

    Raises:
        FileNotFoundError: There is no such directory, it has no checkpoint, or it has no receipt
            and `experiment` is None.
        UsageError: There is no checkpoint of this step, the experiment or a module is unknown, or
            the receipt names another experiment.
    """
    from etils import epath

    from codegen_pax.runs import checkpoints, lineage

    job = epath.Path(name)
    if not job.is_dir():
        raise MissingFileError(f"{name} is not a directory; expected a run's folder")
    receipt = lineage.read(job)
    if not (experiment or receipt):
        raise MissingFileError(
            f"{name} has no {lineage.FILE}: name its experiment with --experiment"
        )
    declaration = _find_experiment_of(name, experiment, modules, receipt)
    settings = from_environment()
    if receipt:
        own_names = {*lineage.experiment_names(receipt), *_same_network(receipt)}
        if declaration.name not in own_names:
            raise UsageError(
                f"--experiment {experiment}: {name} is a run of {receipt['experiment']}, as its "
                f"{lineage.FILE} says; expected that one, or none given"
            )
        recipe = declaration.recipe
        if recipe.name != receipt["recipe"]:
            recipe = find_recipe(receipt["recipe"])  # the arrays are of this recipe
        # The declared mesh need not fit the batch: the job may have been trained on another.
        mesh = settings.mesh or parse_mesh(receipt["mesh"])
        settings = replace(settings, recipe=recipe, mesh=mesh)
    last = checkpoints.last_step(job)
    if last is None:
        raise MissingFileError(f"{name} has no complete checkpoint under checkpoints/")
    if step is not None and step not in checkpoints.complete_steps(job):
        known = ", ".join(map(str, checkpoints.complete_steps(job)))
        raise UsageError(f"{name} has no checkpoint of step {step}; it has {known}")
    declaration = configured(declaration, settings)
    settings = replace(settings, recipe=declaration.recipe, mesh=declaration.mesh)
    if "://" not in name:
        job = job.resolve()  # Orbax resolves a relative path below the directory of checkpoints
    step = last if step is None else step
    return Job(job, declaration, lineage.of_checkpoint(job, step), step, settings)


def _find_experiment_of(
    job: str, experiment: str | None, modules: Sequence[str], receipt: lineage.Receipt | None
) -> Declaration:
    """Finds the experiment that is asked for, or that a receipt names.

    Raises:
        UsageError: Neither the tables nor `modules` have it.
    """
    from codegen_pax.runs import lineage

    if not receipt:
        return find_experiments([experiment or ""], modules)[0]
    module, _, name = receipt["class"].rpartition(".")
    if experiment and experiment.rpartition(".")[2] != name:
        return find_experiments([experiment], modules)[0]
    if module in ("", DOOR):
        return _of_its_network(job, find_experiments([name])[0], receipt)
    # The module may have been renamed, so any of `modules` will do; but an experiment of the
    # tables with the same name is another one.
    matches = [
        declaration
        for declaration in list_experiments(modules).values()
        if declaration.name == name and declaration.module != DOOR
    ]
    if len(matches) > 1:
        matches = [declaration for declaration in matches if declaration.module == module]
    if matches:
        return matches[0]
    if module in modules or not all(map(str.isidentifier, module.split("."))):
        raise UsageError(f"{job} is a run of {name!r} of {module!r}, which is in no --module given")
    raise UsageError(
        f"{job} is a run of {name!r} of the module {module!r}, as its {lineage.FILE} says: give "
        f"--module {module} if you trust it, since its code will run"
    )


def _of_its_network(job: str, declaration: Declaration, receipt: lineage.Receipt) -> Declaration:
    """Returns the experiment whose network a job of the tables has.

    It is the one that the receipt names, unless the tables have changed since.

    Raises:
        UsageError: No experiment of the phase has that network now.
    """
    same = _same_network(receipt)
    if "declared" not in receipt or declaration.name in same:
        return declaration
    if same:
        return find_experiments(same)[0]
    was, now = receipt["declared"]["size"], declaration.size.values()
    changed = ", ".join(f"{name} {was[name]} (now {now[name]})" for name in _different(was, now))
    if not changed:
        return declaration
    raise UsageError(
        f"{job} was trained with another network than {declaration.name} has: {changed}; expected "
        "--experiment of the same network, with --module if it is your own"
    )


def _same_network(receipt: lineage.Receipt) -> list[str]:
    """Returns the experiments of the tables with the phase and the network of a receipt."""
    if "declared" not in receipt:
        return []
    size, phase = receipt["declared"]["size"], receipt["declared"]["phase"]
    return [
        declaration.name
        for declaration in declarations()
        if declaration.phase.name == phase["name"]
        and declaration.vocabulary == phase.get("vocabulary", declaration.vocabulary)
        and not _different(size, declaration.size.values())
    ]


def _different(was: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Returns the dimensions of the network in which two sizes differ."""
    names = ("layers", "model_dims", "heads", "head_dims", "rotary_dims", "vocab_size")
    return [name for name in names if was.get(name, now[name]) != now[name]]
