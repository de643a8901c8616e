"""Finds from a network's weights the number of column groups (`mp_num`) of its fused matrices.

`fused_qkv.split_qkv` needs `mp_num`, and a wrong one scrambles every head without an error. For any
`mp_num`, a layer's matrix [D, 3 N H] is a row of 3 N slots of H columns, each one head's query,
value or key; `mp_num` only decides which slot is which. Training gives the three kinds different
norms, so the true number sorts the slots into three kinds, and slots of one kind have similar norms
that differ from those of the other kinds.

    features: [L, 3N, F] = slot_features(slots)            norms of each slot's columns
    score(m)             = 3N/2 sum_{layer, feature} log(total / within the three kinds of m)

A high score alone proves nothing: one number always scores best. Each number m is therefore tested.
If m is right, its heads may be renumbered in any way, since all heads are initialised alike and
nothing in the network or its training depends on their order. The probability that another number
scores higher in the observed order than in 99.9% of all orders is then at most 0.1%. This is the
probability of ruling out the true number, for any weights. The number is detected if all others are
ruled out; in a fresh network, where the three kinds are alike, none is detected.

Sensitivity: in simulated networks of 350M's shape (20 layers, 16 heads) the number is always found
if the norms of query and key differ from those of value by at least 0.7 of the variation among
heads of a kind. In networks of 3 layers that were trained on the text of Python files for 100
steps, the rotated columns differ by 3 to 6 times that. Networks with few heads need more layers: 4
heads need at least 4 layers, 6 heads 3, and 8 to 12 heads 2.

The order of the kinds within a group (`fused_qkv.FUSED_ORDER`) is assumed to be known.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterable, Mapping

import numpy as np

from codegen_pax import floats
from codegen_pax.errors import InvalidValueError
from codegen_pax.weights import fused_qkv, layouts, slices
from codegen_pax.weights.layouts import Dimensions
from codegen_pax.weights.tensors import TensorReader

# The numbers that jaxformer trained with, 8 or 4 cores of a TPU v3 or v4, and those of smaller
# tests.
CANDIDATES = (1, 2, 4, 8)

# The greatest p-value of a number that is ruled out. With few heads and layers there are too few
# orders to reach it: for 4 heads in 2 layers, number 2 has only 6 * 6 different orders.
LEVEL = 0.001

# More layers add no information about a trained network, and reading a large one takes minutes.
_MAX_LAYERS = 12
_PERMUTATIONS = 4000
# Added to sums of squares of log norms. The sampling error alone of H D = 256 * 4096 weights adds
# 1 / (2 H D) = 5e-7 a slot; the rounding of float32 adds some 1e-14.
_FLOOR = 1e-10


@dataclasses.dataclass(frozen=True)
class Detection:
    """What the weights say about `mp_num`.

    Attributes:
        possible: the numbers that are not ruled out, at least one.
        scores: the score of every candidate, in nats above a model without kinds.
        p_values: the p-value of every candidate, on the hypothesis that it is the true one. At
            `LEVEL` or below it is ruled out, unless its score is the best.
        summary: the result and its certainty, for people.
    """

    possible: tuple[int, ...]
    scores: Mapping[int, float]
    p_values: Mapping[int, float]
    summary: str

    @property
    def mp_num(self) -> int | None:
        """The only possible number; None if there are several."""
        return self.possible[0] if len(self.possible) == 1 else None


def detect(reader: TensorReader, dims: Dimensions, rotary_dims: int, *, stacked: bool) -> Detection:
    """Detects `mp_num` from the files of a network whose shapes have been checked.

    Args:
        reader: a reader of Hugging Face's layout, or of jaxformer's.
        dims: the sizes of the network.
        rotary_dims: the number of rotated dimensions of each head.
        stacked: whether a tensor holds all layers, as in jaxformer's layout.

    Raises:
        ValueError: a weight is not finite.
    """
    layers = np.linspace(0, dims.layers - 1, min(dims.layers, _MAX_LAYERS)).round().astype(int)
    features = []
    for layer in layers.tolist():
        name = layouts.QKV.hugging_face.format(layer=layer)
        if stacked:
            # A layer of the stack [L, D, 3 N H], seen as the matrix [3 N H, D].
            stack = reader.tensors[layouts.QKV.jaxformer]
            name = f"{layouts.QKV.jaxformer} of layer {layer}"
            reader.tensors[name] = dataclasses.replace(
                stack,
                offset=stack.offset + layer * stack.nbytes // dims.layers,
                shape=(3 * dims.model_dims, dims.model_dims),
                columns_first=True,
            )
        layer_features = _layer_features(reader, name, dims, rotary_dims)
        if stacked:
            del reader.tensors[name]
        if layer_features is None:
            raise _non_finite_error(reader, layouts.QKV.jaxformer if stacked else name)
        features.append(layer_features)
    return detect_from_features(np.stack(features), heads=dims.heads, candidates=CANDIDATES)


def _layer_features(
    reader: TensorReader, name: str, dims: Dimensions, rotary_dims: int
) -> np.ndarray | None:
    """Returns the features [3N, F] of a matrix [3 N H, D]; None if a number is not finite."""
    rows, model_dims = reader.tensors[name].shape
    slot_bytes = dims.head_dims * model_dims * reader.tensors[name].numpy_dtype.itemsize
    step = dims.head_dims * max(1, slices.SLICE_BYTES // slot_bytes)
    features = []
    for start in range(0, rows, step):
        slots = reader.read_rows(name, start, min(rows, start + step), (model_dims,))
        if not floats.is_finite(slots):
            return None
        features.append(slot_features(slots, head_dims=dims.head_dims, rotary_dims=rotary_dims))
    return np.concatenate(features)


def _non_finite_error(reader: TensorReader, name: str) -> InvalidValueError:
    """Returns an error that says which numbers of a tensor are not finite."""
    *joined, columns = shape = reader.tensors[name].shape
    step = max(1, slices.SLICE_BYTES // (columns * reader.tensors[name].numpy_dtype.itemsize))
    ends = [*range(0, math.prod(joined), step), math.prod(joined)]
    parts = (
        (start, reader.read_rows(name, start, stop, (columns,)))
        for start, stop in itertools.pairwise(ends)
    )
    return floats.non_finite_error(reader.describe(name), shape, parts)


def slot_features(slots: np.ndarray, *, head_dims: int, rotary_dims: int) -> np.ndarray:
    """Describes the slots of a layer's fused matrix by the norms of their columns.

    Args:
        slots: [S H, D], rows of the transposed fused matrix that make up whole slots; any floating
            type.
        head_dims: H.
        rotary_dims: the number of rotated dimensions, the first of each head, where query and key
            differ from value the most.

    Returns:
        [S, 3] float64: mean log norm of the rotated columns, mean log norm of the others, and
        spread of all.

    Raises:
        ValueError: the number of rows is not a multiple of H, or a number is not finite.
    """
    rows, dims = slots.shape
    if rows % head_dims:
        raise ValueError(f"slots are {head_dims} rows each; found {rows} rows")
    # Squares of half-precision numbers would overflow or underflow.
    squares = np.square(slots.astype(np.float32, copy=False)).sum(axis=-1, dtype=np.float64)
    if not np.isfinite(squares).all():
        raise InvalidValueError(
            f"row {np.flatnonzero(~np.isfinite(squares))[0]} has weights not finite"
        )
    smallest = np.finfo(np.float32).tiny
    norms = 0.5 * np.log(squares / dims + smallest).reshape(-1, head_dims)
    parts = [norms[:, :rotary_dims], norms[:, rotary_dims:]]
    means = [part.mean(axis=1) if part.size else np.zeros(len(norms)) for part in parts]
    return np.stack([*means, norms.std(axis=1)], axis=1)


def detect_from_features(
    features: np.ndarray, *, heads: int, candidates: Iterable[int] | None = None
) -> Detection:
    """Detects `mp_num` from the features of every layer.

    The result is the same for the same features: the permutations have a fixed seed.

    Args:
        features: [L, 3 N, F] from `slot_features`, in the order of the fused matrix's columns.
        heads: N.
        candidates: the possible numbers; those that do not divide N are left out. None for every
            divisor of N. The true number should be among them: otherwise the candidate that groups
            the columns most similarly may be detected.

    Raises:
        ValueError: the features have another shape, or no candidate divides N.
    """
    if features.ndim != 3 or features.shape[1] != 3 * heads:
        raise ValueError(f"features are [L, {3 * heads}, F] for {heads} heads; {features.shape=}")
    candidates = range(1, heads + 1) if candidates is None else sorted(set(candidates))
    numbers = [number for number in candidates if number > 0 and heads % number == 0]
    if not numbers:
        raise InvalidValueError(
            f"mp_num must divide the {heads} heads; none of {list(candidates)} does"
        )
    kinds = np.stack([_kinds(heads, number) for number in numbers])
    orders = _orders(np.random.default_rng(0), len(features), heads)
    scores, p_values = {}, {}
    for i, number in enumerate(numbers):
        all_scores = _scores(features, kinds, fused_qkv.qkv_slots(heads, number), orders)
        scores[number] = float(all_scores[0, i])
        # Its own score is the same in every order.
        p_values[number] = _p_value(np.delete(all_scores, i, axis=1))
    best = max(scores, key=lambda number: scores[number])
    possible = tuple(m for m, p_value in p_values.items() if p_value > LEVEL or m == best)
    return Detection(possible, scores, p_values, _summary(possible, p_values))


def _summary(possible: tuple[int, ...], p_values: Mapping[int, float]) -> str:
    if len(possible) > 1:
        return (
            "cannot tell mp_num from the weights: the norms of query, key and value differ too "
            "little, or heads and layers are too few; it may be any of "
            f"{', '.join(map(str, possible))}"
        )
    others = [p_value for number, p_value in p_values.items() if number != possible[0]]
    if not others:
        return f"mp_num is {possible[0]}: no other number is possible"
    return (
        f"mp_num is {possible[0]}: the norms of query, key and value differ, and rule out every "
        f"other number (p <= {max(others):.2g})"
    )


def _kinds(heads: int, mp_num: int) -> np.ndarray:
    """Returns [3, 3N]: 1 where a slot is of a kind."""
    return (fused_qkv.qkv_slots(heads, mp_num)[..., np.newaxis] == np.arange(3 * heads)).any(
        axis=1
    ) * 1.0


def _orders(generator: np.random.Generator, layers: int, heads: int) -> np.ndarray:
    """Returns [L, P, N]: random orders of heads; the first is the original order."""
    orders = generator.random((layers, _PERMUTATIONS, heads)).argsort(axis=-1)
    orders[:, 0] = np.arange(heads)
    return orders


def _scores(
    features: np.ndarray, kinds: np.ndarray, slots: np.ndarray, orders: np.ndarray
) -> np.ndarray:
    """Scores every number after each renumbering of the heads of one number.

    Args:
        features: [L, 3N, F].
        kinds: [M, 3, 3N], the kinds of the M numbers to score.
        slots: [3, N], the slots of the number whose heads are renumbered. A head's query, value and
            key move together: they are alike in a trained network.
        orders: [L, P, N], the renumberings.

    Returns:
        [P, M].
    """
    numbers, _, length = kinds.shape
    membership = kinds.reshape(-1, length).T
    scores = np.zeros((orders.shape[1], numbers))
    for layer, order in zip(features, orders, strict=True):
        centred = (layer - layer.mean(axis=0)).T
        total = np.square(centred).sum(axis=1)[:, np.newaxis, np.newaxis]
        sums = sum(centred[:, kind].take(order, axis=1) @ membership[kind] for kind in slots)
        sums = sums.reshape(len(centred), len(order), numbers, 3)
        between = np.square(sums).sum(axis=3) / (length // 3)
        within = np.maximum(total - between, 0.0)
        scores += 0.5 * length * np.log((total + _FLOOR) / (within + _FLOOR)).sum(axis=0)
    return scores


def _p_value(scores: np.ndarray) -> float:
    """Returns the share of orders in which some number scores at least as well as in the first.

    Args:
        scores: [P, M]; the first row has the observed scores.
    """
    best = scores.max(axis=1, initial=-np.inf)
    # Equivalent orders give the same score except for rounding.
    return float(np.mean(best >= best[0] - 1e-6))
