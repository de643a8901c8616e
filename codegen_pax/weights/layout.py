"""Where each weight of CodeGen lies in the layouts of Pax, Hugging Face, jaxformer and GPT-J.

All hold the same weights. They differ in names, in whether a matrix is [in, out] or [out, in], in
whether layers are stacked, in the heads of the fused query-value-key matrix, which GPT-J keeps as
three, and in the embedding's bias, which jaxformer trains and Hugging Face does not have.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from codegen_pax.errors import InvalidValueError

# Column groups of the fused matrix in every released Hugging Face checkpoint, and in transformers
# (`mp_num` in modeling_codegen.py).
HUGGING_FACE_MP_NUM = 4

_BLOCK = ("transformer", "repeat", "sub", "x_layers_0")
HUGGING_FACE_BLOCK = "transformer.h.{layer}."
# Constants that older versions of transformers, and jaxformer's exporter, saved in each layer.
_HUGGING_FACE_CONSTANTS = (
    ".attn.causal_mask",
    ".attn.masked_bias",
    ".attn.bias",
    ".attn.scale_attn",
    ".attn.embed_positions",
    ".inv_freq",
)


@dataclasses.dataclass(frozen=True)
class Dimensions:
    """The sizes that decide every shape; the fields are arguments of `model.language_model`."""

    layers: int
    model_dims: int
    heads: int
    vocab_size: int
    embedding_bias: bool

    @classmethod
    def of(cls, size: Any, *, embedding_bias: bool) -> Dimensions:
        """The sizes of a row of the table of sizes, which has all but the last."""
        names = ("layers", "model_dims", "heads", "vocab_size")
        return cls(*(getattr(size, name) for name in names), embedding_bias)

    @property
    def head_dims(self) -> int:
        """H."""
        return self.model_dims // self.heads


@dataclasses.dataclass(frozen=True)
class Weight:
    """One weight in the three layouts.

    Attributes:
        path: keys in the tree of variables of `model.language_model`.
        hugging_face: name in a state dict, with `{layer}` for one array a layer; None: not there.
        jaxformer: name in haiku's flattened parameters.
        shape: in jaxformer's layout without the axis of layers, in letters: "D 3D".
        rule: how the last axes become Pax's: "same", "qkv" or "post".
        transposed: whether Hugging Face keeps the matrix as [out, in].
    """

    path: tuple[str, ...]
    hugging_face: str | None
    jaxformer: str
    shape: str
    rule: str = "same"
    transposed: bool = False

    @property
    def stacked(self) -> bool:
        """Whether Pax and jaxformer hold it with a leading axis of layers."""
        return self.path[: len(_BLOCK)] == _BLOCK

    def plain_shape(self, dims: Dimensions) -> tuple[int, ...]:
        """The shape of one layer's array in jaxformer's layout."""
        sizes = {"D": dims.model_dims, "V": dims.vocab_size}
        return tuple(int(letter[:-1] or 1) * sizes[letter[-1]] for letter in self.shape.split())

    def pax_shape(self, dims: Dimensions) -> tuple[int, ...]:
        """The shape of the variable, layers first where they are stacked."""
        shape = self.plain_shape(dims)
        head = (dims.heads, dims.head_dims)
        if self.rule == "qkv":
            shape = (3, dims.model_dims, *head)
        elif self.rule == "post":
            shape = (dims.model_dims, *head)
        return (dims.layers,) * self.stacked + shape

    def jaxformer_shape(self, dims: Dimensions) -> tuple[int, ...]:
        """The shape in jaxformer's layout, layers first where they are stacked."""
        return (dims.layers,) * self.stacked + self.plain_shape(dims)

    def hugging_face_shape(self, dims: Dimensions) -> tuple[int, ...]:
        """The shape of one layer's array in a state dict."""
        shape = self.plain_shape(dims)
        return shape[::-1] if self.transposed else shape

    @property
    def variable(self) -> str:
        """Its name among the variables of a `CodeGenModel`: "params.lm.final_ln.scale"."""
        return ".".join(("params", "lm", *self.path))


EMBEDDING_BIAS = Weight(("embedding_lookup", "b"), None, "embed/embedding_sharded/~/proj/b", "D")
EMBEDDING = Weight(
    ("embedding_lookup", "emb_var"),
    "transformer.wte.weight",
    "embed/embedding_sharded/~/proj/w",
    "V D",
)
OUTPUT_BIAS = Weight(
    ("softmax", "logits_ffn", "bias", "b"), "lm_head.bias", "proj/projection/~/linear/b", "V"
)


def _block_weight(path: str, hugging_face: str, jaxformer: str, shape: str, **kwargs) -> Weight:
    return Weight(
        (*_BLOCK, *path.split("/")),
        HUGGING_FACE_BLOCK + hugging_face,
        "transformer/block/~/" + jaxformer,
        shape,
        **kwargs,
    )


