"""Gradient accumulation: the gradient of a batch as a sum over micro-batches."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from paxml import sgf
from praxis import base_layer
from praxis.py_utils import NestedMap

from codegen_pax.errors import InvalidValueError

DTYPES = ("float32", "bfloat16")
SCALARS = (base_layer.SummaryType.SCALAR, base_layer.SummaryType.AGGREGATE_SCALAR)


class AccumulatedGradient(sgf.BaseStochasticGradient):
    """The gradient of the mean loss, computed one micro-batch at a time.

    With A = `accumulation_steps` and g_a the gradient of micro-batch a:

      sum = 0; for a in 0 .. A - 1: sum = sum + round(share_a g_a)     in `accumulation_dtype`
      gradient = sum / A                                               in the variables' dtype

    share_a is the fraction of the batch's `weights` in micro-batch a, times A. It is exactly 1
    where all rows have equally many predicted tokens, and the result is then the plain mean, as in
    jaxformer; where rows differ (loss on answers only) every token of the batch has the same
    weight, and the result does not depend on A. The learner sees one gradient: it clips once,
    after the sum, and counts one optimizer step. (`optimizers.ShardedStaticAccumulator` clips
    every micro-batch and counts each as a step.)

    Micro-batch a holds rows a, a + A, a + 2A, ... of the batch, so that a sharded batch stays
    sharded: the rows of every device are divided among all micro-batches, and no row moves
    between devices if A divides the rows per device. If it does not, the result is the same.

    Losses, metrics and summaries are means over micro-batches, metrics by their own weights;
    per-example outputs are returned in the order of the batch's rows.

    Attributes:
        accumulation_steps: A, the number of micro-batches in a batch.
        accumulation_dtype: dtype of the sum, 'float32' or 'bfloat16'. jaxformer sums in bfloat16
            (`grad_sum` in its `models/decoder/inter/model.py`), where clipping and Adam's squares
            then are in bfloat16 too; here they are in float32.
    """

    accumulation_steps: int = 1
    accumulation_dtype: str = "float32"

    def __post_init__(self):
        if self.accumulation_steps < 1:
            raise InvalidValueError(
                f"accumulation: accumulation_steps is {self.accumulation_steps}; expected at least"
                " 1"
            )
        if self.accumulation_dtype not in DTYPES:
            raise InvalidValueError(
                f"accumulation: accumulation_dtype is {self.accumulation_dtype!r}; "
                f"expected one of {DTYPES}"
            )

    def grad_fn(self, loss_fn, mdl_vars_grad, mdl_vars_nograd_and_inputs, prng_key):
        """Computes loss, auxiliary outputs and gradient of a batch.

        Args:
            loss_fn: as for `sgf.StandardGradient.grad_fn`.
            mdl_vars_grad: variables with a gradient.
            mdl_vars_nograd_and_inputs: (other variables, batch); the batch's fields are [B, ...],
                `weights` [B, T].
            prng_key: split among the micro-batches.

        Returns:
            ((loss, auxiliary outputs), gradient), as `sgf.StandardGradient.grad_fn`.

        Raises:
            ValueError: B is not a multiple of `accumulation_steps`, or a step updates variables
                without a gradient.
        """
        fixed_vars, batch = mdl_vars_nograd_and_inputs
        steps, dtype = self.accumulation_steps, jnp.dtype(self.accumulation_dtype)
        micro_batches = split_batch(batch, steps)
        weights = micro_batches.weights.astype(jnp.float32).sum((1, 2))
        shares = steps * weights / weights.sum()
        value_and_grad = jax.value_and_grad(loss_fn, has_aux=True)

        def add(total, inputs):
            micro_batch, key, share = inputs
            (loss, aux), grads = value_and_grad(mdl_vars_grad, (fixed_vars, micro_batch), key)

            def scaled(x):
                # A micro-batch without a predicted token has a loss of 0 / 0.
                return jnp.where(share > 0, share * x, 0)

            total = jax.tree.map(lambda t, g: t + scaled(g).astype(dtype), total, grads)
            return total, (scaled(loss), scaled(aux.aux_info[0]), aux)

        zeros = jax.tree.map(lambda v: jnp.zeros(v.shape, dtype), mdl_vars_grad)
        keys = jax.random.split(prng_key, steps)
        total, (losses, mean_losses, aux) = jax.lax.scan(add, zeros, (micro_batches, keys, shares))
        grads = jax.tree.map(lambda t, v: t.astype(v.dtype) / steps, total, mdl_vars_grad)
        aux = sgf.GradAuxInfo(
            aux_info=(mean_losses.mean(), *_merge(aux.aux_info)), loss_weight=aux.loss_weight.sum()
        )
        return (losses.mean(), aux), grads


def split_batch(batch: NestedMap, steps: int) -> NestedMap:
    """Returns micro-batches: every field [B, ...] as [steps, B / steps, ...].

    Row j of micro-batch a is row j * steps + a: B is reshaped to [B / steps, steps], which keeps a
    sharding of B on the first of the two axes.

    Raises:
        ValueError: B is not a multiple of `steps`.
    """

    def split_field(path, x):
        rows = x.shape[0]
        if rows % steps:
            raise InvalidValueError(
                f"accumulation: batch field {jax.tree_util.keystr(path)} has {rows} rows; expected "
                f"a multiple of {steps} accumulation steps"
            )
        return x.reshape(rows // steps, steps, *x.shape[1:]).swapaxes(0, 1)

    return jax.tree_util.tree_map_with_path(split_field, batch)


def _merge(aux_info):
    """Returns the auxiliary outputs of all micro-batches as those of one batch."""
    _, metrics, updated_vars, summaries, per_example, clu_metrics = aux_info
    if jax.tree.leaves((updated_vars, clu_metrics)):
        raise InvalidValueError(
            "accumulation: the model returns updated variables "
            f"{sorted(updated_vars)} or clu metrics {sorted(clu_metrics or ())}, which are not "
            "carried over micro-batches; expected none, or accumulation_steps=1"
        )
    return (
        type(metrics)({name: _weighted_mean(*metrics[name]) for name in metrics}),
        updated_vars,
        {
            key: value.mean(0)
            if base_layer.get_summary_type_from_key(key) in SCALARS
            else value[-1]
            for key, value in summaries.items()
        },
        jax.tree.map(lambda x: x.swapaxes(0, 1).reshape(-1, *x.shape[2:]), per_example),
        clu_metrics,
    )


def _weighted_mean(values, weights):
    """Returns the mean of `values` [A] weighted by `weights` [A], and the total weight."""
    total = weights.sum()
    mean = jnp.where(weights > 0, values * weights, 0).sum() / jnp.where(total > 0, total, 1)
    return mean, total
