"""How a network is cut to go from one layout to another a few megabytes at a time.

A cut is some rows of one foreign tensor, which lie one after another in its file, and the part of a
Pax variable that holds the same numbers. Nothing larger than a cut is ever in memory, whatever the
size of the model. The cuts of a variable are a regular grid, and so can be its chunks on disk.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping

import numpy as np

from codegen_pax.weights import layout
from codegen_pax.weights.layout import Dimensions, Weight

# Of one cut: large enough that files are read and written fast, small enough that a dozen of them,
# as many as are alive at a time with their copies, are nothing to a machine.
CUT_BYTES = 32 << 20

# Numpy transposes a matrix as one loop with a long stride: 0.2 GB/s of two-byte numbers here. By as
# many rows as fill half a cache line or one, it is ten times as fast (tiles of 128 x 128: five).
_STRIP = 16

# GPT-J's three matrices, in the order of their names in a state dict, and Pax' number of each.
_GPTJ_PARTS = {"k_proj": 1, "v_proj": 2, "q_proj": 0}
# What stands in each group of the fused matrix, by Pax' number: query, value, key.
_FUSED_PARTS = (0, 2, 1)


@dataclasses.dataclass(frozen=True)
class Cut:
    """Some rows of a foreign tensor, and where they lie in a Pax variable.

    Attributes:
        weight: the weight.
        tensor: name of the foreign tensor.
        start, stop: rows of its first axis; an axis of layers is joined to the one behind it.
        index: of the Pax variable, a slice for every axis.
        rule: how the rows become what the index holds; see `to_pax`.
    """

    weight: Weight
    tensor: str
    start: int
    stop: int
    index: tuple[slice, ...]
    rule: str


@dataclasses.dataclass(frozen=True)
class Layout:
    """A foreign layout of a network.

    Attributes:
        name: as messages call it.
        shapes: of its tensors, by name, in the order a file has them.
        cuts: of every weight that it has; all of one weight, then all of the next.
        mp_num: column groups of its fused matrix; None where it is not fused.
    """

    name: str
    shapes: Mapping[str, tuple[int, ...]]
    cuts: tuple[Cut, ...]
    mp_num: int | None = None


def hugging_face(
    dims: Dimensions, itemsize: int = 4, *, mp_num: int = layout.HUGGING_FACE_MP_NUM
) -> Layout:
    """The layout of `transformers.CodeGenForCausalLM`.

    Args:
        dims: the sizes of the network.
        itemsize: bytes of a number, which decide how many rows a cut has.
        mp_num: column groups of `qkv_proj`.

    Raises:
        ValueError: `mp_num` does not divide the heads.
    """
    layout.check_groups(dims.heads, mp_num)

    def fused(weight: Weight, name: str, layer: int) -> Iterator[Cut]:
        for group in range(mp_num):
            for place, part in enumerate(_FUSED_PARTS):
                heads = dims.heads // mp_num
                first_row = (3 * group + place) * heads * dims.head_dims
                yield from _head_cuts(
                    weight, name, layer, part, first_row, group * heads, heads, dims, itemsize
                )

    def tensors(weight: Weight) -> list[str]:
        return [weight.hugging_face]

    return _by_layer("Hugging Face", dims, itemsize, tensors, fused, mp_num)


def gptj(dims: Dimensions, itemsize: int = 4) -> Layout:
    """The layout of `transformers.GPTJForCausalLM`: query, key and value apart.

    Args:
        dims: the sizes of the network.
        itemsize: bytes of a number.
    """

    def apart(weight: Weight, name: str, layer: int) -> Iterator[Cut]:
        part = _GPTJ_PARTS[name.split(".")[-2]]
        yield from _head_cuts(weight, name, layer, part, 0, 0, dims.heads, dims, itemsize)

    def tensors(weight: Weight) -> list[str]:
        if weight.rule != "qkv":
            return [weight.hugging_face]
        return [weight.hugging_face.replace("qkv_proj", part) for part in _GPTJ_PARTS]

    return _by_layer("GPT-J", dims, itemsize, tensors, apart, None)


def jaxformer(dims: Dimensions, itemsize: int = 4, *, mp_num: int) -> Layout:
    """The layout of jaxformer's parameters, layers stacked.

    Args:
        dims: the sizes of the network.
        itemsize: bytes of a number.
        mp_num: cores in jaxformer's `mp` axis: 8 on TPU v3, 4 on v4.

    Raises:
        ValueError: `mp_num` does not divide the heads.
    """
    layout.check_groups(dims.heads, mp_num)
    found = []
    for weight in layout.weights(dims):
        rule = {"qkv": "fused", "post": "head_columns"}.get(weight.rule, "rows")
        shape = weight.plain_shape(dims)
        unit = dims.head_dims if weight.rule == "post" else 1
        for layer in range(dims.layers) if weight.stacked else (None,):
            first = (layer or 0) * shape[0]
            for start, stop in _steps(shape, itemsize, unit):
                index = _index(weight, dims, layer, rule, start // unit, stop // unit)
                found.append(
                    Cut(weight, weight.jaxformer, first + start, first + stop, index, rule)
                )
    shapes = {weight.jaxformer: weight.jaxformer_shape(dims) for weight in layout.WEIGHTS}
    return Layout("jaxformer", shapes, tuple(found), mp_num)


def chunk_shapes(found: Layout, dims: Dimensions) -> dict[Weight, tuple[int, ...]]:
    """Weight -> the part of its Pax variable that one cut holds."""
    shapes: dict[Weight, tuple[int, ...]] = {}
    for cut in found.cuts:
        if cut.weight not in shapes:  # the first of a grid is a whole one
            shapes[cut.weight] = _part_shape(cut, dims)
    return shapes


def count(cut: Cut, dims: Dimensions) -> int:
    """How many numbers a cut has."""
    return math.prod(_part_shape(cut, dims))


def _part_shape(cut: Cut, dims: Dimensions) -> tuple[int, ...]:
    sizes = cut.weight.pax_shape(dims)
    return tuple(len(range(size)[axis]) for axis, size in zip(cut.index, sizes, strict=True))


def to_pax(cut: Cut, rows: np.ndarray, dims: Dimensions, mp_num: int | None) -> np.ndarray:
    """The rows of a cut as the part of the Pax variable.

    rows:          [r, ...]  = rows
    columns:       [..., r]  = rows transposed
    heads:         [r, N, H] = rows [r, N H]
    head_columns:  [D, n, H] = rows [n H, D] transposed
    part:          the same, of the query, key or value alone
    fused:         [3, r, N, H] = rows [r, 3 N H], see `layout.split_qkv`

    Args:
        cut: of the layout.
        rows: [stop - start, ...]; may be given back as it is.
        dims: the sizes of the network.
        mp_num: of the layout.

    Returns:
        What `cut.index` of the variable holds.
    """
    if cut.rule == "columns":
        rows = transposed(rows)
    elif cut.rule == "heads":
        rows = rows.reshape(len(rows), dims.heads, dims.head_dims)
    elif cut.rule in ("head_columns", "part"):
        rows = transposed(rows).reshape(rows.shape[1], -1, dims.head_dims)
    elif cut.rule == "fused":
        rows = layout.split_qkv(rows, heads=dims.heads, mp_num=mp_num)
    return rows[(np.newaxis,) * (len(cut.index) - rows.ndim)]


def from_pax(cut: Cut, part: np.ndarray) -> np.ndarray:
    """Undoes `to_pax` for every rule but "fused": the rows [stop - start, ...] of a cut."""
    if cut.rule == "part":
        part = part[0, 0]
    elif cut.weight.stacked:
        part = part[0]
    if cut.rule == "columns":
        return transposed(part)
    if cut.rule == "heads":
        return part.reshape(len(part), -1)
    if cut.rule in ("head_columns", "part"):
        return transposed(part.reshape(len(part), -1))
    return part


def transposed(matrix: np.ndarray) -> np.ndarray:
    """A contiguous copy of a matrix [a, b] as [b, a], bit for bit."""
    bits = matrix.view(f"u{matrix.itemsize}")  # numpy moves plain integers fastest
    out = np.empty(bits.shape[::-1], bits.dtype)
    for i in range(0, bits.shape[0], _STRIP):
        out[:, i : i + _STRIP] = bits[i : i + _STRIP].T
    return out.view(matrix.dtype)


def _by_layer(name, dims: Dimensions, itemsize: int, tensors, qkv, mp_num: int | None) -> Layout:
    """A layout with a tensor for each layer, in the order of transformers' state dicts.

    `tensors` gives the names of a weight's tensors, `qkv` the cuts of one that holds heads.
    """
    found, shapes = [], {}
    of_block = []
    for weight in layout.weights(dims):
        if not weight.hugging_face:
            continue
        names = tensors(weight)
        shape = weight.hugging_face_shape(dims)
        for layer in range(dims.layers) if weight.stacked else (None,):
            for pattern in names:
                tensor = pattern.format(layer=layer)
                if weight.rule == "qkv":
                    found += qkv(weight, tensor, layer)
                else:
                    found += _row_cuts(weight, tensor, layer, shape, dims, itemsize)
        # All of a layer come before the next layer: the table has them by weight.
        shape = (shape[0] // len(names), *shape[1:])
        if weight.stacked:
            of_block += [(pattern, shape) for pattern in names]
            continue
        if of_block:
            for layer in range(dims.layers):
                shapes |= {pattern.format(layer=layer): size for pattern, size in of_block}
            of_block = []
        shapes[names[0]] = shape
    return Layout(name, shapes, tuple(found), mp_num)


def _row_cuts(weight, tensor, layer, shape, dims, itemsize) -> Iterator[Cut]:
    rule = "heads" if weight.rule == "post" else "columns" if weight.transposed else "rows"
    for start, stop in _steps(shape, itemsize):
        index = _index(weight, dims, layer, rule, start, stop)
        yield Cut(weight, tensor, start, stop, index, rule)


def _head_cuts(
    weight, tensor, layer, part, first_row, first_head, heads, dims, itemsize
) -> Iterator[Cut]:
    """The cuts of `heads` heads of one part, whose rows begin at `first_row`."""
    shape = (heads * dims.head_dims, dims.model_dims)
    for start, stop in _steps(shape, itemsize, dims.head_dims, even=True):
        index = (
            slice(layer, layer + 1),
            slice(part, part + 1),
            slice(None),
            slice(first_head + start // dims.head_dims, first_head + stop // dims.head_dims),
            slice(None),
        )
        yield Cut(weight, tensor, first_row + start, first_row + stop, index, "part")


def _index(weight, dims, layer, rule, start, stop) -> tuple[slice, ...]:
    """The index of a Pax variable whose axis of the foreign rows is cut from start to stop."""
    axes = [slice(None)] * (len(weight.pax_shape(dims)) - weight.stacked)
    axes[1 if rule in ("columns", "head_columns", "fused") else 0] = slice(start, stop)
    return (*((slice(layer, layer + 1),) if weight.stacked else ()), *axes)


def _steps(
    shape: tuple[int, ...], itemsize: int, unit: int = 1, *, even: bool = False
) -> Iterator[tuple[int, int]]:
    """Cuts the first axis into steps of whole units, about `CUT_BYTES` each, the last one shorter.

    With `even`, none is shorter: what follows on this tensor belongs to the same grid.
    """
    rows = shape[0] // unit
    row_bytes = unit * int(np.prod(shape[1:])) * itemsize
    step = max(1, min(rows, CUT_BYTES // row_bytes))
    while even and rows % step:
        step -= 1
    for start in range(0, rows, step):
        yield start * unit, min(rows, start + step) * unit