WEIGHTS: tuple[Weight, ...] = (
    EMBEDDING,
    EMBEDDING_BIAS,
    _block_weight("layer_norm/scale", "ln_1.weight", "ln/scale", "D"),
    _block_weight("layer_norm/bias", "ln_1.bias", "ln/offset", "D"),
    _block_weight(
        "self_attention/combined_qkv/w",
        "attn.qkv_proj.weight",
        "attn/~/proj_qkv/w",
        "D 3D",
        rule="qkv",
        transposed=True,
    ),
    _block_weight(
        "self_attention/post/w",
        "attn.out_proj.weight",
        "attn/~/proj_out/w",
        "D D",
        rule="post",
        transposed=True,
    ),
    _block_weight(
        "ff_layer/ffn_layer1/linear/w",
        "mlp.fc_in.weight",
        "ff/~/proj_in/w",
        "D 4D",
        transposed=True,
    ),
    _block_weight("ff_layer/ffn_layer1/bias/b", "mlp.fc_in.bias", "ff/~/proj_in/b", "4D"),
    _block_weight(
        "ff_layer/ffn_layer2/linear/w",
        "mlp.fc_out.weight",
        "ff/~/proj_out/w",
        "4D D",
        transposed=True,
    ),
    _block_weight("ff_layer/ffn_layer2/bias/b", "mlp.fc_out.bias", "ff/~/proj_out/b", "D"),
    Weight(
        ("final_ln", "scale"),
        "transformer.ln_f.weight",
        "proj/projection/~/layer_norm/scale",
        "D",
    ),
    Weight(
        ("final_ln", "bias"), "transformer.ln_f.bias", "proj/projection/~/layer_norm/offset", "D"
    ),
    Weight(
        ("softmax", "logits_ffn", "linear", "w"),
        "lm_head.weight",
        "proj/projection/~/linear/w",
        "D V",
        transposed=True,
    ),
    OUTPUT_BIAS,
)


def split_qkv(fused: np.ndarray, *, heads: int, mp_num: int) -> np.ndarray:
    """Cuts the fused matrix into query, key and value.

    The columns are `mp_num` groups; each holds N / mp_num heads of queries, then of **values**,
    then of keys. A wrong `mp_num` scrambles the heads without any error.

    Args:
        fused: [..., D, 3 N H].
        heads: N.
        mp_num: column groups: 4 in Hugging Face's layout; in jaxformer's, the cores of its `mp`
            axis.

    Returns:
        [..., 3, D, N, H], in the order query, key, value.
    """
    check_groups(heads, mp_num)
    *batch, dims, columns = fused.shape
    grouped = fused.reshape(*batch, dims, mp_num, 3, heads // mp_num, columns // (3 * heads))
    query, value, key = (
        grouped[..., i, :, :].reshape(*batch, dims, heads, columns // (3 * heads)) for i in range(3)
    )
    return np.stack([query, key, value], axis=-4)


def check_groups(heads: int, mp_num: int) -> None:
    """Raises ValueError unless the heads can be cut into so many groups."""
    if mp_num < 1 or heads % mp_num:
        raise InvalidValueError(f"mp_num must divide the {heads} heads; found {mp_num}")


def weights(dims: Dimensions) -> list[Weight]:
    """The weights of a network of this size, in the order of Hugging Face's state dict."""
    return [weight for weight in WEIGHTS if dims.embedding_bias or weight != EMBEDDING_BIAS]


def is_constant(name: str) -> bool:
    """Whether a state dict's array is no weight, but what the network can do without."""
    return name.endswith(_HUGGING_FACE_CONSTANTS)


def check_shapes(
    layout: str, found: Mapping[str, Sequence[int]], wanted: Mapping[str, Sequence[int]]
) -> None:
    """Refuses arrays that are missing, unknown or misshaped.

    Args:
        layout: what the arrays are of, as the message calls it.
        found: shapes by name.
        wanted: shapes by name.

    Raises:
        ValueError: one line that names the first.
    """
    missing = [name for name in wanted if name not in found]
    extra = [name for name in found if name not in wanted]
    if extra:
        nearest = difflib.get_close_matches(extra[0], missing or wanted, n=1, cutoff=0.0)[0]
        raise InvalidValueError(
            f"{layout} weights: {len(extra)} unknown, the first {extra[0]!r}; "
            f"the nearest name wanted is {nearest!r}"
        )
    if missing:
        raise InvalidValueError(
            f"{layout} weights: {len(missing)} of {len(wanted)} missing, the first {missing[0]!r}"
        )
    for name, shape in wanted.items():
        if tuple(found[name]) != tuple(shape):
            raise InvalidValueError(
                f"{layout} weights: {name} has shape {tuple(found[name])}, wanted {tuple(shape)}"
            )
