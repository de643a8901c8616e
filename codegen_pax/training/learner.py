"""The learner of a Pax task: schedule, clipping, optimizer and gradient accumulation."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from paxml import learners
from praxis import base_layer, optimizer_prefix_vectorization, pax_fiddle, py_utils, schedules

from codegen_pax import devices
from codegen_pax.errors import InvalidValueError
from codegen_pax.training.accumulation import AccumulatedGradient
from codegen_pax.training.optimizer import OptaxAdam, is_adam_state

ROW = 1024  # numbers that are added up at a time


class Learner(learners.Learner):
    """Pax' learner, whose optimizer itself skips a step of which the gradient is not finite.

    States and weights are the same as with Pax' own, and a step on a CPU needs less memory: see
    `OptaxAdam.skipping`.
    """

    def update_states(self, grads, states, old_vars, var_weight_hparams):
        """Scales the gradients, and computes the updates and the states after the step.

        Args:
            grads: the gradient of each variable.
            states: the optimizer's.
            old_vars: the variables.
            var_weight_hparams: their `WeightHParams`.

        Returns:
            what to add to the variables, and the states.
        """
        skips = self.enable_skip_step_on_gradient_anomalies and self.vectorize_on_repeat_prefix
        if not (skips and isinstance(self.optimizer, OptaxAdam)):
            return super().update_states(grads, states, old_vars, var_weight_hparams)
        grads, is_valid = self._clipped(grads)
        optimizer = self.optimizer.skipping(is_valid)
        transformation = (
            optimizer_prefix_vectorization.get_transformations_with_vectorized_repeat_prefix(
                optimizer.get_grad_transformation(var_weight_hparams),
                var_weight_hparams,
                self.repeat_prefix_sep,
                force_prefix_structure=self.force_repeat_prefix_structure,
            )
        )
        updates, after = transformation.update(grads, states, old_vars)
        counts = is_valid & _begin_finite(updates) if devices.on_one_cpu() else is_valid
        updates = jax.tree.map(lambda update: jnp.where(counts, update, 0), updates)
        if self.grad_norm_summary:
            _summarize("applied_grad_norm", _global_norm(updates))

        def is_leaf(node):
            return is_adam_state(node) or py_utils.is_optax_masked_node(node)

        def kept(updated, before):
            return updated if is_leaf(updated) else jnp.where(is_valid, updated, before)

        return updates, jax.tree.map(kept, after, states, is_leaf=is_leaf)

    def _clipped(self, grads: py_utils.NestedMap) -> tuple[py_utils.NestedMap, jax.Array]:
        """Returns what `scale_gradients` does, by a norm that one CPU computes faster."""
        others = (
            self.optimizer.clip_gradient_single_norm_to_value,
            self.skip_step_gradient_norm_value,
            self.grad_norm_individual_vars,
            not self.check_valid_step,
        )
        if any(others) or not devices.on_one_cpu():
            return self.scale_gradients(grads)
        norm = _global_norm(grads)
        is_valid = jnp.isfinite(norm)
        maximum = self.optimizer.clip_gradient_norm_to_value
        scale = jnp.minimum(1.0, maximum / norm) if maximum else jnp.ones_like(norm)
        if maximum:
            grads = jax.tree.map(lambda grad: grad * scale, grads)
        _summarize("is_valid_step", is_valid.astype(jnp.float32))
        _summarize("grad_scale", scale)
        if self.grad_norm_summary:
            _summarize("raw_grad_norm", norm)
            _summarize("clipped_grad_norm", _global_norm(grads))
        return grads, is_valid


def _summarize(name: str, value: jax.Array) -> None:
    """Adds a summary under Pax' own name."""
    base_layer.add_global_summary(
        f"learning/{name}", value, base_layer.SummaryType.AGGREGATE_SCALAR
    )


def _global_norm(tree: py_utils.NestedMap) -> jax.Array:
    """Returns the norm of all numbers of a tree."""
    return jnp.sqrt(sum(_sum_of_squares(array) for array in jax.tree.leaves(tree)))


