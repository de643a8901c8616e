"""The weights a phase starts from: another job's last checkpoint, checked before any training."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from typing import Any

from absl import flags
from etils import epath
from paxml import checkpoint_metadata, checkpoint_paths, tasks_lib
from praxis import base_hyperparams, base_input, base_model, pax_fiddle
from praxis.py_utils import NestedMap

from codegen_pax.weights import lineage
from experiments.declaration import Declaration
from experiments.report import START_VARIABLE

InputSpecs = pax_fiddle.Config[base_input.BaseInputSpecsProvider]
Network = pax_fiddle.Config[base_model.BaseModel]

SCRATCH = "scratch"


def parent_job(
    declaration: Declaration, environment: Mapping[str, str] = os.environ
) -> epath.Path | None:
    """The directory of the job whose weights `declaration` starts from.

    Returns:
      None if no weights are to be loaded: it has no start phase; the environment says 'scratch',
      or says nothing (`check` decides whether that may be); or the stock binary resumes, evaluates
      or decodes, and has weights already.
    """
    named = environment.get(START_VARIABLE, "")
    if declaration.start is None or named in ("", SCRATCH) or has_weights():
        return None
    job = epath.Path(named)
    # Orbax takes a relative path for one below the checkpoints' own directory.
    return job if "://" in named else job.resolve()


def loading_rules(
    job: epath.Path,
    task: pax_fiddle.Config[tasks_lib.SingleTask],
    input_specs: InputSpecs,
) -> dict[str, tasks_lib.CheckpointLoadingRules]:
    """Rules that load every weight of `job`'s last checkpoint, and neither step nor optimizer.

    Args:
      job: the parent's directory.
      task: the child's own task without rules: phases of one size build the same tree.
      input_specs: of the child.
    """
    return {
        str(job / "checkpoints"): tasks_lib.CheckpointLoadingRules(
            task_p=task.clone(),
            load_rules=[(r"(.*)", "{}")],
            safe_load=True,
            # Named, so that what was checked is loaded, though the parent trains on.
            step=start_step(job),
            input_specs_provider_p=input_specs,
        )
    }


def check(
    declaration: Declaration,
    network: Network,
    input_specs: InputSpecs,
    environment: Mapping[str, str] = os.environ,
) -> None:
    """Refuses a start that is missing or does not fit.

    Args:
      declaration: what is about to run.
      network: its model, whose arrays the checkpoint must hold.
      input_specs: of a training batch, to initialise the model with.
      environment: where the start is named.

    Raises:
      ValueError: a real size would begin a later phase from random weights; or the named job has
        no checkpoint, is another experiment's, or holds other arrays than this network.
    """
    if job := parent_job(declaration, environment):
        _check_parent(declaration, job)
        _check_arrays(declaration, job, _network_shapes(network, input_specs))
    elif (
        declaration.start is not None
        and not declaration.size.embedded
        and not environment.get(START_VARIABLE)
        and begins_training()
    ):
        raise ValueError(
            f"{declaration.name} starts from {declaration.start}'s weights: set {START_VARIABLE} "
            f"to that job's directory (found: unset), or to '{SCRATCH}' for random weights"
        )


def begins_training() -> bool:
    """Whether the stock binary is about to train in a directory that has no checkpoint yet."""
    return is_training() and last_step(epath.Path(flags.FLAGS.job_log_dir)) is None


def parents(declaration: Declaration) -> list[dict[str, Any]]:
    """The parents of a job that begins now, as its lineage tells them; none for random weights."""
    job = parent_job(declaration)
    return [parent(job, start_step(job))] if job else []


def parent(job: epath.Path, step: int) -> dict[str, Any]:
    """A checkpoint as the parent of what is trained from it: which it is, and its own lineage.

    Raises:
      FileNotFoundError: it holds no weights.
    """
    checkpoint = job / "checkpoints" / checkpoint_paths.checkpoint_name(step)
    weights = lineage.fingerprint(checkpoint)
    # Its own before the job's: the job may have gone on since with other software.
    of_parent = lineage.read(checkpoint) or lineage.read(job)
    return {
        "kind": "pax",
        "experiment": of_parent and of_parent["experiment"],
        "job": str(job),
        "step": step,
        "sha256": weights["sha256"],
        "bytes": weights["bytes"],
        "lineage": of_parent,
    }


def has_weights() -> bool:
    """Whether this process is the stock binary, doing anything but beginning to train."""
    mode = flags.FLAGS.get_flag_value("mode", None) if flags.FLAGS.is_parsed() else None
    return mode is not None and not begins_training()


def make_job_dir_absolute() -> None:
    """Makes the stock binary's `--job_log_dir` absolute, if this process is that binary.

    Given a relative one, Pax trains and saves, and then cannot restore: Orbax looks for the
    checkpoint below the checkpoints' own directory.
    """
    if flags.FLAGS.is_parsed() and flags.FLAGS.get_flag_value("job_log_dir", None) is not None:
        job = epath.Path(flags.FLAGS.job_log_dir)
        if "://" not in str(job):
            flags.FLAGS.job_log_dir = job.resolve()


def is_training() -> bool:
    """Whether this process is the stock binary, started with `--mode=train`."""
    return flags.FLAGS.is_parsed() and flags.FLAGS.get_flag_value("mode", None) == "train"


@functools.cache
def start_step(job: epath.Path) -> int | None:
    """The step of the checkpoint that this process starts from; None if the parent has none.

    Decided once: what is checked, loaded and told is the same, whatever the parent saves meanwhile.
    """
    return last_step(job)


def last_step(job: epath.Path) -> int | None:
    """The step of the newest whole checkpoint of a job; None without one."""
    newest = last_checkpoint(job)
    return newest and checkpoint_paths.get_step_from_checkpoint_asset(newest)


def last_checkpoint(job: epath.Path) -> epath.Path | None:
    """The directory of the newest whole checkpoint of a job; None without one.

    Every host looks for itself. They must not wait for one another here: one of them may look
    before another has made the directory, and then they would not wait for the same thing.
    """
    directory = job / "checkpoints"
    newest = checkpoint_paths.latest_checkpoint_if_exists(directory)
    return newest and directory / newest.name  # Pax puts a relative directory before itself


def _check_parent(declaration: Declaration, job: epath.Path) -> None:
    if start_step(job) is None:
        raise ValueError(
            f"{declaration.name} starts from {declaration.start}: {START_VARIABLE}={job} holds no "
            f"checkpoint; wanted the directory given to that job as --job_log_dir"
        )
    found = lineage.read(job)
    if found and found["experiment"] != declaration.start:
        raise ValueError(
            f"{declaration.name} starts from {declaration.start}: {START_VARIABLE}={job} holds "
            f"{found['experiment']}; wanted a job of {declaration.start}"
        )


def _check_arrays(
    declaration: Declaration, job: epath.Path, wanted: Mapping[str, tuple[int, ...]]
) -> None:
    step = start_step(job)
    found = _checkpoint_shapes(job, step)
    of_job = lineage.read(job)
    for name in sorted(found.keys() | wanted.keys()):
        if found.get(name) != wanted.get(name):
            raise ValueError(
                f"{declaration.name} starts from {declaration.start}: in checkpoint {step} of "
                f"{job} the array {name} has shape {found.get(name, 'none: it is missing')}; "
                f"wanted {wanted.get(name, 'no such array')} (recipe {declaration.recipe.name}"
                + (f"; the job was trained with {of_job['recipe']})" if of_job else ")")
            )


def _checkpoint_shapes(job: epath.Path, step: int) -> dict[str, tuple[int, ...]]:
    """Array name -> shape, as the checkpoint's own metadata tells it."""
    directory = job / "checkpoints" / checkpoint_paths.checkpoint_name(step)
    state = checkpoint_metadata.restore_metadata(directory)[
        checkpoint_metadata.TRAIN_STATE_METADATA
    ]
    shapes: dict[str, tuple[int, ...]] = {}

    def walk(prefix: str, tree: Mapping) -> None:
        for key, value in tree.items():
            if checkpoint_metadata.ARRAY_METADATA_TAG in value:
                shapes[f"{prefix}{key}"] = tuple(value[checkpoint_metadata.UNPADDED_SHAPE])
            else:
                walk(f"{prefix}{key}.", value)

    walk("", state["mdl_vars"])
    return shapes


def _network_shapes(network: Network, input_specs: InputSpecs) -> dict[str, tuple[int, ...]]:
    """Array name -> shape of the network itself, from shapes alone."""
    model = base_hyperparams.instantiate(network)
    specs = base_hyperparams.instantiate(input_specs)
    arrays = model.abstract_init_with_metadata(specs.get_input_specs())
    return {
        name: (*(hparams.repeat_prefix or []), *hparams.shape)
        for name, hparams in NestedMap.FromNestedDict(arrays).FlattenItems()
    }
