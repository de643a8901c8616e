"""Checks of a run before it starts, the cheapest first. They write nothing.

The stock binary calls an experiment's `validate` after JAX has found its devices, and before it
makes the job directory or a network. `check` makes the same checks in any process. Each check takes
a `Plan`, and raises a UserError that says what to correct or returns its result in a few words.
`opening_lines` returns what a run logs before its first step.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils
from paxml import tasks_lib
from praxis import base_input, pax_fiddle, py_utils

from codegen_pax import model
from codegen_pax.data.stream.training import TrainingRows
from codegen_pax.errors import InvalidValueError, MissingFileError, UserError
from codegen_pax.messages import counted
from codegen_pax.runs import checkpoints, data_checks, lineage, log
from experiments import start
from experiments.declaration import Declaration, configured
from experiments.meshes import parse_mesh
from experiments.settings import VARIABLES, Settings
from experiments.start import Run, StartCheckpoint

Inputs = Sequence[pax_fiddle.Config[base_input.BaseInput]]
T = TypeVar("T")

_MESH = VARIABLES["mesh"].name
_NO_STEP = -1  # stands for None among the steps gathered from hosts


class Experiment(Protocol):
    """The parts of a `CodeGenExperiment` that are checked."""

    DECLARATION: Declaration
    settings: Settings
    run: Run
    start: StartCheckpoint | None

    def declaration(self) -> Declaration:
        """Returns the declaration of what is run."""

    def datasets(self) -> Inputs:
        """Returns the inputs of training and evaluation."""

    def decode_datasets(self) -> Inputs:
        """Returns the prompts."""

    def network(self) -> pax_fiddle.Config[model.CodeGenModel]:
        """Returns the model."""

    def task(self) -> pax_fiddle.Config[tasks_lib.SingleTask]:
        """Returns the task."""

    def get_input_specs_provider_params(
        self,
    ) -> pax_fiddle.Config[base_input.BaseInputSpecsProvider]:
        """Returns the shapes of a training batch."""


@dataclass(frozen=True)
class Plan:
    """What is about to run, and where.

    Attributes:
        experiment: The experiment; `experiment.run` says whether it trains, evaluates or decodes.
        devices: The number of devices; None if it is unknown.
    """

    experiment: Experiment
    devices: int | None = None

    @property
    def name(self) -> str:
        """The name of the experiment."""
        return type(self.experiment).__name__

    @property
    def run(self) -> Run:
        """What the stock binary is about to do."""
        return self.experiment.run

    def declaration(self) -> Declaration:
        """Returns the declaration of what is run."""
        return self.experiment.declaration()


def check(plan: Plan) -> list[str]:
    """Checks everything on this host, the cheapest first.

    Returns:
        The results, a few words for each check that applies.

    Raises:
        UserError: A check fails; the checks after it are not made.
    """
    return [words for one in CHECKS if (words := one(plan))]


@contextlib.contextmanager
def before_a_run(experiment: Experiment) -> Iterator[None]:
    """Checks what the stock binary is about to do, on all of its hosts.

    The block of the `with` statement makes the last checks, and may raise too. After it, one log
    line says that all is well.

    Raises:
        UserError: A check fails on this host or on another; then all hosts raise one.
    """
    run = experiment.run
    plan = Plan(experiment, None if run.job is None else jax.device_count())
    results = together(lambda: check(plan))
    if run.trains:
        check_hosts_start(experiment)
    start.check_restored(run, experiment.start)
    yield
    if run.job is not None:
        log.info("%s is checked, and all is well: %s", plan.name, "; ".join(results))


def together(function: Callable[[], T]) -> T:
    """Calls a function on every host; if it fails on one of them, all of them raise.

    Raises:
        UserError: The function has failed on another host, whose log says why.
    """
    if jax.process_count() == 1:
        return function()
    failure: BaseException | None = None
    try:
        result = function()
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


def _check_batch(plan: Plan) -> str:
    """Checks that the tasks exist, and that mesh and hosts divide the batch."""
    if plan.run.job is None:
        return ""
    declaration = plan.declaration()
    plan.experiment.datasets()
    if plan.run.decodes:
        plan.experiment.decode_datasets()
    return (
        f"{counted(declaration.batch_rows, 'row')} a step in "
        f"{counted(declaration.accumulation_steps, 'micro-batch')} of "
        f"{declaration.micro_batch_rows:,}"
    )


def _check_folder(plan: Plan) -> str:
    job = plan.run.job
    if job is None:
        return ""
    if plan.run.needs_checkpoint and plan.run.step is None:
        raise MissingFileError(f"{job} holds no checkpoint to decode")
    if plan.run.trains:
        checkpoints.check_writable(job)
    return ""


def _check_mesh(plan: Plan) -> str:
    """Checks that Pax can lay the mesh over the devices."""
    network = plan.experiment.network()
    shape, slices = network.ici_mesh_shape, network.dcn_mesh_shape or ()
    if plan.devices is None or shape is None:
        return ""
    needed = math.prod(shape) * math.prod(slices)
    devices = counted(plan.devices, f"{jax.devices()[0].platform} device")
    own = plan.experiment.settings.mesh
    mesh = f"{_MESH}={own}" if own else f"the mesh {'x'.join(map(str, shape))}"
    if needed != plan.devices:
        other = _fitting_mesh(plan, plan.devices)
        raise InvalidValueError(
            f"{plan.name}: {mesh} [replica x data x mdl] takes {counted(needed, 'device')}; "
            f"found {devices}: "
            + (f"set {_MESH}={other}, or " if other else "")
            + f"start it where there {'is' if needed == 1 else 'are'} {needed:,}"
        )
    try:
        py_utils.create_device_mesh(shape, network.dcn_mesh_shape, network.contiguous_submeshes)
    except (ValueError, AssertionError, NotImplementedError) as error:
        raise InvalidValueError(
            f"{plan.name}: {mesh} cannot be laid over {devices}: {error}; set another {_MESH}"
        ) from error
    return f"mesh {'x'.join(map(str, shape))} on {devices}"


def _fitting_mesh(plan: Plan, devices: int) -> str | None:
    """Returns the mesh of this many devices that is narrowest along `mdl`; None if none fits."""
    experiment = plan.experiment
    for parts in range(1, devices + 1):
        if devices % parts == 0:
            mesh = parse_mesh(f"1x{devices // parts}x{parts}")
            try:
                configured(
                    experiment.DECLARATION, dataclasses.replace(experiment.settings, mesh=mesh)
                )
            except UserError:
                continue
            return str(mesh)
    return None


def _check_start(plan: Plan) -> str:
    """Checks that the weights to start from exist."""
    experiment = plan.experiment
    weights = start.check(plan.declaration(), experiment.settings, plan.run, experiment.start)
    return f"weights {weights}"


def _check_training_data(plan: Plan) -> str:
    if not plan.run.trains:
        return ""
    return "; ".join(
        f"trains on {data_checks.check_training(dataset.mixture_name, _row_length(dataset))}"
        for dataset in plan.experiment.datasets()
        if dataset.is_training and _reads_seqio(dataset)
    )


def _check_evaluation_data(plan: Plan) -> str:
    if not plan.run.evaluates:
        return "is not evaluated (no --eval_on_test)" if plan.run.trains else ""
    words = []
    for dataset in plan.experiment.datasets():
        if dataset.is_training or not _reads_seqio(dataset):
            continue
        rows = data_checks.check_evaluation(dataset.mixture_name, _row_length(dataset))
        for task in rows.empty:
            log.warning("%s has no row to evaluate on: it is not in %s", task, dataset.name)
        words.append(f"evaluates on {rows}")
    return "; ".join(words)


def _reads_seqio(dataset: pax_fiddle.Config[base_input.BaseInput]) -> bool:
    """Whether an input reads a seqio task; an input of the user's own may read anything."""
    return hasattr(dataset, "mixture_name")


