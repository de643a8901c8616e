"""The CodeGen network as one praxis configuration, and how it lies on a mesh of devices."""

import math
from collections.abc import Sequence

from praxis import base_layer, pax_fiddle
from praxis.layers import (
    activations,
    attentions,
    linears,
    normalizations,
    transformer_models,
    transformers,
)
from praxis.layers.checkpoint_policy import AutodiffCheckpointType

from codegen_pax import names
from codegen_pax.errors import InvalidValueError
from codegen_pax.model.block import Block
from codegen_pax.model.embedding import Embedding
from codegen_pax.model.feed_forward import FeedForward
from codegen_pax.model.rotary import PartialRotaryEmbedding
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
) -> pax_fiddle.Config[transformer_models.TransformerLm]:
    """Returns the decoder-only language model, its blocks stacked and scanned over.

    x:      [B, T, D] = embedding(ids)
    x:      [B, T, D] = x + attention(norm(x)) + forward(norm(x)), `layers` times
    logits: [B, T, V] = final_norm(x) @ W + b

    Weights start as jaxformer's do: truncated normal at two standard deviations, without haiku's
    correction for the truncation; out of attention and feed-forward 2 / layers / sqrt(D), the
    embedding 1 / sqrt(V), all others 1 / sqrt(fan-in); biases zero, norms one.
    Source: salesforce/jaxformer, models/decoder/inter.

    Args:
        layers: number of blocks.
        model_dims: D.
        heads: N.
        head_dims: H; scores are divided by sqrt(H).
        rotary_dims: the first dimensions of each head that carry the position.
        vocab_size: V, the padded size: 51,200 for every published model.
        embedding_bias: train a bias on the embedding, as jaxformer does; without it the
            parameters are those of the released weights.
        z_loss: weight of the mean of logsumexp(logits)^2 in the loss.
        remat: what the backward pass finds saved of each block: a value of praxis'
            AutodiffCheckpointType. The gradients are the same for all.

    Raises:
        ValueError: `remat` is unknown, or D is not N H (praxis would scale and shape otherwise).
    """
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
        attentions.DotProductAttention,
        use_bias=False,
        combine_qkv=True,
        internal_enable_per_dim_scale=False,
        scale_query_by_dim_per_head=True,
        use_rotary_position_emb=True,
        # Without it the cache holds every key twice, before and after the rotation.
        consolidate_rope_key_state=True,
        rotary_position_emb_tpl=pax_fiddle.Config(PartialRotaryEmbedding, rotary_dims=rotary_dims),
    )
    attention.combined_qkv_proj_tpl.params_init = fan_in
    # The projections in are one matrix of their own, so `proj_tpl` makes the one out alone.
    attention.proj_tpl.params_init = out_of_block

    forward = pax_fiddle.Config(
        FeedForward,
        activation_tpl=pax_fiddle.Config(activations.GELU, approximate=True),
        add_skip_connection=False,
        # The block's norm is the only one, but the layer always makes one.
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
    )

    return pax_fiddle.Config(
        transformer_models.TransformerLm,
        name="lm",
        model_dims=model_dims,
        vocab_size=vocab_size,
        # Attention follows the batch's `segment_ids` and `segment_pos`.
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
    """Returns the policy of that name; an unknown one is an error that names the nearest."""
    policies = [policy.value for policy in AutodiffCheckpointType]
    if remat not in policies:
        raise InvalidValueError(names.unknown("remat policy", remat, policies))
    return AutodiffCheckpointType(remat)


def shard(
    lm_config: pax_fiddle.Config[transformer_models.TransformerLm],
    *,
    mesh_shape: Sequence[int],
    mesh_axis_names: Sequence[str] = ("replica", "data", "mdl"),
) -> None:
    """Writes into `lm_config`, in place, how weights and activations lie on the mesh.

    Weights: heads, feed-forward and vocabulary over the model axis, the model dimension over the
    data axis; the axis of layers is never cut. Optimizer moments follow their weights.
    Activations: batch over the replica and data axes; heads, feed-forward and vocabulary over the
    model axis; so too, where there are no replicas, the model dimension between blocks, which is
    what the backward pass keeps.

    Args:
        lm_config: what `language_model` returned.
        mesh_shape: devices along each axis.
        mesh_axis_names: the replica, data and model axes, in this order.

    Raises:
        ValueError: a dimension cannot be split evenly over its axis.
    """
    replica, data, mdl = mesh_axis_names
    replica_size, data_size, mdl_size = mesh_shape
    stack = lm_config.stacked_transformer_tpl.block
    for what, size, axis, parts in (
        ("heads", stack.num_heads, mdl, mdl_size),
        ("vocab_size", lm_config.vocab_size, mdl, mdl_size),
        ("model_dims", lm_config.model_dims, mdl, mdl_size),
        ("model_dims", lm_config.model_dims, data, data_size),
        ("feed-forward", stack.hidden_dims, f"{mdl} x {data}", mdl_size * data_size),
    ):
        if size % parts:
            raise InvalidValueError(
                f"mesh {tuple(mesh_shape)}: {what} {size} cannot be split evenly over the {parts} "
                f"devices of axis {axis}; wanted a divisor of {size}"
            )

    lm_config.ici_mesh_shape = list(mesh_shape)
    lm_config.mesh_axis_names = list(mesh_axis_names)

    batch = (replica, data)
    # With replicas too, XLA (jaxlib 0.5.3) gives rows of the batch each other's values where it
    # contracts a D cut over `mdl` with weights cut over `data`; tests/model shows the mesh.
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