def _sum_of_squares(array: jax.Array) -> jax.Array:
    """Returns the sum of the squares of an array.

    XLA adds up an array on a CPU by windows, at 1.2 numbers a nanosecond. The product of a matrix
    with a vector of ones adds up its rows at 9, which is as fast as they are read.
    """
    if array.dtype != jnp.float32 or array.size % ROW or not devices.on_one_cpu():
        return jnp.sum(jnp.square(array))
    return jnp.sum(jnp.square(array.reshape(-1, ROW)) @ jnp.ones(ROW))


def _begin_finite(updates: py_utils.NestedMap) -> jax.Array:
    """Returns whether the first number of each update is finite, as in any valid step.

    What needs it needs the updates stored before. Else XLA computes them in the loop that
    overwrites the weights, number by number (`model.cpu_products`), divisions and roots too, which
    takes twice as long.
    """
    first = [update.reshape(-1)[:1] for update in jax.tree.leaves(updates)]
    return jnp.isfinite(jnp.concatenate(first)).all()


def learner(
    *,
    learning_rate: float,
    warmup_steps: int,
    anneal_steps: int,
    decay: str,
    min_ratio: float = 0.1,
    beta1: float = 0.9,
    beta2: float = 0.999,
    epsilon: float = 1e-8,
    weight_decay: float = 0.1,
    clip_norm: float = 1.0,
    accumulation_steps: int = 1,
    accumulation_dtype: str = "float32",
) -> pax_fiddle.Config[Learner]:
    """Returns a learner that trains every variable on `total_loss`, which includes the z-loss.

    The defaults, up to `clip_norm`, are jaxformer's (`create_model` in its
    `models/decoder/inter/model.py`, `config/codegen_*_nl.json`); names in brackets below are
    fields of those files.

    Args:
        learning_rate: the peak (`opt_lr_max`).
        warmup_steps: steps of linear warm-up from 0, the rate of the first step
            (`opt_warmup_steps`).
        anneal_steps: length of the cosine decay after the warm-up; the rate is constant afterwards
            (`opt_anneal_steps`). For a decay that ends with training: steps - warmup_steps.
        decay: which arrays weight decay applies to, 'stacked_rank' (jaxformer) or 'matrices'; see
            `OptaxAdam`.
        min_ratio: final over peak learning rate (`opt_lr_end / opt_lr_max`).
        beta1: decay rate of Adam's first moment.
        beta2: decay rate of Adam's second moment.
        epsilon: Adam's epsilon.
        weight_decay: decoupled, multiplied by the learning rate (`opt_weight_decay`).
        clip_norm: maximum of the global norm of the accumulated gradient
            (`opt_clip_by_global_norm`).
        accumulation_steps: micro-batches in a batch (`opt_gradient_accumulation_steps`); with 1
            there is no accumulation.
        accumulation_dtype: dtype of the sum over micro-batches, 'float32', or 'bfloat16' as in
            jaxformer.

    Raises:
        ValueError: a number of steps is out of range.
    """
    if warmup_steps < 0 or anneal_steps < 1 or accumulation_steps < 1:
        raise InvalidValueError(
            f"learner: found warmup_steps={warmup_steps}, anneal_steps={anneal_steps}, "
            f"accumulation_steps={accumulation_steps}; expected at least 0, 1 and 1"
        )
    config = pax_fiddle.Config(
        Learner,
        loss_name="total_loss",
        optimizer=pax_fiddle.Config(
            OptaxAdam,
            learning_rate=learning_rate,
            lr_schedule=pax_fiddle.Config(
                schedules.LinearRampupCosineDecay,
                warmup_steps=warmup_steps,
                decay_start=warmup_steps,
                decay_end=warmup_steps + anneal_steps,
                min_ratio=min_ratio,
                max=1.0,
            ),
            beta1=beta1,
            beta2=beta2,
            epsilon=epsilon,
            decoupled_weight_decay=weight_decay,
            decay=decay,
            clip_gradient_norm_to_value=clip_norm,
        ),
    )
    if accumulation_steps > 1:
        config.stochastic_gradient = pax_fiddle.Config(
            AccumulatedGradient,
            accumulation_steps=accumulation_steps,
            accumulation_dtype=accumulation_dtype,
        )
    return config
