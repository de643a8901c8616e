"""Slices: the parts that a network is cut into to be converted a few megabytes at a time.

A slice is some consecutive rows of one foreign tensor, and the part of a Pax variable that holds
the same numbers. Nothing larger than a slice is in memory at once, for any size of model. The
slices of a variable form a regular grid, which can also be the grid of its chunks on disk.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np

from codegen_pax.weights import fused_qkv
from codegen_pax.weights.layouts import Dimensions, Layout, Weight

# The size of a slice: large enough for files to be read and written fast, and small enough for any
# machine to hold a dozen slices, which is how many, with their copies, are in memory at a time.
SLICE_BYTES = 32 << 20

# NumPy transposes a matrix as one loop with a long stride: 0.2 GB/s of two-byte numbers here. In
# strips of as many rows as fill half a cache line or one, it is ten times as fast (in tiles of
# 128 x 128, five times).
_STRIP = 16


@dataclasses.dataclass(frozen=True)
class Slice:
    """Some rows of a foreign tensor, and where they lie in a Pax variable.

    Attributes:
        weight: the weight that the numbers belong to.
        tensor: name of the foreign tensor.
        start: first row, along the tensor's first axis; an axis of layers is joined to the next.
        stop: end of the rows.
        index: index of the part of the Pax variable, a slice for every axis.
        transform: how the rows become that part; see `to_pax`.
    """

    weight: Weight
    tensor: str
    start: int
    stop: int
    index: tuple[slice, ...]
    transform: Literal["rows", "columns", "heads", "head_columns", "projection", "fused"]

    def pax_shape(self, dims: Dimensions) -> tuple[int, ...]:
        """Returns the shape of the part of the Pax variable."""
        sizes = self.weight.pax_shape(dims)
        return tuple(len(range(size)[axis]) for axis, size in zip(self.index, sizes, strict=True))

    def size(self, dims: Dimensions) -> int:
        """Returns how many numbers the slice has."""
        return math.prod(self.pax_shape(dims))


def make_slices(layout: Layout, itemsize: int = 4) -> tuple[Slice, ...]:
    """Cuts a network into slices.

    Args:
        layout: the layout of the foreign tensors.
        itemsize: bytes of a number, which decide how many rows a slice has.

    Returns:
        The slices of every weight that the layout has, one weight after another.
    """
    slices: list[Slice] = []
    for weight, names in layout.tensors.items():
        for layer in range(layout.dims.layers) if weight.stacked else (None,):
            for i, name in enumerate(names):
                tensor = name.format(layer=layer)
                if layout.stacked:
                    slices += _stacked_slices(weight, tensor, layer, layout.dims, itemsize)
                elif layer is not None and weight.projection == "qkv":
                    blocks = layout.qkv_blocks[i]
                    slices += _head_slices(weight, tensor, layer, blocks, layout.dims, itemsize)
                else:
                    slices += _row_slices(weight, tensor, layer, layout.dims, itemsize)
    return tuple(slices)


def chunk_shapes(slices: Sequence[Slice], dims: Dimensions) -> dict[Weight, tuple[int, ...]]:
    """Returns the shape of the part of each weight's Pax variable that one slice holds."""
    shapes: dict[Weight, tuple[int, ...]] = {}
    for slice_ in slices:
        if slice_.weight not in shapes:  # the first slice of a grid has the full size
            shapes[slice_.weight] = slice_.pax_shape(dims)
    return shapes


def to_pax(slice_: Slice, rows: np.ndarray, layout: Layout) -> np.ndarray:
    """Turns the rows of a slice into the part of the Pax variable.

    rows:          [r, ...]  = rows
    columns:       [..., r]  = rows transposed
    heads:         [r, N, H] = rows [r, N H]
    head_columns:  [D, n, H] = rows [n H, D] transposed
    projection:    the same, of the query, key or value alone
    fused:         [3, r, N, H] = rows [r, 3 N H], see `fused_qkv.split_qkv`

    Args:
        slice_: a slice of the layout.
        rows: [stop - start, ...]; the result may share its memory.
        layout: the layout of the foreign tensors.

    Returns:
        The part of the variable at `slice_.index`.
    """
    dims = layout.dims
    if slice_.transform == "columns":
        rows = transpose(rows)
    elif slice_.transform == "heads":
        rows = rows.reshape(len(rows), dims.heads, dims.head_dims)
    elif slice_.transform in ("head_columns", "projection"):
        rows = transpose(rows).reshape(rows.shape[1], -1, dims.head_dims)
    elif slice_.transform == "fused":
        assert layout.mp_num is not None
        rows = fused_qkv.split_qkv(rows, heads=dims.heads, mp_num=layout.mp_num)
    return rows[(np.newaxis,) * (len(slice_.index) - rows.ndim)]


