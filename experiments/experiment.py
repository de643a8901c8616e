"""From a declaration to the Fiddle configurations that the stock Pax binary runs."""

from __future__ import annotations

import functools
import os
from dataclasses import replace

import jax
import jax.numpy as jnp
from absl import flags
from etils import epath
from jax.sharding import PartitionSpec
from paxml import base_experiment, tasks_lib
from praxis import base_input, base_layer, pax_fiddle

from codegen_pax import model
from codegen_pax.data import mixtures
from codegen_pax.data.stream import inputs
from codegen_pax.data.stream.batches import RowSpecs
from codegen_pax.errors import InvalidValueError
from codegen_pax.runs import job_lock, programs, verification
from codegen_pax.text.vocabulary import CodeGenVocabulary, vocabulary
from codegen_pax.training.learner import learner
from experiments import opening, preflight, receipt, resume, start
from experiments.choices import LossOn
from experiments.declaration import (
    EVALUATE_VARIABLE,
    Declaration,
    Declared,
    from_environment,
    named_for_evaluation,
)
from experiments.intervals import intervals
from experiments.meshes import AXES
from tasks import prompts

# Decoding is of a few prompts, whatever the size: a look at what a run has learnt.
DECODED_ROWS = 8
MAX_NEW_TOKENS = 96

SEED = 2203_13474


