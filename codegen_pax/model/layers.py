"""The layers in which CodeGen differs from praxis.

Block, feed-forward, projections, rotary embedding and token embedding are here, attention and
softmax in modules of their own. Each is a subclass of the praxis layer that it replaces, with its
algorithm in the docstring.
"""

import jax.numpy as jnp
import numpy as np
from jax.ad_checkpoint import checkpoint_name
from praxis import base_layer, pax_fiddle, py_utils, pytypes
from praxis.layers import attentions, base_ops, embedding_softmax, linears, transformers

from codegen_pax import devices
from codegen_pax.errors import InvalidValueError
from codegen_pax.model import cpu_products


class Block(transformers.Transformer):
    """A Transformer layer with attention and feed-forward in parallel, behind one layer norm.

    normed:    [B, T, D] = layer_norm(inputs)
    attention: [B, T, D] = self_attention(normed)
    forward:   [B, T, D] = ff_layer(normed)
    output:    [B, T, D] = inputs + (attention + forward)

    In praxis the feed-forward reads the attention's output and normalises it again; here
    `ff_layer` must have no norm and no skip connection, as `network.language_model` configures it.
    Source: salesforce/jaxformer, models/decoder/inter/modules.py, class Block.
    """

    def __call__(
        self,
        inputs: pytypes.JTensor,
        paddings: pytypes.JTensor,
        attention_mask: pytypes.JTensor,
        cross_inputs: pytypes.JTensor | None = None,
        cross_attention_mask: pytypes.JTensor | None = None,
        segment_pos: pytypes.JTensor | None = None,
        segment_ids: pytypes.JTensor | None = None,
    ) -> tuple[pytypes.JTensor, py_utils.NestedMap]:
        """Applies the block to whole sequences.

        Args:
            inputs: [B, T, D].
            paddings: [B, T], 1 at padding; read by the feed-forward only.
            attention_mask: [B, 1, T, T], added to the scores: causal, padding and documents.
            cross_inputs: unused; there is no cross-attention.
            cross_attention_mask: unused.
            segment_pos: [B, T], the position of each token in its document.
            segment_ids: unused; `attention_mask` already separates documents.

        Returns:
            The output [B, T, D], and the attention weights [B, N, T, T] as `self_atten`.
        """
        del cross_inputs, cross_attention_mask, segment_ids
        normed = self.layer_norm(inputs)
        attention, weights = self.self_attention(
            normed,
            normed,
            normed,
            atten_mask=attention_mask,
            query_segment_pos=segment_pos,
            key_segment_pos=segment_pos,
        )
        outputs = inputs + (attention + self.ff_layer(normed, paddings=paddings))
        return outputs, py_utils.NestedMap(self_atten=weights)

    def extend_step(
        self,
        inputs: pytypes.JTensor,
        *,
        time_step: pytypes.JTensor,
        segment_pos: pytypes.JTensor | None = None,
        attention_mask: pytypes.JTensor,
        cross_attention_mask: pytypes.JTensor | None = None,
    ) -> pytypes.JTensor:
        """Applies the block to the next token of each row, reading the cached keys and values.

        Args:
            inputs: [B, D].
            time_step: scalar, the index of this token in the cache.
            segment_pos: [B], the position of the token in its document; None means `time_step`.
            attention_mask: [B, 1, S], added to the scores.
            cross_attention_mask: unused; there is no cross-attention.

        Returns:
            The output [B, D].
        """
        del cross_attention_mask
        normed = self.layer_norm(inputs)
        attention = self.self_attention.extend_step(
            normed, atten_mask=attention_mask, time_step=time_step, segment_pos=segment_pos
        )
        return inputs + (attention + self.ff_layer.extend_step(normed, time_step=time_step))


