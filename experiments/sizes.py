"""The sizes of CodeGen: one row per size. Standard library only, so that listing is instant.

A new size is one row here, and one entry for each accelerator in `meshes.py`. Sources:
  [hub]    `config.json` of Salesforce/codegen-{350M,2B,6B,16B}: the shapes, which are the same in
           salesforce/jaxformer `config/*.json`. Parameter counts are those of the released networks
           with the vocabulary padded to 51,200, and are asserted against the real network.
  [paper]  arXiv 2203.13474, table of hyper-parameters in the appendix.
  [config] salesforce/jaxformer `config/codegen_{350M,2B,6B}_nl.json`, `codegen_350M_multi.json`.
  [ours]   No published value: this project's choice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from codegen_pax.errors import InvalidValueError
from experiments import checks
from experiments.profiles import LAPTOP, LAPTOP_SHORT, PUBLISHED, Profile

# The 50,295 ids of the code vocabulary padded to a multiple of 1,024 (jaxformer's
# `vocab_size`), so that the vocabulary divides over any mesh axis of a power of two.
VOCAB_SIZE = 51_200


class Vocabulary(StrEnum):
    """The vocabulary that tokenises text (see `codegen_pax.text.tokenizer`)."""

    GPT2 = "gpt2"  # 50,257 ids
    CODEGEN = "codegen"  # 50,295 ids
    CODEGEN_2048 = "codegen_2048"  # 2,048 ids: the beginning of the same encoding


class Remat(StrEnum):
    """What each block saves for the backward pass: praxis' `AutodiffCheckpointType`."""

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


class Attention(StrEnum):
    """How attention is computed: `codegen_pax.model.attention.Kind`. The results are the same."""

    PLAIN = "plain"  # all pairs of tokens at once: [B, N, T, T] is held in memory
    CHUNKED = "chunked"  # some queries at a time
    FLASH = "flash"  # JAX's kernel for TPUs, and `chunked` on any other device


