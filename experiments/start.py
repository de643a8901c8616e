"""The start of a run: what the stock binary is told to do, and the weights of another job.

Pax is imported only in the functions that need it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from absl import flags
from etils import epath

from codegen_pax.errors import InvalidValueError
from codegen_pax.runs import checkpoints, fingerprints, lineage
from experiments.declaration import Declaration
from experiments.settings import SCRATCH, VARIABLES, Settings

if TYPE_CHECKING:
    from paxml import tasks_lib
    from praxis import base_input, base_model, pax_fiddle

    InputSpecs: TypeAlias = pax_fiddle.Config[base_input.BaseInputSpecsProvider]
    Network: TypeAlias = pax_fiddle.Config[base_model.BaseModel]

_VARIABLE = VARIABLES["start_from"].name


@dataclass(frozen=True)
class Run:
    """One execution of the stock binary, from its flags and job directory; by default none.

    Attributes:
        job: The job directory; None if this process is not the stock binary.
        step: Step of the newest whole checkpoint in the job when the run began; None without one.
        trains: Whether the run trains.
        evaluates: Whether the run evaluates.
        decodes: Whether the run decodes.
        saves: Whether the run saves checkpoints.
        needs_checkpoint: Whether the run decodes a checkpoint of its job directory, once.
        restore_from: The job directory whose checkpoints are decoded, if it is another.
        restore_steps: The steps of the checkpoints to decode; empty for the newest.
    """

    job: epath.Path | None = None
    step: int | None = None
    trains: bool = False
    evaluates: bool = False
    decodes: bool = False
    saves: bool = False
    needs_checkpoint: bool = False
    restore_from: epath.Path | None = None
    restore_steps: tuple[int, ...] = ()

    @staticmethod
    def is_stock_binary() -> bool:
        """Whether this process is the stock binary, which has parsed its flags."""
        return flags.FLAGS.is_parsed() and flags.FLAGS.get_flag_value("mode", None) is not None

    @classmethod
    def from_flags(cls) -> Run:
        """Reads the flags of the stock binary, and the checkpoints of its job directory."""
        values = flags.FLAGS
        mode = values.mode
        trains, decodes = mode == "train", mode in ("decode", "decode_once")
        job = _absolute(epath.Path(values.job_log_dir))
        restore_from = values.restore_checkpoint_dir
        return cls(
            job=job,
            step=checkpoints.last_step(job),
            trains=trains,
            evaluates=mode == "eval"
            or (trains and values.eval_on_test)
            or (decodes and values.eval_during_decode),
            decodes=decodes or (trains and values.decode_during_train),
            saves=trains and values.enable_checkpoint_saving,
            needs_checkpoint=mode == "decode_once" and restore_from is None,
            # The flag names `<job>/checkpoints`.
            restore_from=epath.Path(restore_from).parent if restore_from else None,
            restore_steps=tuple(map(int, values.restore_checkpoint_step or ())),
        )

    @property
    def begins(self) -> bool:
        """Whether the run begins training, in a job without a checkpoint."""
        return self.trains and self.step is None

    @property
    def has_weights(self) -> bool:
        """Whether the run uses weights of a job: it resumes, evaluates or decodes."""
        return self.job is not None and not self.begins


def make_job_dir_absolute() -> None:
    """Makes the stock binary's `--job_log_dir` absolute, if this process is that binary.

    With a relative directory, Pax trains and saves, but cannot restore: Orbax resolves the path
    against the checkpoints' own directory.
    """
    if flags.FLAGS.is_parsed() and flags.FLAGS.get_flag_value("job_log_dir", None) is not None:
        flags.FLAGS.job_log_dir = _absolute(epath.Path(flags.FLAGS.job_log_dir))


def _absolute(job: epath.Path) -> epath.Path:
    return job if "://" in str(job) else job.resolve()


@dataclass(frozen=True)
class StartCheckpoint:
    """The checkpoint whose weights a phase starts from.

    Attributes:
        job: The job directory.
        step: Step of the newest whole checkpoint when `find` looked; None without one, which
            `check` refuses. This checkpoint is checked, loaded and recorded, even if the job saves
            newer ones meanwhile.
    """

    job: epath.Path
    step: int | None

    @property
    def checkpoint(self) -> epath.Path:
        """The checkpoint's directory."""
        assert self.step is not None  # `check` has refused it
        return checkpoints.path(self.job, self.step)


def find(declaration: Declaration, settings: Settings, run: Run) -> StartCheckpoint | None:
    """Finds the checkpoint whose weights a run starts from.

    Returns:
        The checkpoint, or None if no weights are loaded. None are loaded if the experiment has no
        start, if the settings say 'scratch' or nothing (`check` decides whether that is allowed),
        or if the run resumes, evaluates or decodes, and so has weights already.
    """
    if declaration.start is None or settings.start_from in (None, SCRATCH) or run.has_weights:
        return None
    # Orbax resolves a relative path against the checkpoints' own directory.
    job = _absolute(epath.Path(settings.start_from))
    return StartCheckpoint(job, checkpoints.last_step(job))


