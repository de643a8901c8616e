"""Turns a declaration into the Fiddle configurations that the stock Pax binary runs."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from etils import epath
from jax.sharding import PartitionSpec
from paxml import base_experiment, tasks_lib
from praxis import base_input, base_layer, decoder_hparams, pax_fiddle

from codegen_pax import model
from codegen_pax.data import mixtures, seqio_sources
from codegen_pax.data.stream import inputs
from codegen_pax.data.stream.batches import RowSpecs
from codegen_pax.environment import compilation_cache
from codegen_pax.errors import InvalidValueError
from codegen_pax.runs import checkpoints, job_lock, log, programs, utilisation, verification
from codegen_pax.text.vocabulary import CodeGenVocabulary, vocabulary
from codegen_pax.training.learner import learner
from experiments import job_receipt, preflight, resume, start
from experiments.declaration import Declaration, configured
from experiments.declared import Declared
from experiments.meshes import AXES
from experiments.phases import LossOn
from experiments.settings import VARIABLES, Settings, from_environment
from experiments.start import Run
from tasks import prompts

# A few prompts at any size are enough to show what a run has learnt.
DECODED_ROWS = 8
MAX_NEW_TOKENS = 96

SEED = 2203_13474


class CodeGenExperiment(base_experiment.BaseExperiment):
    """One experiment of the tables; subclasses differ only in `DECLARATION`.

    For an experiment of your own, subclass a registered one and replace any value; the numbers
    that depend on it are derived again, and the class's name becomes the experiment's:

        @experiment_registry.register
        class Short(registry.experiment_class("CodeGenNanoMono")):
            DECLARATION = dataclasses.replace(find_declaration("CodeGenNanoMono"), steps=20)

    The stock binary makes one instance, without arguments. Only then are environment, flags and
    disk read; everything that the methods return depends on the attributes alone.

    Attributes:
        settings: The settings it runs with.
        run: What the stock binary is about to do; an empty `Run` in any other process.
        start: The checkpoint whose weights the run starts from; None if it loads no weights.
        receipt: The receipt of the checkpoint from which training resumes; None without one.
        prompts: The prompts that the run decodes.
    """

    DECLARATION: Declaration

    def __init_subclass__(cls) -> None:
        """Gives the class a declaration with the name of the class.

        Raises:
            ValueError: DECLARATION is not a declaration.
        """
        super().__init_subclass__()
        declaration = getattr(cls, "DECLARATION", None)
        if declaration is None:  # an intermediate class without a declaration
            return
        if isinstance(declaration, Declared):
            declaration = Declaration(declaration)
        if not isinstance(declaration, Declaration):
            raise InvalidValueError(
                f"{cls.__module__}.{cls.__name__}: DECLARATION={declaration!r}; expected a "
                "declaration, as dataclasses.replace(find_declaration('CodeGenNanoMono'), "
                "steps=20) is"
            )
        cls.DECLARATION = Declaration(
            declaration.declared, name=cls.__name__, module=cls.__module__
        )

    def __init__(self, settings: Settings | None = None, run: Run | None = None):
        """Makes an experiment.

        Args:
            settings: The settings to run with; None reads them from the environment.
            run: What is about to run; None reads the flags of the stock binary.

        Raises:
            UserError: A setting has a wrong value, or names something that cannot be read. Then
                all hosts of a run raise one.
        """
        super().__init__()
        if run is None and not Run.is_stock_binary():
            run = Run()
        if run is not None:
            self._read(settings, run)
            return
        log.configure()
        preflight.together(lambda: self._read(settings, Run.from_flags()))

    def _read(self, settings: Settings | None, run: Run) -> None:
        self.settings = from_environment() if settings is None else settings
        self.run = run
        # The whole process shares seqio's registry of tasks, and so the folder that they read.
        seqio_sources.set_corpora_folder(self.settings.data)
        self.start = start.find(self.DECLARATION, self.settings, run)
        self.receipt = resume.receipt_of(run)
        declared = self.DECLARATION
        self.prompts = prompts.for_phase(
            declared.phase, declared.vocabulary.value, self.settings.prompts
        )

    def declaration(self) -> Declaration:
        """Returns the class's declaration with the mesh and the recipe of the settings.

        A job that resumes keeps its schedule.

        Raises:
            ValueError: The mesh does not fit; the message names the setting.
        """
        declaration = configured(self.DECLARATION, self.settings)
        return resume.keep_schedule(declaration, self.receipt, self.settings.schedule)

    def network(self) -> pax_fiddle.Config[model.CodeGenModel]:
        """Returns the model, sharded for the declared mesh."""
        declaration = self.declaration()
        size, recipe, mesh = declaration.size, declaration.recipe, declaration.mesh
        lm = model.language_model(
            layers=size.layers,
            model_dims=size.model_dims,
            heads=size.heads,
            head_dims=size.head_dims,
            rotary_dims=size.rotary_dims,
            vocab_size=size.vocab_size,
            embedding_bias=recipe.embedding_bias,
            z_loss=recipe.z_loss,
            remat=size.remat.value,
            attention_kind=size.attention.value,
            loss_chunk=size.loss_chunk,
        )
        model.shard(lm, mesh_shape=mesh.shape, mesh_axis_names=AXES)
        return pax_fiddle.Config(
            model.CodeGenModel,
            name="codegen",
            lm_tpl=lm,
            ici_mesh_shape=list(mesh.shape),
            mesh_axis_names=list(AXES),
            # Master weights are float32; activations are bfloat16 where hardware supports it.
            dtype=jnp.float32,
            fprop_dtype=getattr(jnp, declaration.profile.compute_dtype),
            decoder_tpl=_decoder(declaration),
        )

    def task(self) -> pax_fiddle.Config[tasks_lib.SingleTask]:
        """Returns the task: network, learner, intervals, and rules that load the start weights."""
        declaration = self.declaration()
        recipe, profile = declaration.recipe, declaration.profile
        task = pax_fiddle.Config(tasks_lib.SingleTask, name="codegen", model=self.network())
        train = task.train
        train.learner = learner(
            learning_rate=declaration.learning_rate,
            warmup_steps=declaration.warmup_steps,
            anneal_steps=declaration.anneal_steps,
            min_ratio=round(declaration.learning_rate_end / declaration.learning_rate, 12),
            beta1=recipe.beta1,
            beta2=recipe.beta2,
            epsilon=recipe.epsilon,
            weight_decay=recipe.weight_decay,
            decay=recipe.decay.value,
            clip_norm=recipe.clip_norm,
            accumulation_steps=declaration.accumulation_steps,
            accumulation_dtype=recipe.accumulation_dtype.value,
        )
        train.num_train_steps = declaration.steps
        batch = ("replica", "data")
        train.inputs_split_mapping = base_layer.NestedMap(
            map_1d=PartitionSpec(batch), map_2d=PartitionSpec(batch, None)
        )
        # A stopped run resumes with the row after the last one that it has read.
        train.enable_input_checkpointing = True
        train.eval_skip_train = True
        train.variable_norm_summary = False
        train.random_seed = SEED
        intervals = profile.intervals(declaration.steps)
        train.save_interval_steps = intervals.save
        train.save_max_to_keep = intervals.keep
        train.summary_interval_steps = intervals.record
        train.compute_steps_per_sec_interval_steps = min(10, intervals.record)
        train.eval_interval_steps = intervals.evaluate
        train.decode_interval_steps = intervals.decode
        if not profile.norm_summaries:
            train.learner.grad_norm_summary = False
            train.learner.var_norm_summary = False
        if self.start:
            train.init_from_checkpoint_rules = start.loading_rules(
                self.start, task, self.get_input_specs_provider_params()
            )
        return task

    def datasets(self) -> list[pax_fiddle.Config[base_input.BaseInput]]:
        """Returns the training input, and one evaluation input per mixture, on held-out files."""
        declaration = self.declaration()
        _check_rows(declaration)
        return [
            inputs.training_input(
                declaration.mixture,
                batch_size=_rows_per_host(declaration),
                row_length=declaration.row_length,
                seed=SEED,
                packing=declaration.phase.packing,
            ),
            *(
                inputs.evaluation_input(
                    mixture,
                    batch_size=_evaluation_rows(declaration),
                    row_length=declaration.row_length,
                    packing=declaration.phase.packing,
                )
                for mixture in _evaluated_mixtures(declaration, self.settings)
            ),
        ]

    def decode_datasets(self) -> list[pax_fiddle.Config[base_input.BaseInput]]:
        """Returns the input of prompts, from a file or the phase, in the format of its rows."""
        return [
            inputs.decoding_input(
                self.prompts.register(),
                batch_size=max(1, DECODED_ROWS // jax.process_count()),
                prompt_length=prompts.PROMPT_LENGTH,
            )
        ]

    def get_input_specs_provider_params(
        self,
    ) -> pax_fiddle.Config[base_input.BaseInputSpecsProvider]:
        """Returns the shapes of a training batch, without reading one."""
        declaration = self.declaration()
        return pax_fiddle.Config(
            RowSpecs,
            batch_size=_rows_per_host(declaration),
            row_length=declaration.row_length,
        )

    def train_programs(self) -> list[programs.TrainProgram]:
        """Returns Pax's training program, extended to log opening lines and progress on host 0."""
        declaration = self.declaration()
        size, row_length = declaration.size, declaration.row_length
        work = utilisation.Work(
            tokens=declaration.batch_tokens,
            flops_per_token=size.flops_per_token(row_length),
            causal_flops_per_token=size.causal_flops_per_token(row_length),
            dtype=declaration.profile.compute_dtype.value,
        )
        return [programs.TrainProgram(work, functools.partial(preflight.opening_lines, self))]

    def eval_programs(self) -> list[programs.EvalProgram]:
        """Returns Pax's evaluation programs, each extended to log its result."""
        return [programs.EvalProgram(dataset) for dataset in self.eval_datasets()]

    def executor(self) -> programs.Executor:
        """Returns Pax's executor, extended to evaluate before the first step."""
        return programs.Executor()

    def validate(self) -> None:
        """Checks all that can be checked before a run; the stock binary calls this first.

        If the run trains, this also writes the job's receipt.

        Raises:
            UserError: See `preflight.before_a_run`, `job_lock.acquire` and `job_receipt.keep`.
        """
        start.make_job_dir_absolute()
        compilation_cache.enable(on_cpu=False)
        job = self.run.job
        with preflight.before_a_run(self):
            if self.run.trains and job is not None:
                job_lock.acquire(job, self.declaration().name)
                verification.complete_checksums(job)
                verification.watch_saves()
                preflight.together(lambda: self._keep_receipt(job))

    def _keep_receipt(self, job: epath.Path) -> None:
        """Writes the receipt; raises ValueError if another run has saved a checkpoint meanwhile."""
        if (step := checkpoints.last_step(job)) != self.run.step:
            raise InvalidValueError(
                f"{job}: another run has changed its checkpoints meanwhile: the newest is of step "
                f"{step}, and was of step {self.run.step}; start again"
            )
        job_receipt.keep(job, self)


