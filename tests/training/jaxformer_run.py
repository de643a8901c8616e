"""The original trainer's own run, and Pax's train step on the same network and tokens.

The fixture is jaxformer on CPU in float32: its settings, tokens, losses, gradient norms, learning
rates and weights before the first and after the last update.
"""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec
from paxml import partitioning, tasks_lib, trainer_lib
from praxis import pax_fiddle
from praxis.py_utils import NestedMap

from codegen_pax import model
from codegen_pax.training.learner import learner
from codegen_pax.weights import layouts
from tests.weights import in_memory

FIXTURE = pathlib.Path(__file__).parents[1] / "fixtures" / "jaxformer_trajectory.npz"
ARRAYS = dict(np.load(FIXTURE))
SETTINGS = json.loads(FIXTURE.with_suffix(".json").read_text())
ACCUMULATION = SETTINGS["opt_gradient_accumulation_steps"]

NETWORK = {
    "layers": SETTINGS["model_layers"],
    "model_dims": SETTINGS["model_dim"],
    "heads": SETTINGS["model_heads"],
    "head_dims": SETTINGS["model_head_dim"],
    "rotary_dims": SETTINGS["model_pe_rotary_dims"],
    "vocab_size": SETTINGS["model_vocab_size"],
    "embedding_bias": True,
    "z_loss": 1e-4,  # the default of `loss` in jaxformer's model.py
}
RECIPE = {
    "learning_rate": SETTINGS["opt_lr_max"],
    "warmup_steps": SETTINGS["opt_warmup_steps"],
    "anneal_steps": SETTINGS["opt_anneal_steps"],
    "min_ratio": SETTINGS["opt_lr_end"] / SETTINGS["opt_lr_max"],
    "weight_decay": SETTINGS["opt_weight_decay"],
    "decay": "stacked_rank",
    "clip_norm": SETTINGS["opt_clip_by_global_norm"],
    "accumulation_steps": ACCUMULATION,
    "accumulation_dtype": "float32",  # `dtype` f32: the fixture's sums are float32
}
AXES = ("replica", "data", "mdl")


def weights(moment, embedding_bias=True):
    """The fixture's arrays at 'init' or 'final', as they lie under `params/lm` in Pax."""
    prefix = f"{moment}/"
    dimensions = layouts.Dimensions(
        embedding_bias=embedding_bias,
        **{name: NETWORK[name] for name in ("layers", "model_dims", "heads", "vocab_size")},
    )
    return in_memory.from_jaxformer(
        {name.removeprefix(prefix): x for name, x in ARRAYS.items() if name.startswith(prefix)},
        dimensions,
        mp_num=SETTINGS["mp"],
    )


def batch(step):
    """All micro-batches of a step as one batch: micro-batch a in rows a, a + A, a + 2A, ..."""
    tokens = ARRAYS["tokens"][step].swapaxes(0, 1).reshape(-1, SETTINGS["model_seq_len"] + 1)
    ids = tokens[:, :-1]
    return NestedMap(
        ids=ids,
        labels=tokens[:, 1:],
        weights=np.ones(ids.shape, np.float32),
        paddings=np.zeros(ids.shape, np.float32),
        segment_ids=np.ones(ids.shape, np.int32),
        segment_pos=np.broadcast_to(np.arange(ids.shape[1], dtype=np.int32), ids.shape),
    )


def plain(tree):
    """A NestedMap of arrays as dictionaries of numpy arrays."""
    return {k: plain(v) if isinstance(v, dict) else np.asarray(v) for k, v in tree.items()}


def differences(actual, expected):
    """Largest difference of each array over its largest value."""
    return jax.tree.map(lambda f, e: np.abs(f - e).max() / np.abs(e).max(), actual, expected)


class Run:
    """Pax's partitioned train step, its state on a mesh, and the specs that state must have."""

    def __init__(self, mesh_shape, network=NETWORK, recipe=RECIPE, fprop_dtype=jnp.float32):
        self.task = _task(mesh_shape, network, recipe, fprop_dtype)
        partitioner = partitioning.PjitPartitioner(
            init_is_eval=False,
            reshard_inputs=False,
            task=self.task,
            device_mesh=np.array(jax.devices()[: np.prod(mesh_shape)]).reshape(mesh_shape),
        )
        shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), batch(0))
        key = jax.random.PRNGKey(0)
        partitioner.setup(self.task, key, shapes)
        self.mesh = partitioner.global_mesh
        self.specs = partitioner.get_train_state_metadata().partition_specs
        key, self.state, _ = partitioner.initialize_prng_key_and_train_state(key, None, None)
        self.key = partitioner.preprocess_prng_key(key)
        self.step_fn, _ = partitioner.partition(
            trainer_lib.train_step_single_learner, shapes, is_eval=False
        )
        self._start_from(weights("init", network["embedding_bias"]))

    def _start_from(self, tree):
        """Puts `tree` in the place of the randomly initialised `params/lm`."""
        old = self.state.mdl_vars
        new = {"params": {"lm": tree}}
        assert jax.tree.structure(plain(old)) == jax.tree.structure(new)
        new = jax.tree.unflatten(jax.tree.structure(old), jax.tree.leaves(new))
        placed = jax.tree.map(lambda o, n: jax.device_put(n, o.sharding), old, new)
        self.state = self.state.replace(mdl_vars=placed)

    def step(self, inputs):
        """(step after the update, loss, norm of the mean gradient, learning rate used)."""
        with self.mesh:
            self.state, out = self.step_fn(self.state, self.key, inputs)
        return (
            int(self.state.step),
            float(out.loss),
            float(out.summary_tensors["learning/raw_grad_norm_aggregate_scalar"]),
            float(out.summary_tensors["learning/lr_aggregate_scalar"]),
        )

    @property
    def weights(self):
        """The variables under `params/lm`, as dictionaries of numpy arrays."""
        return plain(self.state.mdl_vars["params"]["lm"])


def _task(mesh_shape, network, recipe, fprop_dtype):
    """A Pax task on that network and recipe, as an experiment makes it."""
    lm = model.language_model(**network)
    model.shard(lm, mesh_shape=mesh_shape, mesh_axis_names=AXES)
    config = pax_fiddle.Config(
        tasks_lib.SingleTask,
        name="codegen",
        model=pax_fiddle.Config(
            model.CodeGenModel,
            name="codegen",
            lm_tpl=lm,
            ici_mesh_shape=list(mesh_shape),
            mesh_axis_names=list(AXES),
            fprop_dtype=fprop_dtype,
        ),
    )
    rows = ("replica", "data")
    config.train.inputs_split_mapping = NestedMap(
        map_1d=PartitionSpec(rows), map_2d=PartitionSpec(rows, None)
    )
    config.train.learner = learner(**recipe)
    return config.Instantiate()
