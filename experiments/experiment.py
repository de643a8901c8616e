"""From a declaration to the Fiddle configurations that the stock Pax binary runs."""

from __future__ import annotations

import json
import os

import jax
import jax.numpy as jnp
from absl import flags, logging
from etils import epath
from jax.sharding import PartitionSpec
from paxml import base_experiment, tasks_lib
from praxis import base_input, base_layer, pax_fiddle

from codegen_pax import model
from codegen_pax.corpus import inputs
from codegen_pax.corpus.row_specs import RowSpecs
from codegen_pax.text.vocabulary import vocabulary
from codegen_pax.training.learner import learner
from experiments import start
from experiments.declaration import EVALUATE_VARIABLE, Declaration, from_environment
from experiments.meshes import AXES

# Decoding is of eight fixed prompts, whatever the size: a look at what a run has learnt.
PROMPTS = {"codegen": "codegen_nano_prompts", "gpt2": "codegen_nano_prompts_nl"}
PROMPT_COUNT = 8
PROMPT_LENGTH = 64
MAX_NEW_TOKENS = 96

SEED = 2203_13474


class CodeGenExperiment(base_experiment.BaseExperiment):
    """One experiment of the tables; subclasses differ in `DECLARATION` alone.

    An experiment of your own subclasses a registered one and replaces what it likes:

        @experiment_registry.register
        class Short(registry.experiment_class("CodeGenNanoMono")):
            DECLARATION = dataclasses.replace(find_declaration("CodeGenNanoMono"), steps=20)
    """

    DECLARATION: Declaration

    def declaration(self) -> Declaration:
        """What is run: the class's declaration, with the environment's mesh and recipe."""
        return from_environment(self.DECLARATION)

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
            remat=size.remat,
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
                prompt_length=PROMPT_LENGTH,
                max_new_tokens=MAX_NEW_TOKENS,
                eos_id=vocabulary(declaration.phase.vocabulary).eos_id,
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
            decay=recipe.decay,
            clip_norm=recipe.clip_norm,
            accumulation_steps=declaration.accumulation_steps,
            accumulation_dtype=recipe.accumulation_dtype,
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
        if size.embedded:
            train.save_interval_steps = max(1, declaration.steps // 4)
            train.save_max_to_keep = 2
            train.summary_interval_steps = min(10, declaration.steps)
            train.eval_interval_steps = declaration.steps
            train.decode_interval_steps = declaration.steps
            # On a CPU the norms of all weights and updates take as long as the update itself.
            train.learner.grad_norm_summary = False
            train.learner.var_norm_summary = False
        else:
            train.save_interval_steps = 1_000
            train.save_max_to_keep = 10
            train.summary_interval_steps = 100
            train.eval_interval_steps = 1_000
        if job := start.parent_job(declaration):
            train.init_from_checkpoint_rules = start.loading_rules(
                job, task, self.get_input_specs_provider_params()
            )
        return task

    def datasets(self) -> list[pax_fiddle.Config[base_input.BaseInput]]:
        """The training mixture, and one evaluation a mixture on its held-out files."""
        declaration = self.declaration()
        mixtures = os.environ.get(EVALUATE_VARIABLE, "").split(",")
        return [
            inputs.training_input(
                declaration.mixture,
                batch_size=_rows_a_process(declaration),
                row_length=declaration.size.context,
                seed=SEED,
            ),
            *(
                inputs.evaluation_input(
                    mixture,
                    batch_size=_rows_a_process(declaration),
                    row_length=declaration.size.context,
                )
                for mixture in ([name for name in mixtures if name] or [declaration.mixture])
            ),
        ]

    def decode_datasets(self) -> list[pax_fiddle.Config[base_input.BaseInput]]:
        """Eight prompts."""
        return [
            inputs.decoding_input(
                PROMPTS[self.declaration().phase.vocabulary],
                batch_size=max(1, PROMPT_COUNT // jax.process_count()),
                prompt_length=PROMPT_LENGTH,
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
            row_length=declaration.size.context,
        )

    def validate(self) -> None:
        """What the stock binary calls before it runs: the start weights are checked here.

        Raises:
          ValueError: see `start.check`.
        """
        start.check(self.declaration(), self.network(), self.get_input_specs_provider_params())
        if start.is_training() and jax.process_index() == 0:
            self._write_receipt(epath.Path(flags.FLAGS.job_log_dir))

    def _write_receipt(self, job: epath.Path) -> None:
        """Leaves in the job's directory what it runs and which checkpoint it started from."""
        if (job / start.RECEIPT).exists():
            return  # a job that is resumed keeps the receipt of its beginning
        declaration = self.declaration()
        parent = start.parent_job(declaration)
        receipt = {
            "experiment": declaration.name,
            "class": f"{type(self).__module__}.{type(self).__name__}",
            "recipe": declaration.recipe.name,
            "mesh": str(declaration.mesh),
            "mixture": declaration.mixture,
            "steps": declaration.steps,
            "batch_tokens": declaration.batch_tokens,
            "start": parent
            and {
                "experiment": declaration.start,
                "job": str(parent),
                "step": start.last_step(parent),
            },
        }
        job.mkdir(parents=True, exist_ok=True)
        unfinished = job / f"{start.RECEIPT}.unfinished"
        unfinished.write_text(json.dumps(receipt, indent=2) + "\n")
        unfinished.rename(job / start.RECEIPT)
        logging.info("receipt: %s", receipt)


def _rows_a_process(declaration: Declaration) -> int:
    """Rows of the batch that each host reads.

    Raises:
      ValueError: the hosts do not divide the batch.
    """
    processes = jax.process_count()
    if declaration.batch_rows % processes:
        raise ValueError(
            f"{declaration.name}: a batch of {declaration.batch_rows} rows cannot be read by "
            f"{processes} processes; wanted a divisor of {declaration.batch_rows}"
        )
    return declaration.batch_rows // processes
