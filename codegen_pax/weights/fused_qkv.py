"""The fused matrix of queries, keys and values: which columns are of which head.

CodeGen's attention has one matrix for all three. Its columns are `mp_num` groups, and each group
holds the three projections of its own heads, in the order FUSED_ORDER.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from codegen_pax.errors import InvalidValueError

# The index of each projection in the Pax variable [3, D, N, H].
QUERY, KEY, VALUE = 0, 1, 2
# The content of a column group of the fused matrix, from its first column to its last: the queries
# of all its heads, then their **values**, then their keys.
FUSED_ORDER = (QUERY, VALUE, KEY)


@dataclasses.dataclass(frozen=True)
class HeadBlock:
    """Rows or columns of a tensor that hold one projection of consecutive heads.

    Attributes:
        projection: QUERY, KEY or VALUE.
        first_head: the first of its heads.
        num_heads: how many heads it has, of H rows or columns each.
    """

    projection: int
    first_head: int
    num_heads: int


def fused_blocks(heads: int, mp_num: int) -> tuple[HeadBlock, ...]:
    """Returns the blocks of the fused matrix, from its first column to its last.

    The columns are `mp_num` groups, and each holds the heads of FUSED_ORDER. A wrong `mp_num`
    scrambles the heads without any error.

    Args:
        heads: N.
        mp_num: column groups: 4 in Hugging Face's layout; in jaxformer's, the cores of its `mp`
            axis.

    Raises:
        ValueError: `mp_num` does not divide the heads.
    """
    if mp_num < 1 or heads % mp_num:
        raise InvalidValueError(f"mp_num must divide the {heads} heads; found {mp_num}")
    in_group = heads // mp_num
    return tuple(
        HeadBlock(projection, group * in_group, in_group)
        for group in range(mp_num)
        for projection in FUSED_ORDER
    )


def qkv_slots(heads: int, mp_num: int) -> np.ndarray:
    """Finds the heads in the fused matrix, seen as 3 N slots of H columns.

    Args:
        heads: N.
        mp_num: column groups.

    Returns:
        [3, N]: the slot of each head's query, key and value, indexed by QUERY, KEY and VALUE.

    Raises:
        ValueError: `mp_num` does not divide the heads.
    """
    slots = np.empty((3, heads), int)
    first_slot = 0
    for block in fused_blocks(heads, mp_num):
        last_head = block.first_head + block.num_heads
        slots[block.projection, block.first_head : last_head] = first_slot + np.arange(
            block.num_heads
        )
        first_slot += block.num_heads
    return slots


def split_qkv(fused: np.ndarray, *, heads: int, mp_num: int) -> np.ndarray:
    """Splits the fused matrix into query, key and value.

    Args:
        fused: [..., D, 3 N H].
        heads: N.
        mp_num: column groups.

    Returns:
        [..., 3, D, N, H], in the order query, key, value.

    Raises:
        ValueError: `mp_num` does not divide the heads.
    """
    slots = qkv_slots(heads, mp_num)
    *batch, dims, columns = fused.shape
    by_slot = fused.reshape(*batch, dims, 3 * heads, columns // (3 * heads))
    return np.stack([by_slot[..., projection, :] for projection in slots], axis=-4)
