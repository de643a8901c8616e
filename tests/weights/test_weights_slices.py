"""Slice by slice gives what whole arrays give, whatever the sizes, the layout and the slices."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codegen_pax.weights import fused_qkv, layouts, slices
from tests.weights import in_memory
from tests.weights.networks import Network

HEAD_DIMS = 3


@st.composite
def sizes(draw):
    """The sizes of a network, a number of column groups, and the bytes of a slice."""
    mp_num = draw(st.sampled_from([1, 2, 4, 8]))
    heads = mp_num * draw(st.integers(1, 3))
    dims = layouts.Dimensions(
        layers=draw(st.integers(1, 3)),
        model_dims=heads * HEAD_DIMS,
        heads=heads,
        vocab_size=draw(st.integers(1, 40)),
        embedding_bias=False,
    )
    return dims, mp_num, draw(st.integers(1, 4_000))


@pytest.fixture(scope="module")
def slice_bytes():
    """Sets the bytes of a slice; they are restored at the end."""
    patch = pytest.MonkeyPatch()
    yield lambda count: patch.setattr(slices, "SLICE_BYTES", count)
    patch.undo()


def variables(dims: layouts.Dimensions) -> dict:
    """A tree in which every number is another one."""
    tree: dict = {}
    begin = 0
    for weight in layouts.weights(dims):
        shape = weight.pax_shape(dims)
        count = int(np.prod(shape))
        branch = tree
        for key in weight.path[:-1]:
            branch = branch.setdefault(key, {})
        branch[weight.path[-1]] = np.arange(begin, begin + count, dtype=np.int32).reshape(shape)
        begin += count
    return tree


def leaf(tree: dict, path):
    for key in path:
        tree = tree[key]
    return tree


def arrays_of(layout: layouts.Layout, tree: dict) -> dict[str, np.ndarray]:
    arrays = {name: np.full(shape, -1, np.int32) for name, shape in layout.shapes.items()}
    for slice_ in slices.make_slices(layout):
        rows = slices.from_pax(slice_, leaf(tree, slice_.weight.path)[slice_.index])
        assert (arrays[slice_.tensor][slice_.start : slice_.stop] == -1).all(), "written twice"
        arrays[slice_.tensor][slice_.start : slice_.stop] = rows
    assert all((array >= 0).all() for array in arrays.values()), "not written"
    return arrays


def tree_of(layout: layouts.Layout, arrays: dict) -> dict:
    tree = variables(layout.dims)
    for weight in layouts.weights(layout.dims):
        leaf(tree, weight.path)[...] = -1
    for slice_ in slices.make_slices(layout):
        rows = arrays[slice_.tensor][slice_.start : slice_.stop]
        leaf(tree, slice_.weight.path)[slice_.index] = slices.to_pax(slice_, rows, layout)
    return tree


def assert_equal(actual: dict, expected: dict, dims: layouts.Dimensions) -> None:
    for weight in layouts.weights(dims):
        np.testing.assert_array_equal(leaf(actual, weight.path), leaf(expected, weight.path))


@settings(deadline=None)
@given(sizes())
def test_hugging_face_and_back(slice_bytes, case):
    dims, mp_num, count = case
    slice_bytes(count)
    layout = layouts.hugging_face(dims, mp_num=mp_num)
    tree = variables(dims)
    arrays = arrays_of(layout, tree)
    assert_equal(tree_of(layout, arrays), tree, dims)
    qkv = leaf(tree, layouts.QKV.path)
    for layer in range(dims.layers):
        name = layouts.QKV.hugging_face.format(layer=layer)
        fused = in_memory.fuse_qkv(qkv[layer], mp_num=mp_num)
        np.testing.assert_array_equal(arrays[name].T, fused)


@settings(deadline=None)
@given(sizes())
def test_gptj_and_back(slice_bytes, case):
    dims, _, count = case
    slice_bytes(count)
    layout = layouts.gptj(dims)
    tree = variables(dims)
    arrays = arrays_of(layout, tree)
    assert_equal(tree_of(layout, arrays), tree, dims)
    for number, part in enumerate(("q_proj", "k_proj", "v_proj")):
        rows = arrays[f"transformer.h.0.attn.{part}.weight"]
        expected = leaf(tree, layouts.QKV.path)[0, number].reshape(dims.model_dims, -1).T
        np.testing.assert_array_equal(rows, expected)


@settings(deadline=None)
@given(sizes())
def test_jaxformer_to_pax(slice_bytes, case):
    """Against the fused matrix, split as a whole."""
    dims, mp_num, count = case
    slice_bytes(count)
    layout = layouts.jaxformer(dims, mp_num=mp_num)
    random = np.random.default_rng(0)
    arrays = {name: random.integers(0, 999, shape) for name, shape in layout.shapes.items()}
    tree = in_memory.from_jaxformer(arrays, dims, mp_num=mp_num)
    np.testing.assert_array_equal(
        leaf(tree, layouts.QKV.path),
        fused_qkv.split_qkv(arrays[layouts.QKV.jaxformer], heads=dims.heads, mp_num=mp_num),
    )
    post = layouts.POST
    np.testing.assert_array_equal(
        leaf(tree, post.path).reshape(dims.layers, dims.model_dims, -1),
        np.swapaxes(arrays[post.jaxformer], 1, 2),
    )


@settings(deadline=None)
@given(sizes(), st.sampled_from(["hugging_face", "gptj", "jaxformer"]))
def test_slices_are_small_and_their_grid_is_regular(slice_bytes, case, name):
    """So that a chunk of a zarr array is one slice, and a slice no larger than it should be."""
    dims, mp_num, count = case
    slice_bytes(count)
    options = {} if name == "gptj" else {"mp_num": mp_num}
    layout = getattr(layouts, name)(dims, **options)
    all_slices = slices.make_slices(layout, 4)
    chunks = slices.chunk_shapes(all_slices, dims)
    for slice_ in all_slices:
        shape = slice_.weight.pax_shape(dims)
        for axis, size, chunk in zip(slice_.index, shape, chunks[slice_.weight], strict=True):
            span = range(size)[axis]
            assert span.start % chunk == 0
            assert len(span) == min(chunk, size - span.start)
        unit = HEAD_DIMS if slice_.transform in ("projection", "head_columns") else 1
        row = int(np.prod(layout.shapes[slice_.tensor][1:])) * 4
        stacked = name == "jaxformer" and slice_.weight.stacked
        row //= slice_.weight.layer_shape(dims)[0] if stacked else 1
        assert slice_.stop - slice_.start == unit or (slice_.stop - slice_.start) * row <= count


def test_the_order_is_that_of_transformers():
    network = Network()
    for model, make_layout in (("CodeGen", layouts.hugging_face), ("GPTJ", layouts.gptj)):
        state = network.hugging_face(model=model).state_dict()
        actual = make_layout(network.dims()).shapes
        assert list(actual) == list(state)
        assert {name: tuple(array.shape) for name, array in state.items()} == dict(actual)


@pytest.mark.parametrize("shape", [(1, 1), (5, 3), (128, 128), (129, 300), (1000, 7)])
@pytest.mark.parametrize("kind", ["float16", "float32", "float64"])
def test_transposing_keeps_every_bit(shape, kind):
    bits = np.random.default_rng(0).integers(0, 255, (*shape, np.dtype(kind).itemsize), np.uint8)
    matrix = bits.view(kind)[..., 0]  # nans with payloads among them
    turned = slices.transpose(matrix)
    assert turned.flags.c_contiguous and turned.dtype == matrix.dtype
    assert turned.tobytes() == np.ascontiguousarray(matrix.T).tobytes()