def _row_length(dataset: pax_fiddle.Config[base_input.BaseInput]) -> int:
    if hasattr(dataset, "row_length"):
        return dataset.row_length
    return max(dataset.task_feature_lengths.values())


def _check_prompts(plan: Plan) -> str:
    if not plan.run.decodes:
        return ""
    return "; ".join(
        f"decodes {counted(count, 'prompt')} of {dataset.mixture_name}"
        for dataset in plan.experiment.decode_datasets()
        if _reads_seqio(dataset)
        and (
            count := data_checks.check_prompts(
                dataset.mixture_name, dataset.task_feature_lengths["inputs"]
            )
        )
    )


def _check_disk(plan: Plan) -> str:
    """Checks that there is room for the checkpoints."""
    if not plan.run.saves or plan.run.job is None:
        return ""
    train = plan.experiment.task().train
    return checkpoints.check_room(
        plan.run.job,
        parameters=plan.declaration().parameters,
        steps=int(train.num_train_steps),
        interval=train.save_interval_steps,
        max_to_keep=train.save_max_to_keep,
    )


def _check_arrays(plan: Plan) -> str:
    """Checks the shapes of the start weights, for which it makes the network in shapes only."""
    experiment = plan.experiment
    if not experiment.start:
        return ""
    start.check_arrays(
        plan.declaration(),
        experiment.start,
        experiment.network(),
        experiment.get_input_specs_provider_params(),
    )
    return "its arrays fit"


