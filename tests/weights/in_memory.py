"""Converts whole networks in memory, as the reference of the conversions in slices."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from codegen_pax.runs.checkpoint_arrays import check_shapes
from codegen_pax.weights import fused_qkv, layouts, slices
from codegen_pax.weights.layouts import Dimensions


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
    leaves = _to_pax(arrays, layouts.jaxformer(dims, mp_num=mp_num))
    if not dims.embedding_bias:
        leaves[layouts.EMBEDDING.path] += arrays[layouts.EMBEDDING_BIAS.jaxformer]
    return _nest(leaves)


def from_hugging_face(
    arrays: Mapping[str, np.ndarray],
    dims: Dimensions,
    *,
    mp_num: int = layouts.HUGGING_FACE_MP_NUM,
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
    arrays = {name: array for name, array in arrays.items() if not layouts.is_constant(name)}
    leaves = _to_pax(arrays, layouts.hugging_face(dims, mp_num=mp_num))
    if dims.embedding_bias:
        table = leaves[layouts.EMBEDDING.path]
        leaves[layouts.EMBEDDING_BIAS.path] = np.zeros_like(table, shape=table.shape[1:])
    return _nest(leaves)


def to_hugging_face(
    tree: Mapping[str, Any], dims: Dimensions, *, mp_num: int = layouts.HUGGING_FACE_MP_NUM
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
    check_shapes(
        "Pax",
        {"/".join(path): np.shape(leaf) for path, leaf in leaves.items()},
        {"/".join(weight.path): weight.pax_shape(dims) for weight in layouts.weights(dims)},
    )
    bias = leaves.get(layouts.EMBEDDING_BIAS.path)
    if bias is not None and np.any(bias):  # -0.0 would become 0.0
        leaves[layouts.EMBEDDING.path] = leaves[layouts.EMBEDDING.path] + bias
    layout = layouts.hugging_face(dims, mp_num=mp_num)
    arrays: dict[str, np.ndarray] = {}
    for slice_ in slices.make_slices(layout):
        leaf = leaves[slice_.weight.path]
        if slice_.tensor not in arrays:
            arrays[slice_.tensor] = np.empty(layout.shapes[slice_.tensor], leaf.dtype)
        arrays[slice_.tensor][slice_.start : slice_.stop] = slices.from_pax(
            slice_, leaf[slice_.index]
        )
    return {name: arrays[name] for name in layout.shapes}


def to_jaxformer(
    tree: Mapping[str, Any], dims: Dimensions, *, mp_num: int
) -> dict[str, np.ndarray]:
    """Returns jaxformer's parameters; undoes `from_jaxformer`.

    Without an embedding's bias in the tree it is zero.

    Args:
        tree: the variables of `model.language_model`, as they lie under `params/lm`.
        dims: the sizes of the network.
        mp_num: cores in jaxformer's `mp` axis.
    """
    leaves = {layouts.EMBEDDING_BIAS.path: np.zeros(dims.model_dims, np.float32)}
    leaves |= dict(_flatten(tree))
    parameters = {}
    for weight in layouts.WEIGHTS:
        array = leaves[weight.path]
        if weight.projection == "qkv":
            array = fuse_qkv(array, mp_num=mp_num)
        elif weight.projection == "post":
            array = np.swapaxes(array.reshape(dims.layers, dims.model_dims, -1), 1, 2)
        parameters[weight.jaxformer] = np.ascontiguousarray(array)
    return parameters


def fuse_qkv(qkv: np.ndarray, *, mp_num: int) -> np.ndarray:
    """Undoes `fused_qkv.split_qkv`: [..., 3, D, N, H] to [..., D, 3 N H]."""
    *batch, _, dims, heads, head_dims = qkv.shape
    blocks = [
        qkv[..., block.projection, :, block.first_head : block.first_head + block.num_heads, :]
        for block in fused_qkv.fused_blocks(heads, mp_num)
    ]
    return np.concatenate(blocks, axis=-2).reshape(*batch, dims, 3 * heads * head_dims)


def _to_pax(
    arrays: Mapping[str, np.ndarray], layout: layouts.Layout
) -> dict[tuple[str, ...], np.ndarray]:
    check_shapes(
        layout.name, {name: np.shape(array) for name, array in arrays.items()}, layout.shapes
    )
    leaves: dict[tuple[str, ...], np.ndarray] = {}
    for slice_ in slices.make_slices(layout):
        array = np.asarray(arrays[slice_.tensor])
        if slice_.weight.path not in leaves:
            leaves[slice_.weight.path] = np.empty(slice_.weight.pax_shape(layout.dims), array.dtype)
        if array.ndim > len(slice_.weight.layer_shape(layout.dims)):  # layers are stacked
            array = array.reshape(-1, *array.shape[2:])
        part = slices.to_pax(slice_, array[slice_.start : slice_.stop], layout)
        leaves[slice_.weight.path][slice_.index] = part
    return leaves


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
