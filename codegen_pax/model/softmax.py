"""The projection onto the vocabulary and its loss."""

import jax
import jax.numpy as jnp
from praxis import py_utils, pytypes
from praxis.layers import embedding_softmax

from codegen_pax import devices
from codegen_pax.model import cpu_products, split
from codegen_pax.model.loss import chunked_loss


class Softmax(embedding_softmax.FullSoftmax):
    """The projection onto the vocabulary and its loss: praxis' FullSoftmax with fewer passes.

    logits:   [B T, V] = inputs @ W + b
    log_z:    [B T]    = logsumexp(logits)
    xent:     [B T]    = log_z - logits[label]
    z_loss:   []       = z_loss_weight * sum(weights * log_z^2) / sum(weights)

    The results equal praxis', which computes three exponentials where one is enough, saves each
    [B, T, V] for the backward pass, and finds the largest logit with a reduction that XLA does not
    vectorise on a CPU, where most of a Nano step is spent here: benchmarks/softmax.py measures
    both.

    Attributes:
        token_chunk: the tokens of each device whose logits are held at once (`loss.chunked_loss`);
            0 holds the logits of all.
    """

    token_chunk: int = 0

    def __call__(
        self,
        inputs: pytypes.JTensor,
        class_weights: pytypes.JTensor,
        class_ids: pytypes.JTensor | None = None,
        class_probabilities: pytypes.JTensor | None = None,
        input_ids: pytypes.JTensor | None = None,
    ) -> py_utils.NestedMap:
        """Computes the losses of `inputs` against `class_ids`.

        Args:
            inputs: [B, T, D].
            class_weights: [B, T, 1].
            class_ids: [B, T, 1] int32.
            class_probabilities: unsupported.
            input_ids: unused.

        Returns:
            The fields that praxis returns: `logits` and `log_probs` [B, T, V]; the scalars
            `total_xent`, `total_weight`, `avg_xent`, `accuracy` and `z_loss`; all others [B, T].
            With `token_chunk` there are no `logits` and `log_probs`, and the gradient of what is
            trained on, `avg_xent + z_loss`, is that of `avg_xent`; `z_loss` and what is [B, T]
            have none.

        Raises:
            ValueError: class probabilities are given.
        """
        del input_ids
        if class_probabilities is not None or class_ids is None:
            raise ValueError("Softmax: found class_probabilities, expected class_ids alone")
        if self.token_chunk:
            return self._in_chunks(inputs, class_weights[..., 0], class_ids[..., 0])
        rows = class_ids.shape[:-1]
        logits = self._logits(inputs).astype(jnp.float32)
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
            logits=self._of_classes(logits).reshape(*rows, -1).astype(inputs.dtype),
            log_probs=self._of_classes(logits - log_z).reshape(*rows, -1).astype(inputs.dtype),
            per_example_argmax=argmax,
            per_example_xent=per_example_xent,
            total_xent=total_xent,
            total_weight=total_weight,
            avg_xent=total_xent / (total_weight + 1e-6),
            accuracy=correct / total_weight,
        )
        if self.z_loss_weight > 0.0:
            squares = jnp.square(log_z).reshape(rows)
            self._add_z_loss(
                out,
                self.z_loss_weight * (jnp.sum(squares * weights, dtype=jnp.float32) / total_weight),
            )
        return out

    def _logits(self, inputs: pytypes.JTensor) -> pytypes.JTensor:
        """Returns the logits [B T, V]; on one CPU with columns after V that no exponential sees."""
        # Two axes: with three, XLA's CPU backend takes twice as long.
        inputs = inputs.reshape(-1, inputs.shape[-1])
        if not devices.on_one_cpu():
            return self.get_logits(inputs)
        columns = cpu_products.added_columns(self.num_classes)
        theta = self.logits_ffn.linear.theta.w, self.logits_ffn.bias.theta.b
        weights, bias = (x.astype(inputs.dtype) for x in theta)
        bias = cpu_products.widen(bias, columns, value=-1e30)
        return cpu_products.product(inputs, weights, columns, jnp.float32, apart=True) + bias

    def _of_classes(self, logits: pytypes.JTensor) -> pytypes.JTensor:
        """Returns logits without added columns."""
        return logits[:, : self.num_classes]

    def _in_chunks(
        self, inputs: jax.Array, weights: jax.Array, labels: jax.Array
    ) -> py_utils.NestedMap:
        """Returns the same of `inputs` [B, T, D], without logits; `labels` are [B, T]."""
        total_weight = jnp.sum(weights, dtype=jnp.float32)
        square_weights = self.z_loss_weight * weights / total_weight
        loss = chunked_loss(
            inputs,
            self.logits_ffn.linear.theta.w,
            self.logits_ffn.bias.theta.b,
            labels,
            weights.astype(jnp.float32) / (total_weight + 1e-6),
            square_weights.astype(jnp.float32),
            self.token_chunk,
            split.current(self.mesh_axis_names),
        )
        fixed = jax.lax.stop_gradient(loss)
        z_loss = jnp.sum(square_weights * jnp.square(fixed.log_z), dtype=jnp.float32)
        avg_xent = loss.value - z_loss
        out = py_utils.NestedMap(
            per_example_argmax=fixed.argmax,
            per_example_xent=fixed.xent,
            total_xent=avg_xent * (total_weight + 1e-6),
            total_weight=total_weight,
            avg_xent=avg_xent,
            accuracy=jnp.sum((fixed.argmax == labels) * weights) / total_weight,
        )
        if self.z_loss_weight > 0.0:
            self._add_z_loss(out, z_loss)
        return out

    def _add_z_loss(self, out: py_utils.NestedMap, z_loss: jax.Array) -> None:
        out.z_loss = z_loss
        self.add_summary("aux_z_loss", z_loss)
        self.add_aux_loss("aux_z_loss", z_loss)
