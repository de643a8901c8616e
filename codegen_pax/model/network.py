"""The CodeGen network as a praxis configuration, its sharding over a mesh, and the Pax model."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from praxis import (
    base_input,
    base_layer,
    base_model,
    decoder_hparams,
    decoder_utils,
    pax_fiddle,
    py_utils,
)
from praxis.layers import (
    activations,
    linears,
    models,
    normalizations,
    transformer_models,
    transformers,
)
from praxis.layers.checkpoint_policy import AutodiffCheckpointType

from codegen_pax import messages
from codegen_pax.errors import InvalidValueError
from codegen_pax.model import generation, unstacked
from codegen_pax.model.attention import Attention, Kind
from codegen_pax.model.decoding import PromptDecoder
from codegen_pax.model.layers import (
    Block,
    CombinedProjection,
    Embedding,
    FeedForward,
    OutputEinsum,
    PartialRotaryEmbedding,
)
from codegen_pax.model.softmax import Softmax

# A feed-forward is this many times as wide as the model: F = 4 D (modules.py of jaxformer).
FEED_FORWARD_RATIO = 4


def language_model(
    *,
    layers: int,
    model_dims: int,
    heads: int,
    head_dims: int,
    rotary_dims: int,
    vocab_size: int,
    embedding_bias: bool,
    z_loss: float = 0.0,
    remat: str = AutodiffCheckpointType.SAVE_NOTHING.value,
    attention_kind: str = Kind.PLAIN.value,
    loss_chunk: int = 0,
) -> pax_fiddle.Config[transformer_models.TransformerLm]:
    """Returns the decoder-only language model, its blocks stacked and scanned over.

    x:      [B, T, D] = embedding(ids)
    x:      [B, T, D] = x + attention(norm(x)) + forward(norm(x)), `layers` times
    logits: [B, T, V] = final_norm(x) @ W + b

    Weights are initialised as in jaxformer: truncated normal at two standard deviations, without
    haiku's correction for the truncation. The standard deviation is 2 / layers / sqrt(D) for the
    output projections of attention and feed-forward, 1 / sqrt(V) for the embedding, and
    1 / sqrt(fan-in) for all others; biases start at zero, norm scales at one.
    Source: salesforce/jaxformer, models/decoder/inter.

    Args:
        layers: number of blocks.
        model_dims: D.
        heads: N.
        head_dims: H; scores are divided by sqrt(H).
        rotary_dims: number of leading dimensions of each head that are rotated by position.
        vocab_size: V, the padded size: 51,200 for every published model.
        embedding_bias: train a bias on the embedding, as jaxformer does; without it the
            parameters are those of the released weights.
        z_loss: weight of the mean of logsumexp(logits)^2 in the loss.
        remat: what each block saves for the backward pass, a value of praxis'
            AutodiffCheckpointType. Gradients do not depend on it.
        attention_kind: how attention is computed, a value of `attention.Kind`.
        loss_chunk: the tokens of each device whose logits the loss holds at once; 0 for all.

    Raises:
        ValueError: `remat` or `attention_kind` is unknown, `loss_chunk` is negative, or D is not
            N H.
    """
    if attention_kind not in list(Kind):
        raise InvalidValueError(messages.unknown("attention kind", attention_kind, list(Kind)))
    if loss_chunk < 0:
        raise InvalidValueError(f"loss_chunk={loss_chunk}; expected a whole number, at least 0")
    if model_dims != heads * head_dims:
        raise InvalidValueError(
            f"model_dims must be heads * head_dims; found {model_dims} and {heads} * {head_dims}"
        )
    fan_in = base_layer.WeightInit.TruncatedGaussian(1 / math.sqrt(model_dims))
    out_of_block = base_layer.WeightInit.TruncatedGaussian(2 / layers / math.sqrt(model_dims))
    one_per_token = base_layer.WeightInit.TruncatedGaussian(1 / math.sqrt(vocab_size))
    norm = pax_fiddle.Config(
        normalizations.LayerNorm, direct_scale=True, epsilon=1e-5, reductions_in_fp32=True
    )

    attention = pax_fiddle.Config(
        Attention,
        kind=str(attention_kind),
        use_bias=False,
        combine_qkv=True,
        internal_enable_per_dim_scale=False,
        scale_query_by_dim_per_head=True,
        use_rotary_position_emb=True,
        # Without it the cache holds every key twice, before and after the rotation.
        consolidate_rope_key_state=True,
        rotary_position_emb_tpl=pax_fiddle.Config(PartialRotaryEmbedding, rotary_dims=rotary_dims),
    )
    attention.combined_qkv_proj_tpl = pax_fiddle.Config(CombinedProjection, params_init=fan_in)
    # Query, key and value have `combined_qkv_proj_tpl`, so `proj_tpl` is the output projection.
    attention.proj_tpl.einsum_tpl = pax_fiddle.Config(OutputEinsum)
    attention.proj_tpl.params_init = out_of_block

    forward = pax_fiddle.Config(
        FeedForward,
        activation_tpl=pax_fiddle.Config(activations.GELU, approximate=True),
        add_skip_connection=False,
        # The block normalises once for both halves, but this layer always creates a norm.
        ln_tpl=pax_fiddle.Config(normalizations.IdentityNorm),
        fflayer_tpl=pax_fiddle.Config(linears.FeedForward, weight_init=fan_in),
        output_init=out_of_block,
    )

    stack = pax_fiddle.Config(
        transformers.StackedTransformer,
        num_layers=1,
        model_dims=model_dims,
        hidden_dims=FEED_FORWARD_RATIO * model_dims,
        num_heads=heads,
        dim_per_head=head_dims,
        transformer_layer_params_tpl=pax_fiddle.Config(
            Block, ln_tpl=norm.clone(), tr_atten_tpl=attention, tr_fflayer_tpl=forward
        ),
    )

    softmax = pax_fiddle.Config(
        Softmax,
        feed_forward_tpl=pax_fiddle.Config(linears.FeedForward, has_bias=True, weight_init=fan_in),
        z_loss_weight=z_loss,
        token_chunk=loss_chunk,
    )

    return pax_fiddle.Config(
        transformer_models.TransformerLm,
        name="lm",
        model_dims=model_dims,
        vocab_size=vocab_size,
        # Attention masks and positions come from the batch's `segment_ids` and `segment_pos`.
        packed_input=True,
        position_emb_tpl=None,
        separate_embedding_tpl=pax_fiddle.Config(
            Embedding, lookup_style="index", use_bias=embedding_bias, params_init=one_per_token
        ),
        stacked_transformer_tpl=pax_fiddle.Config(
            transformers.StackedTransformerRepeated,
            x_times=layers,
            checkpoint_policy=_checkpoint_policy(remat),
            block=stack,
        ),
        final_ln_tpl=norm,
        softmax_tpl=softmax,
    )


def _checkpoint_policy(remat: str) -> AutodiffCheckpointType:
    """Returns the policy named `remat`; raises InvalidValueError for an unknown name."""
    policies = [policy.value for policy in AutodiffCheckpointType]
    if remat not in policies:
        raise InvalidValueError(messages.unknown("remat policy", remat, policies))
    return AutodiffCheckpointType(remat)


def shard(
    lm_config: pax_fiddle.Config[transformer_models.TransformerLm],
    *,
    mesh_shape: Sequence[int],
    mesh_axis_names: Sequence[str] = ("replica", "data", "mdl"),
) -> None:
    """Sets the sharding of weights and activations in `lm_config`, in place.

    Weights: heads, feed-forward and vocabulary are sharded over the model axis, the model dimension
    over the data axis; the layer axis is not sharded. Optimizer moments follow their weights.
    Activations: the batch is sharded over the replica and data axes; heads, feed-forward and
    vocabulary over the model axis; and, without replicas, so is the model dimension between
    blocks, which the backward pass saves.

    Args:
        lm_config: the configuration from `language_model`.
        mesh_shape: devices along each axis.
        mesh_axis_names: the replica, data and model axes, in this order.

    Raises:
        ValueError: a dimension cannot be split evenly over its axis.
    """
    replica, data, mdl = mesh_axis_names
    replica_size, data_size, mdl_size = mesh_shape
    stack = lm_config.stacked_transformer_tpl.block
    for dimension, size, axis, parts in (
        ("heads", stack.num_heads, mdl, mdl_size),
        ("vocab_size", lm_config.vocab_size, mdl, mdl_size),
        ("model_dims", lm_config.model_dims, mdl, mdl_size),
        ("model_dims", lm_config.model_dims, data, data_size),
        ("feed-forward", stack.hidden_dims, f"{mdl} x {data}", mdl_size * data_size),
    ):
        if size % parts:
            raise InvalidValueError(
                f"mesh {tuple(mesh_shape)}: {dimension} {size} cannot be split evenly over the"
                f" {parts} devices of axis {axis}; expected a divisor of {size}"
            )

    lm_config.ici_mesh_shape = list(mesh_shape)
    lm_config.mesh_axis_names = list(mesh_axis_names)

    batch = (replica, data)
    # With replicas, XLA (jaxlib 0.5.3) mixes up rows of the batch where it contracts a D sharded
    # over `mdl` with weights sharded over `data`; tests/model has the mesh that shows it.
    residual = [batch, None, mdl if replica_size == 1 else None]
    block = stack.transformer_layer_params_tpl

    attention = block.tr_atten_tpl
    attention.weight_split_dims_mapping.proj = [data, mdl, None]
    attention.activation_split_dims_mapping.blnh = [batch, None, mdl, None]
    attention.activation_split_dims_mapping.bld = residual

    forward = block.tr_fflayer_tpl
    forward.weight_split_dims_mapping.ffn0 = [data, mdl]
    forward.weight_split_dims_mapping.ffn0_bias = [(mdl, data)]
    forward.weight_split_dims_mapping.ffn1 = [mdl, data]
    forward.activation_split_dims_mapping.ffn0 = [batch, None, mdl]
    forward.activation_split_dims_mapping.ffn1 = residual

    embedding = lm_config.separate_embedding_tpl
    embedding.weight_split_dims_mapping.wt = [mdl, data]
    embedding.activation_split_dims_mapping.emb_out_split_dims_mapping = residual

    softmax = lm_config.softmax_tpl
    softmax.weight_split_dims_mapping.wt = [data, mdl]
    softmax.activation_split_dims_mapping.out = [batch, None, mdl]


class CodeGenModel(models.LanguageModel):
    """praxis' language model, with padding and loss weights taken from the batch.

    Training and evaluation read `ids`, `labels`, `weights`, `paddings`, `segment_ids` and
    `segment_pos`, all [B, T]:

    attends:    [B, T, T] = causal and same segment_ids
    positions:  [B, T]    = segment_pos
    log_pplx:   []        = sum(weights * cross-entropy(logits, labels)) / sum(weights)
    total_loss: []        = log_pplx + z_loss * mean of logsumexp(logits)^2 under weights

    Decoding reads `ids` [B, P] and `prefix_lengths` [B]; prompts are padded on the right. No token
    id means padding: id 0 is '!' in GPT-2's vocabulary.
    """

    def decode_with_params(
        self,
        decoder_params: decoder_hparams.DecoderHParams,
        input_batch: py_utils.NestedMap,
        result_callback: decoder_utils.StreamingResultCallback | None = None,
        return_result_for_suffix_score: bool = False,
    ) -> base_model.DecodeOut:
        """Continues prompts, by `generation.generate` if the decoder is a `PromptDecoder`.

        Args:
            decoder_params: how; P + M is its `seqlen`.
            input_batch: `ids` [B, P], `prefix_lengths` [B], and fields that are passed on.
            result_callback: for praxis' decoders only.
            return_result_for_suffix_score: for praxis' decoders only.

        Returns:
            - weighted scalars: `num_decoded`, the number of prompts.
            - the batch with `output_ids` [B, K, P + M], the prompt and what follows it from the
              left, `logprobs` [B, K, P + M], 0 outside of the new tokens, and `decode_lengths`
              [B, K], of prompt and new tokens together.
            - no clu metrics.
        """
        if not isinstance(decoder_params, PromptDecoder):
            return super().decode_with_params(
                decoder_params, input_batch, result_callback, return_result_for_suffix_score
            )
        stack = self.lm_tpl.stacked_transformer_tpl.block
        attention = stack.transformer_layer_params_tpl.tr_atten_tpl
        is_split = self.mesh_axis_names is not None and math.prod(self.ici_mesh_shape) > 1
        is_drawn = decoder_params.temperature > 0
        generated = generation.generate(
            self.lm.variables["params"],
            input_batch.ids,
            input_batch.prefix_lengths,
            self.next_prng_key() if is_drawn else jax.random.PRNGKey(0),
            generation.Choice(decoder_params.temperature, decoder_params.top_p)
            if is_drawn
            else None,
            generation.Options(
                unstacked.Form(
                    stack.dim_per_head,
                    attention.rotary_position_emb_tpl.rotary_dims,
                    jnp.dtype(self.fprop_dtype).name,
                    self._shard if is_split else unstacked.leave,
                ),
                eos_id=decoder_params.eos_id,
                new_tokens=decoder_params.max_decode_steps,
                samples=decoder_params.num_samples,
                prefill_tokens=None if is_split else generation.PREFILL_TOKENS,
            ),
        )
        out = _joined(input_batch, generated)
        out.update(input_batch)
        decoded = jnp.sum(
            input_batch.get("eval_sample_weights", jnp.ones(len(input_batch.ids))),
            dtype=jnp.float32,
        )
        metrics = py_utils.NestedMap(num_decoded=(decoded, jnp.array(1, jnp.float32)))
        return metrics, out, py_utils.NestedMap()

    def _shard(self, array: jax.Array, *axes: str | None) -> jax.Array:
        """Places an array on the mesh by the meaning of its axes."""
        replica, data, mdl = self.mesh_axis_names
        names = {unstacked.BATCH: (replica, data), unstacked.MODEL: mdl, None: None}
        return base_layer.maybe_shard(array, [names[axis] for axis in axes], self.mesh_axis_names)

    def process_decode_out(
        self, input_obj: base_input.BaseInput, decode_out: py_utils.NestedMap
    ) -> base_model.ProcessDecodeOut:
        """Turns one decoded batch into rows of plain numbers; detokenising is left to the reader.

        Args:
            input_obj: unused.
            decode_out: the result of `decode` as numpy arrays: `ids` [B, P], `prefix_lengths` [B],
                `output_ids` [B, K, P + M], `logprobs` [B, K, P + M] and `decode_lengths` [B, K];
                the axis of samples, K, may be absent.

        Returns:
            - weighted scalars: `decoded_length`, the mean number of new tokens.
            - a pair (key, row) for each real row of the batch; padding rows of the last batch
              (`eval_sample_weights` 0) are dropped. The key is the prompt's ids; a seqio input
              that enumerates its examples replaces it by its own. A row holds `prefix_ids`,
              `prefix_length`, and the lists `decoded_ids` and `logprobs`, with one array per
              sample: without the prompt, up to and including the end-of-text token if there is
              one.
            - no clu metrics.
        """
        del input_obj
        batch = len(decode_out.ids)
        output_ids = decode_out.output_ids.reshape(batch, -1, decode_out.output_ids.shape[-1])
        logprobs = decode_out.logprobs.reshape(output_ids.shape)
        decode_lengths = decode_out.decode_lengths.reshape(batch, -1)
        prefix_lengths = decode_out.prefix_lengths.reshape(batch, -1)[:, 0]
        is_real = decode_out.get("eval_sample_weights", np.ones(batch))

        rows = []
        for i in np.flatnonzero(is_real):
            start = int(prefix_lengths[i])
            prefix_ids = decode_out.ids[i, :start]
            rows.append(
                (
                    " ".join(map(str, prefix_ids)),
                    {
                        "prefix_ids": prefix_ids,
                        "prefix_length": start,
                        "decoded_ids": [
                            ids[start:end]
                            for ids, end in zip(output_ids[i], decode_lengths[i], strict=True)
                        ],
                        "logprobs": [
                            values[start:end]
                            for values, end in zip(logprobs[i], decode_lengths[i], strict=True)
                        ],
                    },
                )
            )
        new_tokens = [len(ids) for _, row in rows for ids in row["decoded_ids"]]
        mean = np.float32(np.mean(new_tokens) if new_tokens else 0.0)
        metrics = py_utils.NestedMap(decoded_length=(mean, np.float32(len(new_tokens))))
        return metrics, rows, py_utils.NestedMap()


def _joined(batch: py_utils.NestedMap, generated: generation.Generated) -> py_utils.NestedMap:
    """Returns prompts and new tokens as one row each, from the left, as praxis' decoders do."""
    starts = batch.prefix_lengths[:, jnp.newaxis, jnp.newaxis]
    width, new_tokens = batch.ids.shape[1], generated.ids.shape[2]
    columns = jnp.arange(width + new_tokens)
    new = jnp.broadcast_to(columns - starts, (*generated.lengths.shape, len(columns)))
    is_new = (new >= 0) & (new < new_tokens)

    def placed(values: jax.Array, otherwise: jax.Array | int) -> jax.Array:
        taken = jnp.take_along_axis(values, jnp.clip(new, 0, new_tokens - 1), axis=2)
        return jnp.where(is_new, taken, otherwise)

    prompts = jnp.pad(batch.ids, ((0, 0), (0, new_tokens)))[:, jnp.newaxis]
    return py_utils.NestedMap(
        output_ids=placed(generated.ids, jnp.where(new < 0, prompts, 0)),
        logprobs=placed(generated.logprobs, 0),
        decode_lengths=batch.prefix_lengths[:, jnp.newaxis] + generated.lengths,
    )