class CodeGenExperiment(base_experiment.BaseExperiment):
    """One experiment of the tables; subclasses differ in `DECLARATION` alone.

    An experiment of your own subclasses a registered one and replaces what it likes; what follows
    from that follows, and the class's name is the run's:

        @experiment_registry.register
        class Short(registry.experiment_class("CodeGenNanoMono")):
            DECLARATION = dataclasses.replace(find_declaration("CodeGenNanoMono"), steps=20)
    """

    DECLARATION: Declaration

    def __init_subclass__(cls) -> None:
        """Gives the class a declaration of its own name.

        Raises:
          ValueError: its DECLARATION is none.
        """
        super().__init_subclass__()
        found = getattr(cls, "DECLARATION", None)
        if found is None:  # between this class and one that declares something
            return
        if isinstance(found, Declared):
            found = Declaration(found)
        if not isinstance(found, Declaration):
            raise InvalidValueError(
                f"{cls.__module__}.{cls.__name__}: DECLARATION={found!r}; wanted a declaration, as "
                "dataclasses.replace(find_declaration('CodeGenNanoMono'), steps=20) is"
            )
        cls.DECLARATION = replace(found, name=cls.__name__, module=cls.__module__)

    def declaration(self) -> Declaration:
        """What is run: the class's declaration, with the environment's mesh and recipe.

        A job that resumes keeps its schedule.
        """
        return resume.keep_schedule(from_environment(self.DECLARATION))

    def network(self) -> pax_fiddle.Config[model.CodeGenModel]:
        """The model, sharded for the declared mesh."""
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
        )
        model.shard(lm, mesh_shape=mesh.shape, mesh_axis_names=AXES)
        return pax_fiddle.Config(
            model.CodeGenModel,
            name="codegen",
            lm_tpl=lm,
            ici_mesh_shape=list(mesh.shape),
            mesh_axis_names=list(AXES),
            # Float32 master weights; activations in bfloat16 where hardware has it.
            dtype=jnp.float32,
            fprop_dtype=jnp.float32 if size.embedded else jnp.bfloat16,
            decoder_tpl=model.greedy_decoder(
                prompt_length=prompts.PROMPT_LENGTH,
                max_new_tokens=MAX_NEW_TOKENS,
                eos_id=vocabulary(declaration.phase.vocabulary.value).eos_id,
            ),
        )

    def task(self) -> pax_fiddle.Config[tasks_lib.SingleTask]:
        """The task: network, learner, intervals, and the rules that load the start weights."""
        declaration = self.declaration()
        recipe, size = declaration.recipe, declaration.size
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
        # A run that is stopped resumes with the row after the last one it has seen.
        train.enable_input_checkpointing = True
        train.eval_skip_train = True
        train.variable_norm_summary = False
        train.random_seed = SEED
        every = intervals(declaration.steps, size.embedded)
        train.save_interval_steps = every.save
        train.save_max_to_keep = every.kept
        train.summary_interval_steps = every.record
        train.compute_steps_per_sec_interval_steps = min(10, every.record)
        train.eval_interval_steps = every.evaluate
        train.decode_interval_steps = every.decode
        if size.embedded:
            # On a CPU the norms of all weights and updates take as long as the update itself.
            train.learner.grad_norm_summary = False
            train.learner.var_norm_summary = False
        if job := start.parent_job(declaration):
            train.init_from_checkpoint_rules = start.loading_rules(
                job, task, self.get_input_specs_provider_params()
            )
        return task

    def datasets(self) -> list[pax_fiddle.Config[base_input.BaseInput]]:
        """The training mixture, and one evaluation a mixture on its held-out files."""
        declaration = self.declaration()
        _check_rows(declaration)
        return [
            inputs.training_input(
                declaration.mixture,
                batch_size=_rows_a_process(declaration),
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
                for mixture in _evaluated(declaration)
            ),
        ]

    def decode_datasets(self) -> list[pax_fiddle.Config[base_input.BaseInput]]:
        """Prompts of the phase, or of a file, in the format of the phase's rows."""
        phase = self.declaration().phase
        chosen = prompts.for_phase(phase, os.environ.get(prompts.PROMPTS_VARIABLE, ""))
        return [
            inputs.decoding_input(
                chosen.register(),
                batch_size=max(1, DECODED_ROWS // jax.process_count()),
                prompt_length=prompts.PROMPT_LENGTH,
            )
        ]

    def get_input_specs_provider_params(
        self,
    ) -> pax_fiddle.Config[base_input.BaseInputSpecsProvider]:
        """Shapes of a training batch, known without reading one."""
        declaration = self.declaration()
        return pax_fiddle.Config(
            RowSpecs,
            batch_size=_rows_a_process(declaration),
            row_length=declaration.row_length,
        )

    def train_programs(self) -> list[programs.TrainProgram]:
        """Pax's own, which says on host 0 what the run begins with and how it goes."""
        declaration, job = self.declaration(), epath.Path(flags.FLAGS.job_log_dir)
        return [
            programs.TrainProgram(
                declaration.batch_tokens,
                functools.partial(opening.lines, type(self).__name__, declaration, job),
            )
        ]

    def eval_programs(self) -> list[programs.EvalProgram]:
        """Pax's own, each of which says what came of it."""
        return [programs.EvalProgram(dataset) for dataset in self.eval_datasets()]

    def executor(self) -> programs.Executor:
        """Pax's own, with an evaluation before the first step."""
        return programs.Executor()

    def validate(self) -> None:
        """What the stock binary calls before it runs: all that can be known is checked here.

        A job that trains has its lineage from here on.

        Raises:
          UserError: see `preflight.before_a_run`, `job_lock.acquire` and `receipt.keep`.
        """
        start.make_job_dir_absolute()
        with preflight.before_a_run(self):
            if start.is_training():
                job = epath.Path(flags.FLAGS.job_log_dir)
                job_lock.acquire(job, self.declaration().name)
                verification.complete_checksums(job)
                verification.watch_saves()
                preflight.together(lambda: receipt.keep(job, self))


def _evaluation_rows(declaration: Declaration) -> int:
    """Rows of an evaluation batch that each host reads: what one accumulation step holds.

    A whole training batch would not fit where its micro-batches do; a row for each device at least.
    """
    rows = max(declaration.micro_batch_rows, declaration.mesh.devices)
    return max(1, rows // jax.process_count())


def _evaluated(declaration: Declaration) -> list[str]:
    """The mixtures to evaluate on. Raises ValueError if one is named that is not registered."""
    named = named_for_evaluation()
    for name in named:
        try:
            mixtures.get_mixture_or_task(name)
        except InvalidValueError as error:
            raise InvalidValueError(f"{EVALUATE_VARIABLE}: {error}") from None
    return named or [declaration.mixture]


def _check_rows(declaration: Declaration) -> None:
    """Refuses a mixture whose rows are not what the phase says of them.

    Raises:
      ValueError: there is no such mixture; it has prompts and answers for a loss on all tokens, or
        the other way round; or the ids of another vocabulary.
    """
    mixture, phase = declaration.mixture, declaration.phase
    features = mixtures.get_mixture_or_task(mixture).output_features
    found = LossOn.ANSWER if {"inputs", "answers"} & set(features) else LossOn.ALL
    if found != phase.loss_on:
        raise InvalidValueError(
            f"{declaration.name}: the loss on {mixture} is on '{found}' (its features are "
            f"{', '.join(sorted(features))}); phase {phase.name} wanted '{phase.loss_on}'"
        )
    words = features["targets"].vocabulary
    if isinstance(words, CodeGenVocabulary) and words.name != phase.vocabulary:
        raise InvalidValueError(
            f"{declaration.name}: {mixture} is tokenised by '{words.name}'; phase {phase.name} "
            f"wanted '{phase.vocabulary}'"
        )


def _rows_a_process(declaration: Declaration) -> int:
    """Rows of the batch that each host reads.

    Raises:
      ValueError: the hosts do not divide the batch.
    """
    processes = jax.process_count()
    if declaration.batch_rows % processes:
        raise InvalidValueError(
            f"{declaration.name}: a batch of {declaration.batch_rows} rows cannot be read by "
            f"{processes} processes; wanted a divisor of {declaration.batch_rows}"
        )
    return declaration.batch_rows // processes
