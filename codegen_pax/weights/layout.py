"""Where each weight of CodeGen lies in the layouts of Pax, Hugging Face and jaxformer.

All three hold the same weights. They differ in names, in whether a matrix is [in, out] or
[out, in], in whether layers are stacked, in the heads of the fused query-value-key matrix, and in
the embedding's bias, which jaxformer trains and Hugging Face does not have.
"""

import dataclasses
import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

# Column groups of the fused matrix in every released Hugging Face checkpoint, and in transformers
# (`mp_num` in modeling_codegen.py).
HUGGING_FACE_MP_NUM = 4

_BLOCK = ("transformer", "repeat", "sub", "x_layers_0")
_HUGGING_FACE_BLOCK = "transformer.h.{layer}."
# A constant that older versions of transformers saved among the weights of each layer.
_HUGGING_FACE_MASK = ".attn.causal_mask"


@dataclasses.dataclass(frozen=True)
class Dimensions:
    """The sizes that decide every shape; the fields are arguments of `model.language_model`."""

    layers: int
    model_dims: int
    heads: int
    vocab_size: int
    embedding_bias: bool


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


_EMBEDDING_BIAS = Weight(("embedding_lookup", "b"), None, "embed/embedding_sharded/~/proj/b", "D")
_EMBEDDING = Weight(
    ("embedding_lookup", "emb_var"),
    "transformer.wte.weight",
    "embed/embedding_sharded/~/proj/w",
    "V D",
)


def _block_weight(path: str, hugging_face: str, jaxformer: str, shape: str, **kwargs) -> Weight:
    return Weight(
        (*_BLOCK, *path.split("/")),
        _HUGGING_FACE_BLOCK + hugging_face,
        "transformer/block/~/" + jaxformer,
        shape,
        **kwargs,
    )


