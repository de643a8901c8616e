"""What can be known of a run before it starts, checked in order of cost. Nothing is written.

The stock binary asks an experiment to `validate` itself when JAX has its devices, and before it
makes the job's directory or a network. `check` is that, for anybody: each check takes a `Plan`,
raises a UserError that says what to mend, or returns what it found in a few words.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import jax
import numpy as np
from absl import flags
from etils import epath
from jax.experimental import multihost_utils
from paxml import tasks_lib
from praxis import base_input, pax_fiddle, py_utils

from codegen_pax import model
from codegen_pax.errors import InvalidValueError, MissingFileError, UserError
from codegen_pax.names import counted
from codegen_pax.runs import checkpoints, data_checks, log
from experiments import start
from experiments.declaration import MESH_VARIABLE, Declaration, from_environment
from experiments.report import START_VARIABLE

Inputs = Sequence[pax_fiddle.Config[base_input.BaseInput]]
T = TypeVar("T")

_NONE = -1  # among steps that are gathered from hosts


class Experiment(Protocol):
    """What of a `CodeGenExperiment` is looked at."""

    DECLARATION: Declaration

    def declaration(self) -> Declaration: ...
    def datasets(self) -> Inputs: ...
    def decode_datasets(self) -> Inputs: ...
    def network(self) -> pax_fiddle.Config[model.CodeGenModel]: ...
    def task(self) -> pax_fiddle.Config[tasks_lib.SingleTask]: ...
    def get_input_specs_provider_params(
        self,
    ) -> pax_fiddle.Config[base_input.BaseInputSpecsProvider]: ...


@dataclass(frozen=True)
class Plan:
    """What is about to run, and where.

    Attributes:
      experiment: what is run.
      job: the run's folder; None where nothing is run, and only the experiment is looked at.
      trains, evaluates, decodes, saves: what of it is done.
      needs_checkpoint: it decodes what the folder has, once.
      devices, hosts: that there are; None where that is not known.
    """

    experiment: Experiment
    job: epath.Path | None = None
    trains: bool = False
    evaluates: bool = False
    decodes: bool = False
    saves: bool = False
    needs_checkpoint: bool = False
    devices: int | None = None
    hosts: int = 1

    @property
    def name(self) -> str:
        return type(self.experiment).__name__

    def declaration(self) -> Declaration:
        """Raises ValueError, naming the variable, if the environment's mesh does not fit."""
        return self.experiment.declaration()


def plan_of(experiment: Experiment) -> Plan:
    """What the stock binary is about to do, by its flags; without them, nothing."""
    found = flags.FLAGS
    mode = found.get_flag_value("mode", None) if found.is_parsed() else None
    if mode is None:
        return Plan(experiment)
    trains, decodes = mode == "train", mode in ("decode", "decode_once")
    return Plan(
        experiment,
        job=epath.Path(found.job_log_dir),
        trains=trains,
        evaluates=mode == "eval"
        or (trains and found.eval_on_test)
        or (decodes and found.eval_during_decode),
        decodes=decodes or (trains and found.decode_during_train),
        saves=trains and found.enable_checkpoint_saving,
        needs_checkpoint=mode == "decode_once" and found.restore_checkpoint_dir is None,
        devices=jax.device_count(),
        hosts=jax.process_count(),
    )


def check(plan: Plan) -> list[str]:
    """Checks everything on this host, the cheapest first.

    Returns:
      What was found, a few words of each check that had something to look at.

    Raises:
      UserError: the first thing that is wrong.
    """
    return [found for one in CHECKS if (found := one(plan))]


@contextlib.contextmanager
def before_a_run(experiment: Experiment) -> Iterator[None]:
    """Checks what the stock binary is about to do, on all of its hosts.

    The block does what comes last, and may raise too; after it one line says that all is well.

    Raises:
      UserError: something is wrong here or on another host: then all hosts raise one.
    """
    plan = plan_of(experiment)
    if plan.job is not None:
        log.configure()
    found = together(lambda: check(plan))
    if plan.trains:
        _check_hosts_start(plan)
    start.check_restored(plan.declaration())
    yield
    if plan.job is not None:
        log.info("%s is checked, and all is well: %s", plan.name, "; ".join(found))


def together(work: Callable[[], T]) -> T:
    """Does some work on every host; if it fails on one of them, all of them stop.

    Raises:
      UserError: it has failed on another host, which says why.
    """
    if jax.process_count() == 1:
        return work()
    failure: BaseException | None = None
    result = None
    try:
        result = work()
    except BaseException as error:
        failure = error
    failed = multihost_utils.process_allgather(np.int32(failure is not None))
    if failure is not None:
        raise failure
    if others := np.flatnonzero(failed).tolist():
        raise InvalidValueError(
            f"stopped with {'host' if len(others) == 1 else 'hosts'} "
            f"{', '.join(map(str, others))} of {len(failed)}, counted from 0, where something is "
            "wrong: the log there says what"
        )
    return result


def _check_settings(plan: Plan) -> str:
    """The environment's settings, the names of tasks, and the batch against mesh and hosts."""
    declaration = plan.declaration()
    if plan.job is None:
        return ""
    plan.experiment.datasets()
    if plan.decodes:
        plan.experiment.decode_datasets()
    return (
        f"{counted(declaration.batch_rows, 'row')} a step in "
        f"{counted(declaration.accumulation_steps, 'micro-batch')} of "
        f"{declaration.micro_batch_rows:,}"
    )


def _check_folder(plan: Plan) -> str:
    if plan.job is None:
        return ""
    if plan.needs_checkpoint and checkpoints.last_step(plan.job) is None:
        raise MissingFileError(f"{plan.job} holds no checkpoint to decode")
    if plan.trains:
        checkpoints.check_writable(plan.job)
    return ""


