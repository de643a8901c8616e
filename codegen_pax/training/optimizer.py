"""Adam with decoupled weight decay: optax's arithmetic with Pax's state, masks and sharding."""

from __future__ import annotations

import copy
import dataclasses
import functools

import jax
import jax.numpy as jnp
from optax import tree_utils
from praxis import base_layer, optimizers, py_utils

from codegen_pax.errors import InvalidValueError

SKIP_DECAY = base_layer.WeightHParamsCollection.SKIP_LP_REGULARIZATION

DECAYS = ("stacked_rank", "matrices")


def is_adam_state(node) -> bool:
    """Returns whether a node of a tree of optimizer states is that of Adam."""
    return isinstance(node, py_utils.NestedMap) and set(node) == {"count", "m", "v"}


class OptaxAdam(optimizers.BaseOptimizer):
    """Adam as in `optax.chain(scale_by_adam, add_decayed_weights(mask), scale_by_schedule)`.

    With g the clipped gradient, t = 1, 2, ... and lr_t the schedule at t - 1:

      m = (1 - beta1) g + beta1 m
      v = (1 - beta2) g^2 + beta2 v
      w = w - lr_t (m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + epsilon) + decay w)

    `praxis.optimizers.Adam` folds the bias correction into the decay rates instead of storing the
    uncorrected m and v: its rounding changes the weights by 1.5e-5 in 25 steps, and its update
    cap and epsilon of 1e-6 change them further. Everything else is praxis':
    `decoupled_weight_decay`, `clip_gradient_norm_to_value` and the schedule of `BaseOptimizer`,
    the state (`count`, `m`, `v`) and the partition specs of `optimizers.sharded_adam`, so that
    moments are sharded, vectorised over layers and checkpointed as with a stock Pax optimizer.

    Attributes:
        beta1: decay rate of the first moment.
        beta2: decay rate of the second moment.
        epsilon: added to the square root of the second moment.
        decay: which arrays `decoupled_weight_decay` applies to.
            'stacked_rank': every array with more than one axis, the layer axis included. This is
            jaxformer's rule (`add_decayed_weights_exclude_ln_and_bias` in its `utils.py` tests
            `ndim > 1` on layer-stacked arrays): layer norms and biases of the blocks are decayed;
            the embedding's bias, the final layer norm and the projection's bias are not.
            'matrices': every array with more than one axis, the layer axis not included: no layer
            norm and no bias is decayed, as is usual since GPT-3.
    """

    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    decay: str = "matrices"

    def __post_init__(self):
        super().__post_init__()
        self._is_valid: jax.Array | None = None
        if self.decay not in DECAYS:
            raise InvalidValueError(f"optimizer: decay is {self.decay!r}; expected one of {DECAYS}")

    def skipping(self, is_valid: jax.Array) -> OptaxAdam:
        """Returns an optimizer for one step, whose update changes nothing unless `is_valid`.

        Pax selects from the moments before and after, when the update has been computed from those
        after. XLA on a CPU fuses both into each loop, so that each overwritten moment is copied
        before: 0.8 GB for a step of 350M's first four layers, of 2.8. Here the update is computed
        from what was selected.

        Args:
            is_valid: [], whether the step counts.
        """
        optimizer = copy.copy(self)
        optimizer._is_valid = is_valid
        return optimizer

    def get_grad_transformation(self, var_weight_hparams, include_ema=True):
        """Returns the gradient transformation, with weight decay masked by the variables' ranks.

        Args:
            var_weight_hparams: tree of `WeightHParams` of the trainable variables.
            include_ema: as in `BaseOptimizer`.

        Raises:
            ValueError: `decay` is 'stacked_rank' and no variable has a layer axis.
        """
        variables = jax.tree.leaves(var_weight_hparams)
        if self.decay == "stacked_rank" and not any(w.repeat_prefix for w in variables):
            raise InvalidValueError(
                "optimizer: decay 'stacked_rank' counts the layer axis, and none of the "
                f"{len(variables)} variables has one; expected stacked layers, or decay 'matrices'"
            )
        marked = jax.tree.map(self._mark, var_weight_hparams)
        return super().get_grad_transformation(marked, include_ema)

    def _mark(self, variable: base_layer.WeightHParams) -> base_layer.WeightHParams:
        """Returns `variable`, in praxis' undecayed collection if and only if it is not decayed."""
        shape = variable.full_shape if self.decay == "stacked_rank" else variable.shape
        collections = [name for name in variable.collections if name != SKIP_DECAY]
        if len(shape) <= 1:
            collections.append(SKIP_DECAY)
        return dataclasses.replace(variable, collections=collections)

    def _get_raw_grad_transformation(self, lr):
        """Returns Adam without decay: optax's arithmetic on `sharded_adam`'s state."""
        stock = optimizers.sharded_adam(
            learning_rate_fn=lr,
            beta1=self.beta1,
            beta2=self.beta2,
            epsilon=self.epsilon,
            epsilon_root=0.0,
            update_capping=0.0,
            weight_decay=0.0,
        )

        def update(grads, state, params=None):
            del params
            count = state.count + 1
            m = tree_utils.tree_update_moment(grads, state.m, self.beta1, 1)
            v = tree_utils.tree_update_moment_per_elem_norm(grads, state.v, self.beta2, 2)
            after = py_utils.NestedMap(count=count, m=m, v=v)
            if self._is_valid is not None:
                after = jax.tree.map(functools.partial(jnp.where, self._is_valid), after, state)
            step_size = -lr(state.count)
            updates = jax.tree.map(
                lambda m, v: step_size * (m / (jnp.sqrt(v) + self.epsilon)),
                tree_utils.tree_bias_correction(after.m, self.beta1, count),
                tree_utils.tree_bias_correction(after.v, self.beta2, count),
            )
            return updates, after

        return dataclasses.replace(stock, update=update)