WEIGHTS: tuple[Weight, ...] = (
    _EMBEDDING,
    _EMBEDDING_BIAS,
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
    Weight(
        ("softmax", "logits_ffn", "bias", "b"), "lm_head.bias", "proj/projection/~/linear/b", "V"
    ),
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
    _check_groups(heads, mp_num)
    *batch, dims, columns = fused.shape
    grouped = fused.reshape(*batch, dims, mp_num, 3, heads // mp_num, columns // (3 * heads))
    query, value, key = (
        grouped[..., i, :, :].reshape(*batch, dims, heads, columns // (3 * heads)) for i in range(3)
    )
    return np.stack([query, key, value], axis=-4)


def fuse_qkv(qkv: np.ndarray, *, mp_num: int) -> np.ndarray:
    """Undoes `split_qkv`: [..., 3, D, N, H] to [..., D, 3 N H]."""
    *batch, _, dims, heads, head_dims = qkv.shape
    _check_groups(heads, mp_num)
    query, key, value = np.moveaxis(qkv, -4, 0)
    grouped = [
        part.reshape(*batch, dims, mp_num, heads // mp_num, head_dims)
        for part in (query, value, key)
    ]
    return np.stack(grouped, axis=-3).reshape(*batch, dims, 3 * heads * head_dims)


def _check_groups(heads: int, mp_num: int) -> None:
    if mp_num < 1 or heads % mp_num:
        raise ValueError(f"mp_num must divide the {heads} heads; found {mp_num}")


def from_jaxformer(
    arrays: Mapping[str, np.ndarray], dims: Dimensions, *, mp_num: int
) -> dict[str, Any]:
    """Returns the variables of `model.language_model` from jaxformer's parameters.

    Without `dims.embedding_bias` the embedding's bias is added to every row of the table, as
    jaxformer's own exporter does.

    Args:
        arrays: haiku's parameters by full name ("transformer/block/~/ln/scale"), layers stacked.
        dims: the sizes of the network.
        mp_num: cores in jaxformer's `mp` axis: 8 on TPU v3, 4 on v4.

    Returns:
        The nested tree, as it lies under `params/lm` of a `CodeGenModel`.

    Raises:
        ValueError: an array is missing, unknown or of another shape.
    """
    wanted = {weight.jaxformer: _stacked_shape(weight, dims) for weight in WEIGHTS}
    _check_arrays("jaxformer", arrays, wanted)
    leaves = {
        weight.path: _plain_to_pax(weight, arrays[weight.jaxformer], dims, mp_num)
        for weight in WEIGHTS
    }
    if not dims.embedding_bias:
        leaves[_EMBEDDING.path] = leaves[_EMBEDDING.path] + leaves.pop(_EMBEDDING_BIAS.path)
    return _nest(leaves)


def from_hugging_face(
    arrays: Mapping[str, np.ndarray], dims: Dimensions, *, mp_num: int = HUGGING_FACE_MP_NUM
) -> dict[str, Any]:
    """Returns the variables of `model.language_model` from a `CodeGenForCausalLM` state dict.

    With `dims.embedding_bias` the bias is zero: the table already holds it.

    Args:
        arrays: the state dict's arrays by name.
        dims: the sizes of the network.
        mp_num: column groups of `qkv_proj`.

    Returns:
        The nested tree, as it lies under `params/lm` of a `CodeGenModel`.

    Raises:
        ValueError: an array is missing, unknown or of another shape.
    """
    arrays = {name: a for name, a in arrays.items() if not name.endswith(_HUGGING_FACE_MASK)}
    weights = [weight for weight in WEIGHTS if weight.hugging_face]
    wanted = {
        name: _hugging_face_shape(weight, dims)
        for weight in weights
        for name in _hugging_face_names(weight, dims)
    }
    _check_arrays("Hugging Face", arrays, wanted)
    leaves = {}
    for weight in weights:
        parts = [_transpose(weight, arrays[name]) for name in _hugging_face_names(weight, dims)]
        plain = np.stack(parts) if weight.stacked else parts[0]
        leaves[weight.path] = _plain_to_pax(weight, plain, dims, mp_num)
    if dims.embedding_bias:
        table = leaves[_EMBEDDING.path]
        leaves[_EMBEDDING_BIAS.path] = np.zeros_like(table, shape=table.shape[1:])
    return _nest(leaves)


def to_hugging_face(
    tree: Mapping[str, Any], dims: Dimensions, *, mp_num: int = HUGGING_FACE_MP_NUM
) -> dict[str, np.ndarray]:
    """Returns a `CodeGenForCausalLM` state dict; undoes `from_hugging_face`.

    The embedding's bias, when there is one, is added to every row of the table.

    Args:
        tree: the variables of `model.language_model`, as they lie under `params/lm`.
        dims: the sizes of the network.
        mp_num: column groups of `qkv_proj`.

    Raises:
        ValueError: a variable is missing, unknown or of another shape.
    """
    leaves = dict(_flatten(tree))
    weights = [weight for weight in WEIGHTS if dims.embedding_bias or weight != _EMBEDDING_BIAS]
    _check_arrays(
        "Pax",
        {"/".join(path): leaf for path, leaf in leaves.items()},
        {"/".join(weight.path): _pax_shape(weight, dims) for weight in weights},
    )
    if dims.embedding_bias:
        leaves[_EMBEDDING.path] = leaves[_EMBEDDING.path] + leaves[_EMBEDDING_BIAS.path]
    arrays = {}
    for weight in weights:
        if weight.hugging_face:
            plain = _pax_to_plain(weight, leaves[weight.path], dims, mp_num)
            parts = plain if weight.stacked else [plain]
            for name, part in zip(_hugging_face_names(weight, dims), parts, strict=True):
                arrays[name] = np.ascontiguousarray(_transpose(weight, part))
    return arrays


def _plain_to_pax(weight: Weight, plain: np.ndarray, dims: Dimensions, mp_num: int) -> np.ndarray:
    """[..., in, out] to Pax's axes."""
    if weight.rule == "qkv":
        return split_qkv(plain, heads=dims.heads, mp_num=mp_num)
    if weight.rule == "post":
        *batch, columns, rows = plain.shape
        split = plain.reshape(*batch, dims.heads, columns // dims.heads, rows)
        return np.moveaxis(split, -1, -3)
    return plain


def _pax_to_plain(weight: Weight, leaf: np.ndarray, dims: Dimensions, mp_num: int) -> np.ndarray:
    """Undoes `_plain_to_pax`."""
    if weight.rule == "qkv":
        return fuse_qkv(leaf, mp_num=mp_num)
    if weight.rule == "post":
        *batch, rows, heads, head_dims = leaf.shape
        return np.moveaxis(leaf, -3, -1).reshape(*batch, heads * head_dims, rows)
    return leaf


def _transpose(weight: Weight, array: np.ndarray) -> np.ndarray:
    return array.T if weight.transposed else array


def _stacked_shape(weight: Weight, dims: Dimensions) -> tuple[int, ...]:
    return (dims.layers,) * weight.stacked + weight.plain_shape(dims)


def _hugging_face_shape(weight: Weight, dims: Dimensions) -> tuple[int, ...]:
    shape = weight.plain_shape(dims)
    return shape[::-1] if weight.transposed else shape


def _pax_shape(weight: Weight, dims: Dimensions) -> tuple[int, ...]:
    shape = _stacked_shape(weight, dims)
    head = (dims.heads, dims.model_dims // dims.heads)
    if weight.rule == "qkv":
        return (*shape[:-2], 3, dims.model_dims, *head)
    if weight.rule == "post":
        return (*shape[:-2], dims.model_dims, *head)
    return shape


def _hugging_face_names(weight: Weight, dims: Dimensions) -> list[str]:
    count = dims.layers if weight.stacked else 1
    return [weight.hugging_face.format(layer=layer) for layer in range(count)]


def _check_arrays(
    layout: str, found: Mapping[str, np.ndarray], wanted: Mapping[str, Sequence[int]]
) -> None:
    """Raises one line that names the first array that is missing, unknown or misshaped."""
    missing = [name for name in wanted if name not in found]
    extra = [name for name in found if name not in wanted]
    if extra:
        nearest = difflib.get_close_matches(extra[0], missing or wanted, n=1, cutoff=0.0)[0]
        raise ValueError(
            f"{layout} weights: {len(extra)} unknown, the first {extra[0]!r}; "
            f"the nearest name wanted is {nearest!r}"
        )
    if missing:
        raise ValueError(
            f"{layout} weights: {len(missing)} of {len(wanted)} missing, the first {missing[0]!r}"
        )
    for name, shape in wanted.items():
        if tuple(found[name].shape) != tuple(shape):
            raise ValueError(
                f"{layout} weights: {name} has shape {tuple(found[name].shape)}, "
                f"wanted {tuple(shape)}"
            )


def _nest(leaves: Mapping[tuple[str, ...], np.ndarray]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for path, leaf in leaves.items():
        branch = tree
        for key in path[:-1]:
            branch = branch.setdefault(key, {})
        branch[path[-1]] = leaf
    return tree


def _flatten(tree: Mapping[str, Any]) -> Iterator[tuple[tuple[str, ...], np.ndarray]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            for path, leaf in _flatten(value):
                yield (key, *path), leaf
        else:
            yield (key,), value