class FeedForward(transformers.TransformerFeedForward):
    """The feed-forward half of a block: no norm and no skip connection.

    inner:  [B, T, F] = gelu(inputs @ W_in + b_in)
    output: [B, T, D] = inner @ W_out + b_out

    praxis creates both projections from one template; what differs between them, the initial scale
    and the sharding of the bias, is set in `create_child`.

    Attributes:
        output_init: initialisation of W_out [F, D]; W_in uses `fflayer_tpl.weight_init`.
    """

    output_init: base_layer.WeightInit | None = None

    class WeightSharding(transformers.TransformerFeedForward.WeightSharding):
        """Sharding of the weights.

        Attributes:
            ffn0_bias: mesh axes of b_in [F].
        """

        ffn0_bias: pytypes.SplitDimsMapping = None

    def create_child(self, name: str, params: pax_fiddle.Config) -> None:
        """Creates a sublayer, with the bias' sharding and the output's initialisation set."""
        if name == "ffn_layer1":
            split_dims = self.weight_split_dims_mapping.ffn0_bias
            params.bias_tpl = pax_fiddle.Config(ShardedBias, split_dims=split_dims)
        elif name == "ffn_layer2":
            params.weight_init = self.output_init
        super().create_child(name, params)

    def _compute_ffns(
        self,
        inputs: pytypes.JTensor,
        paddings: pytypes.JTensor | None,
        ap_ff0: pytypes.SplitDimsMapping = None,
    ) -> pytypes.JTensor:
        """Applies both projections, on one CPU as products of two matrices.

        They are that for what `CombinedProjection` says, and wider for what `cpu_products` says.
        """
        if not devices.on_one_cpu():
            return super()._compute_ffns(inputs, paddings, ap_ff0)
        columns = cpu_products.added_columns(self.hidden_dims)
        first, second = self.ffn_layer1, self.ffn_layer2
        rows = inputs.reshape(-1, inputs.shape[-1])
        inner = cpu_products.product(rows, first.linear.theta.w, columns)
        if first.checkpoint_str is not None:
            inner = checkpoint_name(inner, first.checkpoint_str)
        inner = first.activation(inner + cpu_products.widen(first.bias.theta.b, columns))
        if paddings is not None:
            inner *= 1.0 - paddings.reshape(-1, 1)
        dims = inputs.shape[-1]
        more = cpu_products.added_columns(dims)  # for the gradients
        outputs = cpu_products.product(inner, second.linear.theta.w, more)
        return outputs[:, :dims].reshape(inputs.shape) + second.bias.theta.b


class CombinedProjection(attentions.CombinedQKVProjectionLayer):
    """The projection to queries, keys and values.

    query, key, value: [B, T, N, H] = inputs @ W[0], inputs @ W[1], inputs @ W[2]

    On one CPU each is a product of two matrices, [B T, D] @ [D, N H]. XLA (jaxlib 0.5.3) copies the
    operands of any other product, and of its gradients, into such matrices first, slowly where it
    transposes them.
    """

    def __call__(
        self, inputs: pytypes.JTensor
    ) -> tuple[pytypes.JTensor, pytypes.JTensor, pytypes.JTensor]:
        """Returns queries, keys and values of `inputs` [B, T, D]."""
        if not devices.on_one_cpu() or self.use_bias:
            return super().__call__(inputs)
        rows = inputs.reshape(-1, inputs.shape[-1])
        shape = (*inputs.shape[:-1], self.num_heads, self.dim_per_head)

        def project(matrix: pytypes.JTensor, name: str) -> pytypes.JTensor:
            matrix = matrix.reshape(len(matrix), -1)
            columns = matrix.shape[1]
            added = cpu_products.added_columns(columns)
            product = cpu_products.product(rows, matrix, added)[:, :columns].reshape(shape)
            return checkpoint_name(checkpoint_name(product, "combined_qkv_proj"), name)

        query, key, value = map(project, self.theta.w, ("query_proj", "key_proj", "value_proj"))
        return query, key, value


class OutputEinsum(base_ops.EinsumOp):
    """The projection of attention's output [B, T, N, H] to [B, T, D].

    On one CPU it is a product of two matrices, as in `CombinedProjection`.
    """

    def __call__(
        self, equation: str, inputs: pytypes.JTensor, weights: pytypes.JTensor
    ) -> pytypes.JTensor:
        """Returns [B, T, D].

        Args:
            equation: praxis' name of the product.
            inputs: [B, T, N, H].
            weights: [D, N, H].
        """
        if not devices.on_one_cpu():
            return super().__call__(equation, inputs, weights)
        matrix = weights.reshape(len(weights), -1)
        rows = inputs.reshape(-1, matrix.shape[1])
        product = cpu_products.product_of_transposed(rows, matrix)
        return product.reshape(*inputs.shape[:-2], len(weights))