def _check_mesh(plan: Plan) -> str:
    """The mesh against the devices that there are, as Pax puts them together."""
    network = plan.experiment.network()
    shape, slices = network.ici_mesh_shape, network.dcn_mesh_shape or ()
    if plan.devices is None or shape is None:
        return ""
    wanted = math.prod(shape) * math.prod(slices)
    kind = jax.devices()[0].platform
    there = counted(plan.devices, f"{kind} device")
    named = os.environ.get(MESH_VARIABLE)
    mesh = f"{MESH_VARIABLE}={named}" if named else f"the mesh {'x'.join(map(str, shape))}"
    if wanted != plan.devices:
        other = _fitting_mesh(plan)
        raise InvalidValueError(
            f"{plan.name}: {mesh} [replica x data x mdl] takes {counted(wanted, 'device')}; "
            f"found {there}: "
            + (f"set {MESH_VARIABLE}={other}, or " if other else "")
            + f"start it where there {'is' if wanted == 1 else 'are'} {wanted:,}"
        )
    try:
        py_utils.create_device_mesh(shape, network.dcn_mesh_shape, network.contiguous_submeshes)
    except (ValueError, AssertionError, NotImplementedError) as error:
        raise InvalidValueError(
            f"{plan.name}: {mesh} cannot be laid over {there}: {error}; set another {MESH_VARIABLE}"
        ) from error
    return f"mesh {'x'.join(map(str, shape))} on {there}"


def _fitting_mesh(plan: Plan) -> str | None:
    """A mesh for the devices that there are, the narrowest along `mdl` that fits."""
    for parts in range(1, plan.devices + 1):
        if plan.devices % parts == 0:
            text = f"1x{plan.devices // parts}x{parts}"
            try:
                from_environment(
                    plan.experiment.DECLARATION, dict(os.environ) | {MESH_VARIABLE: text}
                )
            except UserError:
                continue
            return text
    return None


def _check_start(plan: Plan) -> str:
    """That the weights to start from are there."""
    return f"weights {start.check(plan.declaration(), begins=start.begins_training())}"


def _check_training_data(plan: Plan) -> str:
    if not plan.trains:
        return ""
    return "; ".join(
        f"trains on {data_checks.check_training(one.mixture_name, _row_length(one))}"
        for one in plan.experiment.datasets()
        if one.is_training and _is_ours(one)
    )


def _check_evaluation_data(plan: Plan) -> str:
    if not plan.evaluates:
        return "is not evaluated (no --eval_on_test)" if plan.trains else ""
    said = []
    for one in plan.experiment.datasets():
        if one.is_training or not _is_ours(one):
            continue
        found = data_checks.check_evaluation(one.mixture_name, _row_length(one))
        for task in found.empty:
            log.warning("%s has no row to evaluate on: it is not in %s", task, one.name)
        said.append(f"evaluates on {found}")
    return "; ".join(said)


def _is_ours(dataset: pax_fiddle.Config[base_input.BaseInput]) -> bool:
    """Whether it reads a task of seqio's; an input of a person's own may read anything."""
    return hasattr(dataset, "mixture_name")


def _row_length(dataset: pax_fiddle.Config[base_input.BaseInput]) -> int:
    if hasattr(dataset, "row_length"):
        return dataset.row_length
    return max(dataset.task_feature_lengths.values())


def _check_prompts(plan: Plan) -> str:
    if not plan.decodes:
        return ""
    return "; ".join(
        f"decodes {counted(count, 'prompt')} of {one.mixture_name}"
        for one in plan.experiment.decode_datasets()
        if _is_ours(one)
        and (
            count := data_checks.check_prompts(one.mixture_name, one.task_feature_lengths["inputs"])
        )
    )


def _check_disk(plan: Plan) -> str:
    """Room for the checkpoints to come."""
    if not plan.saves:
        return ""
    train = plan.experiment.task().train
    return checkpoints.check_room(
        plan.job,
        parameters=plan.declaration().parameters,
        steps=int(train.num_train_steps),
        interval=train.save_interval_steps,
        max_to_keep=train.save_max_to_keep,
    )


def _check_arrays(plan: Plan) -> str:
    """That the weights to start from fit; the network is made for it, but in shapes alone."""
    experiment, declaration = plan.experiment, plan.declaration()
    if not (job := start.parent_job(declaration)):
        return ""
    start.check_arrays(
        declaration, job, experiment.network(), experiment.get_input_specs_provider_params()
    )
    return "its arrays fit"


CHECKS: tuple[Callable[[Plan], str], ...] = (
    _check_settings,
    _check_folder,
    _check_mesh,
    _check_start,
    _check_disk,
    _check_training_data,
    _check_evaluation_data,
    _check_prompts,
    _check_arrays,
)


def _check_hosts_start(plan: Plan) -> None:
    """Raises ValueError, on every host, unless all start from the checkpoint of one step, or none.

    Each has looked for itself, and the parent may have saved another meanwhile.
    """
    if jax.process_count() == 1:
        return
    job = start.parent_job(plan.declaration())
    step = start.start_step(job) if job else None
    found = multihost_utils.process_allgather(np.int32(_NONE if step is None else step)).tolist()
    if len({*found}) > 1:
        said = ["none" if step == _NONE else f"step {step:,}" for step in found]
        raise InvalidValueError(
            f"{plan.name}: the hosts, in order, found as the checkpoint to start from "
            f"{', '.join(said)}; wanted the same {START_VARIABLE} on each, and a job that saves no "
            "more"
        )
