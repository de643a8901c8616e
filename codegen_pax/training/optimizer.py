"""Adam with decoupled weight decay: optax's arithmetic with Pax's state, masks and sharding."""

from __future__ import annotations

import dataclasses

import jax
import optax
from praxis import base_layer, optimizers, py_utils

from codegen_pax.errors import InvalidValueError

SKIP_DECAY = base_layer.WeightHParamsCollection.SKIP_LP_REGULARIZATION

DECAYS = ("stacked_rank", "matrices")


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
        if self.decay not in DECAYS:
            raise InvalidValueError(f"optimizer: decay is {self.decay!r}; expected one of {DECAYS}")

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
        """Returns Adam without decay: `optax.scale_by_adam` on `sharded_adam`'s state."""
        adam = optax.scale_by_adam(b1=self.beta1, b2=self.beta2, eps=self.epsilon)
        stock = optimizers.sharded_adam(
            learning_rate_fn=lr,
            beta1=self.beta1,
            beta2=self.beta2,
            epsilon=self.epsilon,
            epsilon_root=0.0,
            update_capping=0.0,
            weight_decay=0.0,
        )

        def update(updates, state, params=None):
            del params
            updates, after = adam.update(
                updates, optax.ScaleByAdamState(count=state.count, mu=state.m, nu=state.v)
            )
            step_size = -lr(state.count)
            updates = jax.tree.map(lambda u: step_size * u, updates)
            return updates, py_utils.NestedMap(count=after.count, m=after.mu, v=after.nu)

        return dataclasses.replace(stock, update=update)