class ShardedBias(linears.Bias):
    """A bias with its own sharding.

    `linears.FeedForward` shards its bias as the last axis of its output. On a mesh without a model
    axis that replicates the widest bias, [layers, F], on every device.

    Attributes:
        split_dims: mesh axes of the bias [F].
    """

    split_dims: pytypes.SplitDimsMapping = None

    def setup(self) -> None:
        """Creates the bias `b` [F]."""
        self.create_variable(
            "b",
            base_layer.WeightHParams(
                shape=[self.dims],
                init=base_layer.WeightInit.Constant(self.bias_init),
                mesh_shape=self.mesh_shape,
                tensor_split_dims_mapping=self.split_dims,
            ),
        )


class PartialRotaryEmbedding(embedding_softmax.RotaryPositionalEmbedding):
    """Rotary positions on the first R dimensions of each head, in interleaved pairs.

    Rotates the pairs (x0, x1), (x2, x3), … and passes the other H - R dimensions through.

    frequency: [R/2]          = max_timescale ** -(0, 2, 4, … / R)
    angle:     [B, T, 1, R/2] = position * frequency
    even:      [B, T, N, R/2] = x[0::2] * cos(angle) - x[1::2] * sin(angle)
    odd:       [B, T, N, R/2] = x[1::2] * cos(angle) + x[0::2] * sin(angle)
    output:    [B, T, N, H]   = concat(interleave(even, odd), x[R:])

    praxis' layer rotates all H dimensions, and pairs x[i] with x[i + H/2].
    Source: salesforce/CodeGen, jaxformer/hf/codegen/modeling_codegen.py.

    Attributes:
        rotary_dims: R, the number of rotated dimensions of a head; even, at most H.
    """

    rotary_dims: int = 0

    def setup(self) -> None:
        """Checks `rotary_dims`.

        Raises:
            ValueError: it is odd, not positive, or larger than H.
        """
        super().setup()
        if self.rotary_dims % 2 or not 0 < self.rotary_dims <= self.embedding_dims:
            raise InvalidValueError(
                f"rotary_dims must be even, above 0 and at most the head's "
                f"{self.embedding_dims} dimensions; found {self.rotary_dims}"
            )

    def __call__(
        self, inputs: pytypes.JTensor, position: pytypes.JTensor | None = None
    ) -> pytypes.JTensor:
        """Rotates queries or keys.

        Args:
            inputs: [B, T, N, H].
            position: [B, T], the position of each token in its document; None counts from 0.

        Returns:
            [B, T, N, H], in the dtype of `inputs`; angles are float32.
        """
        batch, length, heads, _ = inputs.shape
        if position is None:
            position = jnp.arange(length)[jnp.newaxis, :]
        frequency = self.max_timescale ** -(np.arange(0, self.rotary_dims, 2) / self.rotary_dims)
        angle = position[:, :, jnp.newaxis, jnp.newaxis] * jnp.asarray(frequency, jnp.float32)
        sin, cos = jnp.sin(angle), jnp.cos(angle)

        pairs = inputs[..., : self.rotary_dims].reshape(batch, length, heads, -1, 2)
        even, odd = pairs[..., 0], pairs[..., 1]
        turned = jnp.stack([even * cos - odd * sin, odd * cos + even * sin], axis=-1)
        turned = turned.reshape(batch, length, heads, self.rotary_dims).astype(inputs.dtype)
        return jnp.concatenate([turned, inputs[..., self.rotary_dims :]], axis=-1)


class Embedding(embedding_softmax.Embedding):
    """A token embedding with the bias that jaxformer trains.

    output: [B, T, D] = table[ids] + bias

    jaxformer embeds tokens by a linear layer on one-hot vectors, whose bias is trained and, having
    one axis, is not decayed. In the released weights it is added into the table.

    Attributes:
        use_bias: whether there is a bias `b` [D] in addition to the table `emb_var` [V, D].
    """

    use_bias: bool = False

    def setup(self) -> None:
        """Creates the table, and the bias if there is one."""
        super().setup()
        if self.use_bias:
            self.create_variable(
                "b",
                base_layer.WeightHParams(
                    shape=[self.input_dims],
                    init=base_layer.WeightInit.Constant(0.0),
                    mesh_shape=self.mesh_shape,
                    tensor_split_dims_mapping=[None],
                ),
            )

    def emb_lookup(self, ids: pytypes.JTensor) -> pytypes.JTensor:
        """Returns the embeddings [..., D] of the tokens `ids` [...]."""
        vectors = super().emb_lookup(ids)
        return vectors + self.theta.b if self.use_bias else vectors