CHECKS: tuple[Callable[[Plan], str], ...] = (
    _check_batch,
    _check_folder,
    _check_mesh,
    _check_start,
    _check_disk,
    _check_training_data,
    _check_evaluation_data,
    _check_prompts,
    _check_arrays,
)


def check_hosts_start(experiment: Experiment) -> None:
    """Raises on every host if the hosts start from checkpoints of different steps.

    Each host has looked for itself, and the parent may have saved another checkpoint meanwhile.

    Raises:
        ValueError: The steps differ, or some hosts have found no checkpoint.
    """
    if jax.process_count() == 1:
        return
    step = experiment.start.step if experiment.start else None
    steps = multihost_utils.process_allgather(np.int32(_NO_STEP if step is None else step)).tolist()
    if len({*steps}) > 1:
        words = ["none" if step == _NO_STEP else f"step {step:,}" for step in steps]
        raise InvalidValueError(
            f"{type(experiment).__name__}: the hosts, in order, found as the checkpoint to start "
            f"from {', '.join(words)}; expected the same {VARIABLES['start_from'].name} on each, "
            "and a job that saves no more"
        )


def opening_lines(experiment: Experiment, step: int, rows: base_input.BaseInput) -> list[str]:
    """Returns what a run logs before its next step: its weights, data, rate, batch and devices.

    Args:
        experiment: The experiment, made by the stock binary.
        step: The step from which the run resumes; 0 if it begins.
        rows: The training input, restored to its position.
    """
    declaration = experiment.declaration()
    return [
        f"{type(experiment).__name__}: steps {step + 1:,} to {declaration.steps:,}, in "
        f"{experiment.run.job}",
        f"weights: {_weights(experiment)}",
        f"data: {_data(rows)}",
        f"batch: {counted(declaration.batch_rows, 'row')} of "
        f"{declaration.row_length:,} tokens, as "
        f"{counted(declaration.accumulation_steps, 'micro-batch')} of "
        f"{declaration.micro_batch_rows:,}",
        f"rate: up to {declaration.learning_rate:.3g} in "
        f"{counted(declaration.warmup_steps, 'step')}, by a cosine of "
        f"{counted(declaration.anneal_steps, 'step')} down to "
        f"{declaration.learning_rate_end:.3g}; recipe {declaration.recipe.name}",
        f"mesh: {declaration.mesh} [replica x data x mdl], devices: {jax.device_count()} of "
        f"kind {jax.devices()[0].device_kind}, hosts: {jax.process_count()}",
        f"steps between: {_intervals(experiment)}",
    ]


def _weights(experiment: Experiment) -> str:
    run, start_checkpoint = experiment.run, experiment.start
    if run.step is not None:
        return f"this run's own, of step {run.step:,}; the optimizer's state too"
    if start_checkpoint and start_checkpoint.step is not None:
        job, step = start_checkpoint.job, start_checkpoint.step
        receipt = lineage.of_checkpoint(job, step)
        name = f" ({receipt['experiment']})" if receipt else ""
        return f"step {step:,} of {job}{name}; a fresh optimizer"
    return "random"


def _data(rows: base_input.BaseInput) -> str:
    if not isinstance(rows, TrainingRows):  # an input of the user's own
        return rows.name
    tasks = rows.identity()["tasks"]
    each = ", ".join(f"{name} {counted(task['rows'], 'row')}" for name, task in tasks.items())
    return f"{rows.mixture_name} from row {rows.position:,} on: {each}"


def _intervals(experiment: Experiment) -> str:
    declaration = experiment.declaration()
    intervals = declaration.profile.intervals(declaration.steps)
    evaluations = (
        f"evaluations {intervals.evaluate:,}"
        if experiment.run.evaluates
        else "no evaluation (--eval_on_test asks for it)"
    )
    return f"records {intervals.record:,}, checkpoints {intervals.save:,}, {evaluations}"