@dataclass(frozen=True)
class Size:
    """One row of the table.

    Attributes:
        name: The name in the experiment's name, `CodeGen<name><phase>`.
        layers: Number of blocks.
        model_dims: D, width of the residual stream.
        heads: N, attention heads.
        head_dims: H, dims of one head; N * H = D.
        rotary_dims: Number of rotated dims of a head; even.
        context: Maximum number of tokens in a row.
        vocab_size: V, the ids of the projection.
        vocabulary: The vocabulary of all its phases; None for each phase's own.
        remat: What each block saves for the backward pass, by praxis' name. The published sizes
            save nothing, as in jaxformer (`hk.remat` of each block).
        attention: How attention is computed; the published sizes do not hold [B, N, T, T].
        loss_chunk: The tokens of each device whose logits the loss holds at once; 0 holds those of
            all.
        batch_tokens: Tokens per step, by the batch that a recipe chooses (`Recipe.batch`).
        learning_rate: Maximum learning rates, by the phase that `Phase.rates` names.
        learning_rate_end: Floors of the cosine, by that phase too, where a source gives one;
            elsewhere the floor is a tenth of the maximum.
        profile: The data and the length of runs, and how often they report.

    Raises:
        ValueError: A value is invalid, or the shapes do not fit together.
    """

    name: str
    layers: int
    model_dims: int
    heads: int
    head_dims: int
    rotary_dims: int
    context: int
    vocab_size: int = VOCAB_SIZE
    vocabulary: Vocabulary | None = None
    remat: Remat = Remat.SAVE_NOTHING
    attention: Attention = Attention.PLAIN
    loss_chunk: int = 0
    batch_tokens: Mapping[str, int] = field(default_factory=dict)
    learning_rate: Mapping[str, float] = field(default_factory=dict)
    learning_rate_end: Mapping[str, float] = field(default_factory=dict)
    profile: Profile = PUBLISHED

    def __post_init__(self):
        owner = f"size {self.name}"
        checks.word("size", "name", self.name)
        for name in ("layers", "model_dims", "heads", "head_dims", "rotary_dims", "vocab_size"):
            checks.store(self, name, checks.integer(owner, name, getattr(self, name)))
        checks.store(self, "context", checks.row_tokens(owner, "context", self.context))
        if self.vocabulary is not None:
            chosen = checks.choice(owner, "vocabulary", self.vocabulary, Vocabulary)
            checks.store(self, "vocabulary", chosen)
        checks.store(self, "remat", checks.choice(owner, "remat", self.remat, Remat))
        attention = checks.choice(owner, "attention", self.attention, Attention)
        checks.store(self, "attention", attention)
        checks.store(self, "loss_chunk", checks.count(owner, "loss_chunk", self.loss_chunk))
        checks.instance(owner, "profile", self.profile, Profile, "a profile, as PUBLISHED")
        for name, check, kind in (
            ("batch_tokens", checks.integer, "recipe"),
            ("learning_rate", checks.positive, "phase"),
            ("learning_rate_end", checks.number, "phase"),
        ):
            table = checks.table(owner, name, getattr(self, name), check, kind=kind)
            checks.store(self, name, table)
        if self.model_dims != self.heads * self.head_dims:
            raise InvalidValueError(
                f"{owner}: model_dims={self.model_dims}; expected heads * head_dims, "
                f"{self.heads} * {self.head_dims} = {self.heads * self.head_dims}"
            )
        if self.rotary_dims % 2 or self.rotary_dims > self.head_dims:
            raise InvalidValueError(
                f"{owner}: rotary_dims={self.rotary_dims}; expected an even number, at most "
                f"head_dims={self.head_dims}"
            )

    @property
    def parameters(self) -> int:
        """Parameters of the released network, without embedding bias (`Declaration.parameters`)."""
        return network_parameters(self.layers, self.model_dims, self.vocab_size)

    def values(self) -> dict[str, Any]:
        """Returns the network in plain values, as receipts record it.

        `embedded` says whether the size is run on a laptop, with text that every machine has.
        """
        names = ("name", "layers", "model_dims", "heads", "head_dims", "rotary_dims", "context")
        return {
            **{name: getattr(self, name) for name in names},
            "embedded": self.profile.on_laptop,
            "vocab_size": self.vocab_size,
            "remat": self.remat.value,
            "attention": self.attention.value,
            "loss_chunk": self.loss_chunk,
        }

    @property
    def multiplied_weights(self) -> int:
        """The weights of the matrices that a token's activations are multiplied by.

        Per block: qkv 3d^2, projection d^2, feed-forward 8d^2. Outside: the projection V*d. The
        embedding's table is looked up rather than multiplied; biases and layer norms are no
        matrices.
        """
        d = self.model_dims
        return self.layers * 12 * d * d + self.vocab_size * d

    def flops_per_token(self, row_length: int | None = None) -> int:
        """Returns the model FLOPs to train on one token, without recomputation.

        They are 6 FLOPs per weight that is multiplied (2 forward, 4 backward), and
        12 * layers * N * H * T for the attention scores and their weighted sum, of all T x T pairs
        of positions (arXiv 2204.02311, appendix B). What is not a product of matrices is not
        counted.

        Args:
            row_length: T, tokens in a row; the context if None.
        """
        return 6 * self.multiplied_weights + self._attention_flops_per_token(row_length)

    def causal_flops_per_token(self, row_length: int | None = None) -> int:
        """Returns the same with half of the attention, as a causal mask needs only that.

        This is the convention of MaxText since July 2025.

        Args:
            row_length: T, tokens in a row; the context if None.
        """
        return 6 * self.multiplied_weights + self._attention_flops_per_token(row_length) // 2

    def _attention_flops_per_token(self, row_length: int | None) -> int:
        return 12 * self.layers * self.heads * self.head_dims * (row_length or self.context)


def network_parameters(layers: int, d: int, v: int = VOCAB_SIZE) -> int:
    """Returns the parameters of the released network.

    Per block: layer norm 2d, qkv 3d^2, projection d^2, feed-forward 8d^2 + 5d (biases 4d and d).
    Outside: embedding V*d, final layer norm 2d, projection V*d + V.
    """
    block = 2 * d + 3 * d * d + d * d + 8 * d * d + 5 * d
    return layers * block + 2 * v * d + v + 2 * d