def from_pax(slice_: Slice, part: np.ndarray) -> np.ndarray:
    """Undoes `to_pax` for every transform but "fused".

    Args:
        slice_: the slice.
        part: the part of the Pax variable at `slice_.index`.

    Returns:
        [stop - start, ...], the rows of the slice.
    """
    if slice_.transform == "projection":
        part = part[0, 0]
    elif slice_.weight.stacked:
        part = part[0]
    if slice_.transform == "columns":
        return transpose(part)
    if slice_.transform == "heads":
        return part.reshape(len(part), -1)
    if slice_.transform in ("head_columns", "projection"):
        return transpose(part.reshape(len(part), -1))
    return part


def transpose(matrix: np.ndarray) -> np.ndarray:
    """Returns a contiguous copy of a matrix [a, b] as [b, a], bit for bit."""
    bits = matrix.view(f"u{matrix.itemsize}")  # numpy moves plain integers fastest
    out = np.empty(bits.shape[::-1], bits.dtype)
    for i in range(0, bits.shape[0], _STRIP):
        out[:, i : i + _STRIP] = bits[i : i + _STRIP].T
    return out.view(matrix.dtype)


def _stacked_slices(
    weight: Weight, tensor: str, layer: int | None, dims: Dimensions, itemsize: int
) -> Iterator[Slice]:
    """Yields the slices of one layer of a tensor in jaxformer's layout."""
    shape = weight.layer_shape(dims)
    transform: Literal["fused", "head_columns", "rows"] = "rows"
    unit = 1
    if weight.projection == "qkv":
        transform = "fused"
    elif weight.projection == "post":
        transform, unit = "head_columns", dims.head_dims
    first_row = (layer or 0) * shape[0]
    for start, stop in _steps(shape, itemsize, unit):
        axis = 0 if transform == "rows" else 1
        index = _index(weight, dims, layer, axis, slice(start // unit, stop // unit))
        yield Slice(weight, tensor, first_row + start, first_row + stop, index, transform)


def _row_slices(
    weight: Weight, tensor: str, layer: int | None, dims: Dimensions, itemsize: int
) -> Iterator[Slice]:
    """Yields the slices of a tensor of a state dict that is not cut by heads."""
    transform: Literal["heads", "columns", "rows"] = "rows"
    if weight.projection == "post":
        transform = "heads"
    elif weight.transposed:
        transform = "columns"
    for start, stop in _steps(weight.hugging_face_shape(dims), itemsize):
        axis = 1 if transform == "columns" else 0
        index = _index(weight, dims, layer, axis, slice(start, stop))
        yield Slice(weight, tensor, start, stop, index, transform)


def _head_slices(
    weight: Weight,
    tensor: str,
    layer: int,
    blocks: Sequence[fused_qkv.HeadBlock],
    dims: Dimensions,
    itemsize: int,
) -> Iterator[Slice]:
    """Yields the slices of a tensor of a state dict whose rows are blocks of heads."""
    first_row = 0
    for block in blocks:
        shape = (block.num_heads * dims.head_dims, dims.model_dims)
        for start, stop in _steps(shape, itemsize, dims.head_dims, even=True):
            index = (
                slice(layer, layer + 1),
                slice(block.projection, block.projection + 1),
                slice(None),
                slice(
                    block.first_head + start // dims.head_dims,
                    block.first_head + stop // dims.head_dims,
                ),
                slice(None),
            )
            yield Slice(weight, tensor, first_row + start, first_row + stop, index, "projection")
        first_row += shape[0]


def _index(
    weight: Weight, dims: Dimensions, layer: int | None, axis: int, rows: slice
) -> tuple[slice, ...]:
    """Returns the index of a Pax variable; the foreign rows run along `axis` of one layer."""
    axes = [slice(None)] * (len(weight.pax_shape(dims)) - weight.stacked)
    axes[axis] = rows
    return tuple(axes) if layer is None else (slice(layer, layer + 1), *axes)


def _steps(
    shape: tuple[int, ...], itemsize: int, unit: int = 1, *, even: bool = False
) -> Iterator[tuple[int, int]]:
    """Cuts the first axis into steps of about `SLICE_BYTES`, the last one shorter.

    Args:
        shape: the shape of the rows.
        itemsize: bytes of a number.
        unit: number of rows that must stay together.
        even: make all steps equal, since the tensor's later rows belong to the same grid.

    Yields:
        The first row of a step, and its end.
    """
    rows = shape[0] // unit
    row_bytes = unit * math.prod(shape[1:]) * itemsize
    step = max(1, min(rows, SLICE_BYTES // row_bytes))
    while even and rows % step:
        step -= 1
    for start in range(0, rows, step):
        yield start * unit, min(rows, start + step) * unit
