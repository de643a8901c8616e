"""The projection onto the vocabulary, and the loss over it."""

import jax
import jax.numpy as jnp
from praxis import py_utils, pytypes
from praxis.layers import embedding_softmax


class Softmax(embedding_softmax.FullSoftmax):
    """praxis' FullSoftmax with a loss that reads the logits less often.

    logits:   [B T, V] = inputs @ W + b
    log_z:    [B T]    = logsumexp(logits)
    xent:     [B T]    = log_z - logits[label]
    z_loss:   []       = z_loss_weight * sum(weights * log_z^2) / sum(weights)

    The numbers are praxis' own; it takes three exponentials where one will do, keeps each
    [B, T, V] for the backward pass, and finds the largest logit with a reduction that XLA does
    not vectorise on a CPU. There a step of Nano is nearly all vocabulary: see
    benchmarks/softmax.py for both.
    """

    def __call__(
        self,
        inputs: pytypes.JTensor,
        class_weights: pytypes.JTensor,
        class_ids: pytypes.JTensor | None = None,
        class_probabilities: pytypes.JTensor | None = None,
        input_ids: pytypes.JTensor | None = None,
    ) -> py_utils.NestedMap:
        """The losses of `inputs` against `class_ids`.

        Args:
            inputs: [B, T, D].
            class_weights: [B, T, 1].
            class_ids: [B, T, 1] int32.
            class_probabilities: not supported.
            input_ids: not used.

        Returns:
            What praxis returns, all of [B, T] but for the scalars `total_xent`, `total_weight`,
            `avg_xent`, `accuracy` and `z_loss`; and `logits`, `log_probs` [B, T, V].

        Raises:
            ValueError: class probabilities were given.
        """
        del input_ids
        if class_probabilities is not None or class_ids is None:
            raise ValueError("Softmax: found class_probabilities, wanted class_ids alone")
        rows = class_ids.shape[:-1]
        # Two axes: over three, XLA's CPU backend takes twice as long.
        logits = self.get_logits(inputs.reshape(-1, inputs.shape[-1])).astype(jnp.float32)
        labels = class_ids.reshape(-1, 1)
        columns = jax.lax.broadcasted_iota(jnp.int32, logits.shape, 1)

        log_z = jax.nn.logsumexp(logits, axis=-1, keepdims=True)
        label_logit = jnp.sum(jnp.where(columns == labels, logits, 0.0), axis=-1, keepdims=True)
        per_example_xent = (log_z - label_logit).reshape(rows)
        fixed = jax.lax.stop_gradient(logits)
        is_largest = fixed == jnp.max(fixed, axis=-1, keepdims=True)
        argmax = jnp.min(jnp.where(is_largest, columns, self.num_classes), axis=-1).reshape(rows)

        weights = class_weights[..., 0]
        total_weight = jnp.sum(weights, dtype=jnp.float32)
        total_xent = jnp.sum(per_example_xent * weights, dtype=jnp.float32)
        correct = jnp.sum((argmax == class_ids[..., 0]) * weights)
        out = py_utils.NestedMap(
            logits=logits.reshape(*rows, -1).astype(inputs.dtype),
            log_probs=(logits - log_z).reshape(*rows, -1).astype(inputs.dtype),
            per_example_argmax=argmax,
            per_example_xent=per_example_xent,
            total_xent=total_xent,
            total_weight=total_weight,
            avg_xent=total_xent / (total_weight + 1e-6),
            accuracy=correct / total_weight,
        )
        if self.z_loss_weight > 0.0:
            squares = jnp.square(log_z).reshape(rows)
            out.z_loss = self.z_loss_weight * (
                jnp.sum(squares * weights, dtype=jnp.float32) / total_weight
            )
            self.add_summary("aux_z_loss", out.z_loss)
            self.add_aux_loss("aux_z_loss", out.z_loss)
        return out