# Batches of `jaxformer` are accumulation steps * rows of a micro-batch * 2,048 tokens [config].
# Batches of `paper` are rows * 2,048, which give the round numbers of the paper. Rates of NL are
# [config], 16B's [paper]; rates of Multi and Mono are [paper], 350M's Multi [config]. Rates of
# Instruct are [ours]: about a tenth of Mono's (Nano and Micro: a fifth), as is usual for tuning.
SIZES: dict[str, Size] = {
    size.name: size
    for size in (
        # [ours]: trained in minutes on two CPU cores, to code that looks like Python. Of the full
        # vocabulary nearly all of its arithmetic would be the softmax; the documentation has what
        # was tried.
        Size(
            "Nano",  # 921,344 parameters
            layers=2,
            model_dims=128,
            heads=4,
            head_dims=32,
            rotary_dims=16,
            context=160,
            vocab_size=2_048,
            vocabulary=Vocabulary.CODEGEN_2048,
            remat=Remat.SAVE_EVERYTHING,
            attention=Attention.FLASH,
            batch_tokens={"jaxformer": 4 * 160, "paper": 4 * 160},
            learning_rate={"NL": 4e-3, "Multi": 4e-3, "Mono": 4e-3, "Instruct": 1e-3},
            profile=LAPTOP,
        ),
        # [ours]: the smallest size of the full vocabulary, to try what depends on it: prepared
        # corpora, conversions, tokenisers.
        Size(
            "Micro",  # 13,553,664
            layers=2,
            model_dims=128,
            heads=4,
            head_dims=32,
            rotary_dims=16,
            context=256,
            remat=Remat.SAVE_EVERYTHING,
            attention=Attention.FLASH,
            batch_tokens={"jaxformer": 4 * 256, "paper": 4 * 256},
            learning_rate={"NL": 5e-3, "Multi": 5e-3, "Mono": 5e-3, "Instruct": 1e-3},
            profile=LAPTOP_SHORT,
        ),
        Size(
            "350M",  # 356,712,448
            layers=20,
            model_dims=1024,
            heads=16,
            head_dims=64,
            rotary_dims=32,
            context=2048,
            attention=Attention.FLASH,
            batch_tokens={
                "jaxformer": 32 * 8 * 2048,  # 524,288
                "paper": 256 * 2048,  # 0.5M = 524,288
            },
            learning_rate={"NL": 3.0e-4, "Multi": 1.8e-4, "Mono": 1.8e-4, "Instruct": 2.0e-5},
            learning_rate_end={"Multi": 3.0e-5},  # [config]: NL's floor, not a tenth of 1.8e-4
        ),
        Size(
            "2B",  # 2,779,356,160
            layers=32,
            model_dims=2560,
            heads=32,
            head_dims=80,
            rotary_dims=64,
            context=2048,
            attention=Attention.FLASH,
            batch_tokens={
                "jaxformer": 16 * 32 * 2048,  # 1,048,576
                "paper": 512 * 2048,  # 1M = 1,048,576
            },
            learning_rate={"NL": 1.6e-4, "Multi": 0.8e-4, "Mono": 0.8e-4, "Instruct": 1.0e-5},
        ),
        Size(
            "6B",  # 7,064,213,504
            layers=33,
            model_dims=4096,
            heads=16,
            head_dims=256,
            rotary_dims=64,
            context=2048,
            attention=Attention.FLASH,
            batch_tokens={
                "jaxformer": 16 * 32 * 2048,  # 1,048,576, where the paper says 2M
                "paper": 1024 * 2048,  # 2M = 2,097,152
            },
            learning_rate={"NL": 1.2e-4, "Multi": 0.4e-4, "Mono": 0.4e-4, "Instruct": 0.5e-5},
        ),
        Size(
            "16B",  # 16,032,155,648
            layers=34,
            model_dims=6144,
            heads=24,
            head_dims=256,
            rotary_dims=64,
            context=2048,
            attention=Attention.FLASH,
            batch_tokens={
                "jaxformer": 16 * 64 * 2048,  # no config published; the paper's 2M: 2,097,152
                "paper": 1024 * 2048,  # 2M = 2,097,152
            },
            learning_rate={"NL": 0.9e-4, "Multi": 0.5e-4, "Mono": 0.5e-4, "Instruct": 0.5e-5},
        ),
    )
}
