"""Whole networks in memory, between the variables of Pax and the arrays of the other layouts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from codegen_pax.weights import cuts, layout
from codegen_pax.weights.layout import Dimensions


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
    leaves = _to_pax(arrays, cuts.jaxformer(dims, mp_num=mp_num), dims)
    if not dims.embedding_bias:
        leaves[layout.EMBEDDING.path] += arrays[layout.EMBEDDING_BIAS.jaxformer]
    return _nest(leaves)


def from_hugging_face(
    arrays: Mapping[str, np.ndarray],
    dims: Dimensions,
    *,
    mp_num: int = layout.HUGGING_FACE_MP_NUM,
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
    arrays = {name: array for name, array in arrays.items() if not layout.is_constant(name)}
    leaves = _to_pax(arrays, cuts.hugging_face(dims, mp_num=mp_num), dims)
    if dims.embedding_bias:
        table = leaves[layout.EMBEDDING.path]
        leaves[layout.EMBEDDING_BIAS.path] = np.zeros_like(table, shape=table.shape[1:])
    return _nest(leaves)


def to_hugging_face(
    tree: Mapping[str, Any], dims: Dimensions, *, mp_num: int = layout.HUGGING_FACE_MP_NUM
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
    layout.check_shapes(
        "Pax",
        {"/".join(path): np.shape(leaf) for path, leaf in leaves.items()},
        {"/".join(weight.path): weight.pax_shape(dims) for weight in layout.weights(dims)},
    )
    bias = leaves.get(layout.EMBEDDING_BIAS.path)
    if bias is not None and np.any(bias):  # -0.0 would become 0.0
        leaves[layout.EMBEDDING.path] = leaves[layout.EMBEDDING.path] + bias
    found = cuts.hugging_face(dims, mp_num=mp_num)
    arrays: dict[str, np.ndarray] = {}
    for cut in found.cuts:
        leaf = leaves[cut.weight.path]
        if cut.tensor not in arrays:
            arrays[cut.tensor] = np.empty(found.shapes[cut.tensor], leaf.dtype)
        arrays[cut.tensor][cut.start : cut.stop] = cuts.from_pax(cut, leaf[cut.index])
    return {name: arrays[name] for name in found.shapes}


def fuse_qkv(qkv: np.ndarray, *, mp_num: int) -> np.ndarray:
    """Undoes `layout.split_qkv`: [..., 3, D, N, H] to [..., D, 3 N H]."""
    *batch, _, dims, heads, head_dims = qkv.shape
    layout.check_groups(heads, mp_num)
    query, key, value = np.moveaxis(qkv, -4, 0)
    grouped = [
        part.reshape(*batch, dims, mp_num, heads // mp_num, head_dims)
        for part in (query, value, key)
    ]
    return np.stack(grouped, axis=-3).reshape(*batch, dims, 3 * heads * head_dims)


def _to_pax(
    arrays: Mapping[str, np.ndarray], found: cuts.Layout, dims: Dimensions
) -> dict[tuple[str, ...], np.ndarray]:
    layout.check_shapes(
        found.name, {name: np.shape(array) for name, array in arrays.items()}, found.shapes
    )
    leaves: dict[tuple[str, ...], np.ndarray] = {}
    for cut in found.cuts:
        array = np.asarray(arrays[cut.tensor])
        if cut.weight.path not in leaves:
            leaves[cut.weight.path] = np.empty(cut.weight.pax_shape(dims), array.dtype)
        if array.ndim > len(cut.weight.plain_shape(dims)):  # layers are stacked
            array = array.reshape(-1, *array.shape[2:])
        part = cuts.to_pax(cut, array[cut.start : cut.stop], dims, found.mp_num)
        leaves[cut.weight.path][cut.index] = part
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
