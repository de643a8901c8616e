"""What the fused matrices in files say of their column groups, read a few heads at a time."""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np

from codegen_pax.errors import InvalidValueError
from codegen_pax.weights import finite, grouping, layout
from codegen_pax.weights.cuts import CUT_BYTES
from codegen_pax.weights.layout import Dimensions
from codegen_pax.weights.tensors import Source

# What jaxformer trained with: cores of a TPU v3 or v4; and what smaller tests of it would.
CANDIDATES = (1, 2, 4, 8)

# More of them say no more of a trained network, and a large one takes minutes to read.
_MOST_LAYERS = 12


def guess(
    files: Source, dims: Dimensions, rotary_dims: int, *, jaxformer: bool = False
) -> grouping.Guess:
    """Guesses `mp_num` from the files of a network whose shapes have been checked.

    Args:
        files: of Hugging Face's layout, or of jaxformer's.
        dims: the sizes of the network.
        rotary_dims: of each head.
        jaxformer: which of the two.

    Raises:
        ValueError: a weight is no finite number.
    """
    (weight,) = (weight for weight in layout.WEIGHTS if weight.rule == "qkv")
    rows, row_shape = 3 * dims.model_dims, (dims.model_dims,)
    layers = np.linspace(0, dims.layers - 1, min(dims.layers, _MOST_LAYERS)).round().astype(int)
    features = []
    for layer in layers.tolist():
        name = weight.jaxformer if jaxformer else weight.hugging_face.format(layer=layer)
        if jaxformer:
            # A layer of the stack [L, D, 3 N H], seen as the matrix [3 N H, D] that it is.
            stack = files.tensors[name]
            offset = stack.offset + layer * stack.nbytes // dims.layers
            matrix = dataclasses.replace(
                stack, offset=offset, shape=(rows, dims.model_dims), columns_first=True
            )
            name = f"{name} of layer {layer}"
            files.tensors[name] = matrix
        slot_bytes = dims.head_dims * dims.model_dims * files.tensors[name].dtype.itemsize
        step = dims.head_dims * max(1, CUT_BYTES // slot_bytes)
        found = []
        for start in range(0, rows, step):
            slots = files.rows(name, start, min(rows, start + step), row_shape)
            if not finite.is_finite(slots):
                raise _not_finite(files, weight.jaxformer if jaxformer else name)
            found.append(
                grouping.slot_features(slots, head_dims=dims.head_dims, rotary_dims=rotary_dims)
            )
        if jaxformer:
            del files.tensors[name]
        features.append(np.concatenate(found))
    return grouping.guess(np.stack(features), heads=dims.heads, candidates=CANDIDATES)


def _not_finite(files: Source, name: str) -> InvalidValueError:
    """An error that says which numbers of a whole tensor are not finite."""
    *joined, columns = shape = files.tensors[name].shape
    step = max(1, CUT_BYTES // (columns * files.tensors[name].dtype.itemsize))
    ends = [*range(0, math.prod(joined), step), math.prod(joined)]
    parts = (
        (start, files.rows(name, start, stop, (columns,)))
        for start, stop in itertools.pairwise(ends)
    )
    return finite.refusal(files.place(name), shape, parts)
