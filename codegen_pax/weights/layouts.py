"""Where each weight of CodeGen lies in the layouts of Pax, Hugging Face, GPT-J and jaxformer.

All of them hold the same numbers. They differ in the names of the tensors, in whether a matrix is
[in, out] or [out, in], in whether the layers are stacked in one tensor, in how query, key and value
are arranged, and in the embedding's bias, which jaxformer trains and Hugging Face does not have.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping
from typing import Any, Literal

from codegen_pax.weights.fused_qkv import KEY, QUERY, VALUE, HeadBlock, fused_blocks

# GPT-J's three matrices, in the order of their names in a state dict.
_GPTJ_PROJECTIONS = {"k_proj": KEY, "v_proj": VALUE, "q_proj": QUERY}

# Column groups of the fused matrix in every released Hugging Face checkpoint, and in transformers
# (`mp_num` in modeling_codegen.py).
HUGGING_FACE_MP_NUM = 4

_BLOCK = ("transformer", "repeat", "sub", "x_layers_0")
_HUGGING_FACE_BLOCK = "transformer.h.{layer}."
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
        """Takes the sizes from a row of the table of sizes, which lacks only the last."""
        return cls(
            layers=size.layers,
            model_dims=size.model_dims,
            heads=size.heads,
            vocab_size=size.vocab_size,
            embedding_bias=embedding_bias,
        )

    @property
    def head_dims(self) -> int:
        """H."""
        return self.model_dims // self.heads


@dataclasses.dataclass(frozen=True)
class Weight:
    """One weight of the network in every layout.

    Attributes:
        path: keys in the tree of variables of `model.language_model`.
        hugging_face: name in a state dict, with `{layer}` where each layer has a tensor; empty if
            the layout has no such weight. GPT-J's names differ only in `qkv_proj`.
        jaxformer: name in haiku's flattened parameters.
        shape: shape of one layer in jaxformer's layout, in letters: "D 3D".
        projection: which projection of the attention it is; its axis of D is N heads of H in Pax.
        transposed: whether Hugging Face stores the matrix as [out, in].
    """

    path: tuple[str, ...]
    hugging_face: str
    jaxformer: str
    shape: str
    projection: Literal["qkv", "post"] | None = None
    transposed: bool = False

    @property
    def stacked(self) -> bool:
        """Whether Pax and jaxformer hold all layers in one array, with a leading axis of layers."""
        return self.path[: len(_BLOCK)] == _BLOCK

    def layer_shape(self, dims: Dimensions) -> tuple[int, ...]:
        """Returns the shape of one layer's array in jaxformer's layout."""
        sizes = {"D": dims.model_dims, "V": dims.vocab_size}
        return tuple(int(letter[:-1] or 1) * sizes[letter[-1]] for letter in self.shape.split())

    def pax_shape(self, dims: Dimensions) -> tuple[int, ...]:
        """Returns the shape of the Pax variable, layers first if they are stacked."""
        shape = self.layer_shape(dims)
        if self.projection == "qkv":
            shape = (3, dims.model_dims, dims.heads, dims.head_dims)
        elif self.projection == "post":
            shape = (dims.model_dims, dims.heads, dims.head_dims)
        return (dims.layers,) * self.stacked + shape

    def jaxformer_shape(self, dims: Dimensions) -> tuple[int, ...]:
        """Returns the shape in jaxformer's layout, layers first if they are stacked."""
        return (dims.layers,) * self.stacked + self.layer_shape(dims)

    def hugging_face_shape(self, dims: Dimensions) -> tuple[int, ...]:
        """Returns the shape of one layer's tensor in a state dict."""
        shape = self.layer_shape(dims)
        return shape[::-1] if self.transposed else shape

    @property
    def variable(self) -> str:
        """Its name among the variables of a `CodeGenModel`: "params.lm.final_ln.scale"."""
        return ".".join(("params", "lm", *self.path))


EMBEDDING_BIAS = Weight(("embedding_lookup", "b"), "", "embed/embedding_sharded/~/proj/b", "D")
EMBEDDING = Weight(
    ("embedding_lookup", "emb_var"),
    "transformer.wte.weight",
    "embed/embedding_sharded/~/proj/w",
    "V D",
)
OUTPUT = Weight(
    ("softmax", "logits_ffn", "linear", "w"),
    "lm_head.weight",
    "proj/projection/~/linear/w",
    "D V",
    transposed=True,
)
OUTPUT_BIAS = Weight(
    ("softmax", "logits_ffn", "bias", "b"), "lm_head.bias", "proj/projection/~/linear/b", "V"
)


def _block_weight(
    path: str, hugging_face: str, jaxformer: str, shape: str, **kwargs: Any
) -> Weight:
    return Weight(
        (*_BLOCK, *path.split("/")),
        _HUGGING_FACE_BLOCK + hugging_face,
        "transformer/block/~/" + jaxformer,
        shape,
        **kwargs,
    )


QKV = _block_weight(
    "self_attention/combined_qkv/w",
    "attn.qkv_proj.weight",
    "attn/~/proj_qkv/w",
    "D 3D",
    projection="qkv",
    transposed=True,
)
POST = _block_weight(
    "self_attention/post/w",
    "attn.out_proj.weight",
    "attn/~/proj_out/w",
    "D D",
    projection="post",
    transposed=True,
)