def _evaluation_rows(declaration: Declaration) -> int:
    """Returns the rows of an evaluation batch that each host reads.

    The batch has as many rows as a micro-batch, since a whole training batch may not fit into
    memory, and at least one row per device.
    """
    rows = max(declaration.micro_batch_rows, declaration.mesh.devices)
    return max(1, rows // jax.process_count())


def _evaluated_mixtures(declaration: Declaration, settings: Settings) -> list[str]:
    """Returns the mixtures to evaluate on; raises ValueError if one is not registered."""
    for name in settings.evaluate:
        try:
            mixtures.get_mixture_or_task(name)
        except InvalidValueError as error:
            raise InvalidValueError(f"{VARIABLES['evaluate'].name}: {error}") from None
    return list(settings.evaluate) or [declaration.mixture]


def _decoder(declaration: Declaration) -> decoder_hparams.DecoderHParams:
    """Returns the decoder of the run's prompts."""
    lengths = {
        "prompt_length": prompts.PROMPT_LENGTH,
        "max_new_tokens": MAX_NEW_TOKENS,
        "eos_id": vocabulary(declaration.vocabulary.value).eos_id,
    }
    sampling = declaration.profile.sampling
    if sampling is None:
        return model.greedy_decoder(**lengths)
    return model.sample_decoder(
        **lengths, temperature=sampling.temperature, top_p=sampling.top_p, num_samples=1
    )


def _check_rows(declaration: Declaration) -> None:
    """Refuses a mixture whose rows do not fit the phase.

    Raises:
        ValueError: The mixture is not registered; it has prompts and answers although the phase's
            loss is on all tokens, or the reverse; or its ids are of another vocabulary, or more
            than the network has.
    """
    mixture, phase = declaration.mixture, declaration.phase
    features = mixtures.get_mixture_or_task(mixture).output_features
    loss_on = LossOn.ANSWER if {"inputs", "answers"} & set(features) else LossOn.ALL
    if loss_on != phase.loss_on:
        raise InvalidValueError(
            f"{declaration.name}: the loss on {mixture} is on '{loss_on}' (its features are "
            f"{', '.join(sorted(features))}); phase {phase.name} expected '{phase.loss_on}'"
        )
    words = features["targets"].vocabulary
    if not isinstance(words, CodeGenVocabulary):
        return
    if words.name != declaration.vocabulary:
        owner = f"size {declaration.size.name}" if declaration.size.vocabulary else None
        raise InvalidValueError(
            f"{declaration.name}: {mixture} is tokenised by '{words.name}'; "
            f"{owner or f'phase {phase.name}'} expected '{declaration.vocabulary}'"
        )
    if words.vocab_size > declaration.size.vocab_size:
        raise InvalidValueError(
            f"{declaration.name}: size {declaration.size.name} has "
            f"vocab_size={declaration.size.vocab_size:,}; expected at least "
            f"{words.vocab_size:,}, the ids of '{words.name}'"
        )


def _rows_per_host(declaration: Declaration) -> int:
    """Returns the rows of the batch that each host reads.

    Raises:
        ValueError: The number of hosts does not divide the batch.
    """
    hosts = jax.process_count()
    if declaration.batch_rows % hosts:
        raise InvalidValueError(
            f"{declaration.name}: a batch of {declaration.batch_rows} rows cannot be read by "
            f"{hosts} processes; expected a divisor of {declaration.batch_rows}"
        )
    return declaration.batch_rows // hosts
