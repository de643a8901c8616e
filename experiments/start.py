"""The weights a phase starts from: another job's last checkpoint.

Which it is, is known without Pax: nothing of it is imported before it is needed.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from absl import flags
from etils import epath

from codegen_pax.errors import InvalidValueError
from codegen_pax.runs import checkpoints, lineage
from experiments.declaration import Declaration
from experiments.report import SCRATCH, START_VARIABLE

if TYPE_CHECKING:
    from paxml import tasks_lib
    from praxis import base_input, base_model, pax_fiddle

    InputSpecs = pax_fiddle.Config[base_input.BaseInputSpecsProvider]
    Network = pax_fiddle.Config[base_model.BaseModel]


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
    from paxml import tasks_lib

    return {
        str(checkpoints.directory(job)): tasks_lib.CheckpointLoadingRules(
            task_p=task.clone(),
            load_rules=[(r"(.*)", "{}")],
            safe_load=True,
            # Named, so that what was checked is loaded, though the parent trains on.
            step=start_step(job),
            input_specs_provider_p=input_specs,
        )
    }


def check(
    declaration: Declaration, *, begins: bool, environment: Mapping[str, str] = os.environ
) -> str:
    """Refuses a start that is missing; what its arrays are is not looked at.

    Args:
      declaration: what is about to run.
      begins: whether it trains, and has no checkpoint yet.
      environment: where the start is named.

    Returns:
      What the weights are, in words.

    Raises:
      ValueError: a real size would begin a later phase from random weights; or the named job has
        no checkpoint, or is another experiment's.
    """
    if job := parent_job(declaration, environment):
        check_parent(declaration, job)
        return f"step {start_step(job):,} of {job}"
    if has_weights():
        return "its own"
    if (
        declaration.start is not None
        and not declaration.size.embedded
        and not environment.get(START_VARIABLE)
        and begins
    ):
        raise InvalidValueError(
            f"{declaration.name} starts from {declaration.start}'s weights: set {START_VARIABLE} "
            f"to that job's directory (found: unset), or to '{SCRATCH}' for random weights"
        )
    return "random"


def begins_training() -> bool:
    """Whether the stock binary is about to train in a directory that has no checkpoint yet."""
    return is_training() and checkpoints.last_step(flags.FLAGS.job_log_dir) is None


def parents(declaration: Declaration) -> list[dict[str, Any]]:
    """The parents of a job that begins now, as its lineage tells them; none for random weights.

    Raises:
      FileNotFoundError: the start's checkpoint holds no weights.
    """
    job = parent_job(declaration)
    return [parent(job, start_step(job))] if job else []


def parent(job: epath.Path, step: int) -> dict[str, Any]:
    """A checkpoint as a parent. Raises FileNotFoundError if it holds no weights."""
    return lineage.parent(job, step, lineage.fingerprint(checkpoints.path(job, step)))


def check_restored(declaration: Declaration) -> None:
    """Refuses a damaged checkpoint before the stock binary restores anything from it.

    The one that it resumes, evaluates or decodes, or the start's.

    Raises:
      ValueError: a file is missing, or has another size than was saved; raised on every host.
    """
    from codegen_pax.runs import verification

    if job := parent_job(declaration):
        verification.check_restored(
            checkpoints.path(job, start_step(job)), verification.WEIGHT_FILES
        )
        return
    if not (flags.FLAGS.is_parsed() and flags.FLAGS.get_flag_value("mode", None)):
        return
    # Flags of decoding: `<job>/checkpoints`, and steps.
    named = flags.FLAGS.get_flag_value("restore_checkpoint_dir", None)
    job = epath.Path(named).parent if named else epath.Path(flags.FLAGS.job_log_dir)
    chosen = flags.FLAGS.get_flag_value("restore_checkpoint_step", None)
    for step in chosen or [checkpoints.last_step(job)]:
        verification.check_restored(None if step is None else checkpoints.path(job, int(step)))


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
    return checkpoints.last_step(job)


def check_parent(declaration: Declaration, job: epath.Path) -> None:
    """Raises ValueError if a job has no checkpoint, or is not of the phase before."""
    if start_step(job) is None:
        raise InvalidValueError(
            f"{declaration.name} starts from {declaration.start}: {START_VARIABLE}={job} holds no "
            f"checkpoint; wanted the directory given to that job as --job_log_dir"
        )
    found = lineage.read(job)
    if found and declaration.start not in {found["class"], *lineage.experiment_names(found)}:
        raise InvalidValueError(
            f"{declaration.name} starts from {declaration.start}: {START_VARIABLE}={job} holds "
            f"{found['experiment']}; wanted a job of {declaration.start} (an experiment of your "
            f"own may declare start={found['experiment']!r})"
        )


def check_arrays(
    declaration: Declaration, job: epath.Path, network: Network, input_specs: InputSpecs
) -> None:
    """Refuses a start whose arrays are other than the network's.

    Args:
      declaration: what is about to run.
      job: the parent's directory, which has a checkpoint.
      network: the model, whose arrays the checkpoint must hold.
      input_specs: of a training batch, to initialise the model with.

    Raises:
      ValueError: an array is missing, or too much, or of another shape.
    """
    wanted = _network_shapes(network, input_specs)
    step = start_step(job)
    found = checkpoints.weight_shapes(checkpoints.path(job, step))
    of_job = lineage.read(job)
    for name in sorted(found.keys() | wanted.keys()):
        if found.get(name) != wanted.get(name):
            raise InvalidValueError(
                f"{declaration.name} starts from {declaration.start}: in checkpoint {step} of "
                f"{job} the array {name} has shape {found.get(name, 'none: it is missing')}; "
                f"wanted {wanted.get(name, 'no such array')} (recipe {declaration.recipe.name}"
                + (f"; the job was trained with {of_job['recipe']})" if of_job else ")")
            )


def _network_shapes(network: Network, input_specs: InputSpecs) -> dict[str, tuple[int, ...]]:
    """Array name -> shape of the network itself, from shapes alone."""
    from praxis import base_hyperparams
    from praxis.py_utils import NestedMap

    model = base_hyperparams.instantiate(network)
    specs = base_hyperparams.instantiate(input_specs)
    arrays = model.abstract_init_with_metadata(specs.get_input_specs())
    return {
        name: (*(hparams.repeat_prefix or []), *hparams.shape)
        for name, hparams in NestedMap.FromNestedDict(arrays).FlattenItems()
    }