# In the order of transformers' state dicts.
WEIGHTS: tuple[Weight, ...] = (
    EMBEDDING,
    EMBEDDING_BIAS,
    _block_weight("layer_norm/scale", "ln_1.weight", "ln/scale", "D"),
    _block_weight("layer_norm/bias", "ln_1.bias", "ln/offset", "D"),
    QKV,
    POST,
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
    OUTPUT,
    OUTPUT_BIAS,
)


def weights(dims: Dimensions) -> list[Weight]:
    """Returns the weights of a network, in the order of transformers' state dicts."""
    return [weight for weight in WEIGHTS if dims.embedding_bias or weight != EMBEDDING_BIAS]


def pax_shapes(dims: Dimensions) -> dict[str, tuple[int, ...]]:
    """Returns the shape of each variable of a network in Pax, by its name."""
    return {weight.variable: weight.pax_shape(dims) for weight in weights(dims)}


@dataclasses.dataclass(frozen=True)
class Layout:
    """How the weights of one network are named and arranged outside of Pax.

    Attributes:
        name: 'Hugging Face', 'GPT-J' or 'jaxformer', as messages call it.
        dims: the sizes of the network.
        tensors: names of the tensors that hold each weight, with `{layer}` where each layer has a
            tensor of its own.
        shapes: shapes of all tensors, by name, in the order of a file.
        qkv_blocks: the blocks of each tensor of `layouts.QKV`, in the order of its rows in a state
            dict, or of its columns in jaxformer's layout.
        stacked: whether a tensor holds all layers, with a leading axis of layers.
        mp_num: column groups of the fused matrix; None if query, key and value are separate.
    """

    name: str
    dims: Dimensions
    tensors: Mapping[Weight, tuple[str, ...]]
    shapes: Mapping[str, tuple[int, ...]]
    qkv_blocks: tuple[tuple[HeadBlock, ...], ...]
    stacked: bool
    mp_num: int | None


def hugging_face(dims: Dimensions, *, mp_num: int = HUGGING_FACE_MP_NUM) -> Layout:
    """Returns the layout of `transformers.CodeGenForCausalLM`.

    Args:
        dims: the sizes of the network.
        mp_num: column groups of `qkv_proj`.

    Raises:
        ValueError: `mp_num` does not divide the heads.
    """
    tensors = {weight: (weight.hugging_face,) for weight in _in_hugging_face(dims)}
    blocks = (fused_blocks(dims.heads, mp_num),)
    return Layout(
        "Hugging Face", dims, tensors, _state_dict_shapes(dims, tensors), blocks, False, mp_num
    )


def gptj(dims: Dimensions) -> Layout:
    """Returns the layout of `transformers.GPTJForCausalLM`: query, key and value are separate."""
    tensors: dict[Weight, tuple[str, ...]]
    tensors = {weight: (weight.hugging_face,) for weight in _in_hugging_face(dims)}
    tensors[QKV] = tuple(QKV.hugging_face.replace("qkv_proj", name) for name in _GPTJ_PROJECTIONS)
    blocks = tuple(
        (HeadBlock(projection, 0, dims.heads),) for projection in _GPTJ_PROJECTIONS.values()
    )
    return Layout("GPT-J", dims, tensors, _state_dict_shapes(dims, tensors), blocks, False, None)


def jaxformer(dims: Dimensions, *, mp_num: int) -> Layout:
    """Returns the layout of jaxformer's parameters, layers stacked.

    Files always hold the embedding's bias; it is left out of `tensors` if the network has none.

    Args:
        dims: the sizes of the network.
        mp_num: cores in jaxformer's `mp` axis: 8 on TPU v3, 4 on v4.

    Raises:
        ValueError: `mp_num` does not divide the heads.
    """
    tensors = {weight: (weight.jaxformer,) for weight in weights(dims)}
    shapes = {weight.jaxformer: weight.jaxformer_shape(dims) for weight in WEIGHTS}
    blocks = (fused_blocks(dims.heads, mp_num),)
    return Layout("jaxformer", dims, tensors, shapes, blocks, True, mp_num)


def _in_hugging_face(dims: Dimensions) -> list[Weight]:
    return [weight for weight in weights(dims) if weight.hugging_face]


def _state_dict_shapes(
    dims: Dimensions, tensors: Mapping[Weight, tuple[str, ...]]
) -> dict[str, tuple[int, ...]]:
    """Returns the shapes of tensors by name, in the order of transformers' state dicts."""
    shapes: dict[str, tuple[int, ...]] = {}
    for stacked, group in itertools.groupby(tensors, key=lambda weight: weight.stacked):
        in_layer = list(group)
        for layer in range(dims.layers) if stacked else (0,):
            for weight in in_layer:
                rows, *columns = weight.hugging_face_shape(dims)
                for name in tensors[weight]:
                    shape = (rows // len(tensors[weight]), *columns)
                    shapes[name.format(layer=layer)] = shape
    return shapes


def is_constant(name: str) -> bool:
    """Returns whether a tensor of a state dict is a constant that older versions saved."""
    return name.endswith(_HUGGING_FACE_CONSTANTS)
