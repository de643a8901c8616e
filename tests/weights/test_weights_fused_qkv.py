"""The fused matrix of queries, keys and values, cut and put together again."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegen_pax.weights import fused_qkv
from tests.weights import in_memory


@st.composite
def fused_matrices(draw):
    """A fused matrix in which every number is different, its heads and its groups."""
    mp_num = draw(st.integers(1, 8))
    heads = mp_num * draw(st.integers(1, 4))
    head_dims, rows = draw(st.integers(1, 4)), draw(st.integers(1, 3))
    layers = draw(st.sampled_from([(), (2,)]))
    shape = (*layers, rows, 3 * heads * head_dims)
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape), heads, mp_num


@given(fused_matrices())
def test_fusing_undoes_splitting(case):
    fused, heads, mp_num = case
    split = fused_qkv.split_qkv(fused, heads=heads, mp_num=mp_num)
    head_dims = fused.shape[-1] // (3 * heads)
    assert split.shape == (*fused.shape[:-2], 3, fused.shape[-2], heads, head_dims)
    np.testing.assert_array_equal(in_memory.fuse_qkv(split, mp_num=mp_num), fused)


@given(fused_matrices())
def test_columns_are_query_value_key_in_each_group(case):
    """Follows one column at a time, as the network that made the matrix would cut it."""
    fused, heads, mp_num = case
    query, key, value = np.moveaxis(fused_qkv.split_qkv(fused, heads=heads, mp_num=mp_num), -4, 0)
    head_dims, in_group = query.shape[-1], heads // mp_num
    column = 0
    for group in range(mp_num):
        for part in (query, value, key):
            for head in range(group * in_group, (group + 1) * in_group):
                for i in range(head_dims):
                    np.testing.assert_array_equal(part[..., head, i], fused[..., column])
                    column += 1
    assert column == fused.shape[-1]


@given(fused_matrices(), st.integers(1, 8))
def test_another_number_of_groups_scrambles_the_heads(case, other):
    fused, heads, mp_num = case
    if heads % other:
        with pytest.raises(ValueError, match=f"must divide the {heads} heads; found {other}"):
            fused_qkv.split_qkv(fused, heads=heads, mp_num=other)
        return
    same = np.array_equal(
        fused_qkv.split_qkv(fused, heads=heads, mp_num=mp_num),
        fused_qkv.split_qkv(fused, heads=heads, mp_num=other),
    )
    assert same == (mp_num == other)