def loading_rules(
    start: StartCheckpoint,
    task: pax_fiddle.Config[tasks_lib.SingleTask],
    input_specs: InputSpecs,
) -> dict[str, tasks_lib.CheckpointLoadingRules]:
    """Returns rules that load every weight of a checkpoint, but not its step and optimizer.

    Args:
        start: The checkpoint.
        task: The child's own task without rules: phases of one size build the same tree.
        input_specs: Shapes of the child's training batch.
    """
    from paxml import tasks_lib

    return {
        str(checkpoints.directory(start.job)): tasks_lib.CheckpointLoadingRules(
            task_p=task.clone(),
            load_rules=[(r"(.*)", "{}")],
            safe_load=True,
            # With the step, the checked checkpoint is loaded even if the parent saves newer ones.
            step=start.step,
            input_specs_provider_p=input_specs,
        )
    }


def check(
    declaration: Declaration, settings: Settings, run: Run, start: StartCheckpoint | None
) -> str:
    """Refuses missing or wrong start weights, without reading their arrays.

    Args:
        declaration: What is about to run.
        settings: The settings it runs with.
        run: What the stock binary is about to do.
        start: What `find` returns for these three.

    Returns:
        A description of the weights.

    Raises:
        ValueError: A published size would begin a later phase from random weights; or the named job
            has no checkpoint, or belongs to another experiment.
    """
    if start:
        check_parent(declaration, start)
        return f"step {start.step:,} of {start.job}"
    if run.has_weights:
        return "its own"
    if (
        declaration.start is not None
        and declaration.profile.needs_start
        and settings.start_from is None
        and run.begins
    ):
        raise InvalidValueError(
            f"{declaration.name} starts from {declaration.start}'s weights: set {_VARIABLE} "
            f"to that job's directory (found: unset), or to '{SCRATCH}' for random weights"
        )
    return "random"


def parent(start: StartCheckpoint) -> dict[str, Any]:
    """Returns the entry for a checkpoint among the parents of a receipt.

    Raises:
        FileNotFoundError: The checkpoint holds no weights.
    """
    assert start.step is not None  # `check` has refused it
    return lineage.parent(start.job, start.step, fingerprints.fingerprint(start.checkpoint))


def check_restored(run: Run, start: StartCheckpoint | None) -> None:
    """Refuses a damaged checkpoint before the stock binary restores anything from it.

    It checks the checkpoint that the run starts from, resumes, evaluates or decodes. Each host must
    call it.

    Raises:
        ValueError: A file is missing or does not have its saved size; raised on every host.
    """
    from codegen_pax.runs import verification

    if start:
        verification.check_restored(start.checkpoint, verification.WEIGHT_FILES)
        return
    if run.job is None:
        return
    job = run.restore_from or run.job
    newest = checkpoints.last_step(job) if run.restore_from else run.step
    for step in run.restore_steps or [newest]:
        verification.check_restored(None if step is None else checkpoints.path(job, step))


def check_parent(declaration: Declaration, start: StartCheckpoint) -> None:
    """Refuses a start job without a checkpoint, or of another experiment than the declared start.

    Raises:
        ValueError: The job has no checkpoint, or is another experiment's.
    """
    prefix = f"{declaration.name} starts from {declaration.start}: {_VARIABLE}={start.job} holds"
    if start.step is None:
        raise InvalidValueError(
            f"{prefix} no checkpoint; expected the directory given to that job as --job_log_dir"
        )
    receipt = lineage.read(start.job)
    if receipt and declaration.start not in {receipt["class"], *lineage.experiment_names(receipt)}:
        raise InvalidValueError(
            f"{prefix} {receipt['experiment']}; expected a job of {declaration.start} (an "
            f"experiment of your own may declare start={receipt['experiment']!r})"
        )


def check_arrays(
    declaration: Declaration, start: StartCheckpoint, network: Network, input_specs: InputSpecs
) -> None:
    """Refuses a checkpoint whose arrays differ from the network's.

    Args:
        declaration: What is about to run.
        start: The checkpoint.
        network: The model, whose arrays the checkpoint must hold.
        input_specs: Shapes of a training batch, to initialise the model with.

    Raises:
        ValueError: An array is missing, unexpected, or of another shape.
    """
    expected = network_shapes(network, input_specs)
    shapes = checkpoints.weight_shapes(start.checkpoint)
    receipt = lineage.read(start.job)
    for name in sorted(shapes.keys() | expected.keys()):
        if shapes.get(name) != expected.get(name):
            raise InvalidValueError(
                f"{declaration.name} starts from {declaration.start}: in checkpoint {start.step} "
                f"of {start.job} the array {name} has shape "
                f"{shapes.get(name, 'none: it is missing')}; "
                f"expected {expected.get(name, 'no such array')} (recipe {declaration.recipe.name}"
                + (f"; the job was trained with {receipt['recipe']})" if receipt else ")")
            )


def network_shapes(network: Network, input_specs: InputSpecs) -> dict[str, tuple[int, ...]]:
    """Returns array name -> shape of the network, which is made in shapes only."""
    from praxis import base_hyperparams
    from praxis.py_utils import NestedMap

    model = base_hyperparams.instantiate(network)
    specs = base_hyperparams.instantiate(input_specs)
    arrays = model.abstract_init_with_metadata(specs.get_input_specs())
    return {
        name: (*(hparams.repeat_prefix or []), *hparams.shape)
        for name, hparams in NestedMap.FromNestedDict(arrays).FlattenItems()
    }
