"""The choices of words in the tables. Standard library only.

Each is a string too, so that `Recipe(decay="matrices")` and a JSON receipt are of the same words.
"""

from __future__ import annotations

from enum import StrEnum


class Decay(StrEnum):
    """Which arrays are decayed (see `OptaxAdam`)."""

    STACKED_RANK = "stacked_rank"  # more than one axis, the layer axis counted
    MATRICES = "matrices"  # neither layer norms nor biases


class SumDtype(StrEnum):
    """The type of the sum of gradients over micro-batches."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"


class CosineEnds(StrEnum):
    """Where the cosine ends."""

    ANNEAL_STEPS = "anneal_steps"  # so many steps after the warm-up, then flat
    LAST_STEP = "last_step"


class Floor(StrEnum):
    """The rate at the end of the cosine."""

    CONFIG = "config"  # the phase's own where it has one, a tenth of the maximum elsewhere
    TENTH = "tenth"  # of the maximum


class LossOn(StrEnum):
    """Which tokens of a row are learnt."""

    ALL = "all"
    ANSWER = "answer"


class Vocabulary(StrEnum):
    """What text is tokenised by (see `codegen_pax.text.tokenizer`)."""

    GPT2 = "gpt2"  # 50,257 ids
    CODEGEN = "codegen"  # 50,295 ids


class Remat(StrEnum):
    """What the backward pass finds saved of a block: praxis' `AutodiffCheckpointType`."""

    SAVE_NOTHING = "save_nothing"
    SAVE_UNET_ALL_CONV = "save_unet_all_conv"
    SAVE_UNET_CONV = "save_unet_conv"
    SAVE_EVERYTHING = "save_everything"
    SAVE_QKV_OUT_PROJ = "save_qkv_out_proj"
    SAVE_OUT_PROJ = "save_out_proj"
    SAVE_CONTEXT = "save_context"
    SAVE_CONTEXT_AND_OUT_PROJ = "save_encoded_and_out_proj"
    SAVE_DOT_ONLY = "save_dot_only"
    SAVE_DOT_WITH_NO_BATCH_DIM = "save_dot_with_no_batch_dims"
    SAVE_DOT_FOR_MLPERF_200B = "save_dot_for_mlperf_200b"
    SAVE_ITERATION_INPUT = "save_iteration_input"
    SAVE_TRANSFORMER_LAYER_OUTPUT = "save_transformer_layer_output"
    SAVE_QUANTIZED = "save_quantized"
    SAVE_QKV_OUT_PROJ_SEPARATE = "save_qkv_out_proj_separate"
    SAVE_DOT_EXCEPT_LOGITS_FFN1 = "save_dot_except_logits_ffn1"
    SAVE_DOT_EXCEPT_LOGITS = "save_dot_except_logits"
