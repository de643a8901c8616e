"""Cut by cut gives what whole arrays give, whatever the sizes, the layout and the cuts."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codegen_pax.weights import cuts, layout
from tests.weights import whole
from tests.weights.networks import Network

HEAD_DIMS = 3


@st.composite
def sizes(draw):
    """The sizes of a network, a number of column groups, and the bytes of a cut."""
    mp_num = draw(st.sampled_from([1, 2, 4, 8]))
    heads = mp_num * draw(st.integers(1, 3))
    dims = layout.Dimensions(
        layers=draw(st.integers(1, 3)),
        model_dims=heads * HEAD_DIMS,
        heads=heads,
        vocab_size=draw(st.integers(1, 40)),
        embedding_bias=False,
    )
    return dims, mp_num, draw(st.integers(1, 4_000))


@pytest.fixture(scope="module")
def cut_bytes():
    """Sets the bytes of a cut; they are put back in the end."""
    patch = pytest.MonkeyPatch()
    yield lambda count: patch.setattr(cuts, "CUT_BYTES", count)
    patch.undo()


def variables(dims: layout.Dimensions) -> dict:
    """A tree in which every number is another one."""
    tree: dict = {}
    begin = 0
    for weight in layout.weights(dims):
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


def arrays_of(found: cuts.Layout, tree: dict) -> dict[str, np.ndarray]:
    arrays = {name: np.full(shape, -1, np.int32) for name, shape in found.shapes.items()}
    for cut in found.cuts:
        rows = cuts.from_pax(cut, leaf(tree, cut.weight.path)[cut.index])
        assert (arrays[cut.tensor][cut.start : cut.stop] == -1).all(), "written twice"
        arrays[cut.tensor][cut.start : cut.stop] = rows
    assert all((array >= 0).all() for array in arrays.values()), "not written"
    return arrays


def tree_of(found: cuts.Layout, arrays: dict, dims: layout.Dimensions) -> dict:
    tree = variables(dims)
    for weight in layout.weights(dims):
        leaf(tree, weight.path)[...] = -1
    for cut in found.cuts:
        rows = arrays[cut.tensor][cut.start : cut.stop]
        leaf(tree, cut.weight.path)[cut.index] = cuts.to_pax(cut, rows, dims, found.mp_num)
    return tree


def assert_equal(found: dict, wanted: dict, dims: layout.Dimensions) -> None:
    for weight in layout.weights(dims):
        np.testing.assert_array_equal(leaf(found, weight.path), leaf(wanted, weight.path))


@settings(deadline=None)
@given(sizes())
def test_hugging_face_and_back(cut_bytes, case):
    dims, mp_num, count = case
    cut_bytes(count)
    found = cuts.hugging_face(dims, 4, mp_num=mp_num)
    tree = variables(dims)
    arrays = arrays_of(found, tree)
    assert_equal(tree_of(found, arrays, dims), tree, dims)
    # Each layer's fused matrix is what the whole conversion, held against transformers, makes.
    weight = layout.WEIGHTS[4]
    qkv = leaf(tree, weight.path)
    for layer in range(dims.layers):
        name = weight.hugging_face.format(layer=layer)
        np.testing.assert_array_equal(arrays[name].T, whole.fuse_qkv(qkv[layer], mp_num=mp_num))


@settings(deadline=None)
@given(sizes())
def test_gptj_and_back(cut_bytes, case):
    dims, _, count = case
    cut_bytes(count)
    found = cuts.gptj(dims)
    tree = variables(dims)
    arrays = arrays_of(found, tree)
    assert_equal(tree_of(found, arrays, dims), tree, dims)
    weight = layout.WEIGHTS[4]
    for number, part in enumerate(("q_proj", "k_proj", "v_proj")):
        rows = arrays[f"transformer.h.0.attn.{part}.weight"]
        wanted = leaf(tree, weight.path)[0, number].reshape(dims.model_dims, -1).T
        np.testing.assert_array_equal(rows, wanted)


@settings(deadline=None)
@given(sizes())
def test_jaxformer_to_pax(cut_bytes, case):
    """Against the fused matrix, taken apart whole."""
    dims, mp_num, count = case
    cut_bytes(count)
    found = cuts.jaxformer(dims, 4, mp_num=mp_num)
    random = np.random.default_rng(0)
    arrays = {name: random.integers(0, 999, shape) for name, shape in found.shapes.items()}
    tree = whole.from_jaxformer(arrays, dims, mp_num=mp_num)
    weight = layout.WEIGHTS[4]
    np.testing.assert_array_equal(
        leaf(tree, weight.path),
        layout.split_qkv(arrays[weight.jaxformer], heads=dims.heads, mp_num=mp_num),
    )
    post = layout.WEIGHTS[5]
    np.testing.assert_array_equal(
        leaf(tree, post.path).reshape(dims.layers, dims.model_dims, -1),
        np.swapaxes(arrays[post.jaxformer], 1, 2),
    )


@settings(deadline=None)
@given(sizes(), st.sampled_from(["hugging_face", "gptj", "jaxformer"]))
def test_cuts_are_small_and_their_grid_is_regular(cut_bytes, case, name):
    """So that a chunk of a zarr array is one cut, and a cut no more than it should be."""
    dims, mp_num, count = case
    cut_bytes(count)
    settings = {} if name == "gptj" else {"mp_num": mp_num}
    found = getattr(cuts, name)(dims, 4, **settings)
    chunks = cuts.chunk_shapes(found, dims)
    for cut in found.cuts:
        sizes = cut.weight.pax_shape(dims)
        for axis, size, chunk in zip(cut.index, sizes, chunks[cut.weight], strict=True):
            span = range(size)[axis]
            assert span.start % chunk == 0
            assert len(span) == min(chunk, size - span.start)
        unit = HEAD_DIMS if cut.rule in ("part", "head_columns") else 1
        row = int(np.prod(found.shapes[cut.tensor][1:])) * 4
        stacked = name == "jaxformer" and cut.weight.stacked
        row //= cut.weight.plain_shape(dims)[0] if stacked else 1
        assert cut.stop - cut.start == unit or (cut.stop - cut.start) * row <= count


def test_the_order_is_that_of_transformers():
    network = Network()
    for model, made in (("CodeGen", cuts.hugging_face), ("GPTJ", cuts.gptj)):
        state = network.hugging_face(model=model).state_dict()
        found = made(network.dims()).shapes
        assert list(found) == list(state)
        assert {name: tuple(array.shape) for name, array in state.items()} == dict(found)


@pytest.mark.parametrize("shape", [(1, 1), (5, 3), (128, 128), (129, 300), (1000, 7)])
@pytest.mark.parametrize("kind", ["float16", "float32", "float64"])
def test_transposing_keeps_every_bit(shape, kind):
    bits = np.random.default_rng(0).integers(0, 255, (*shape, np.dtype(kind).itemsize), np.uint8)
    matrix = bits.view(kind)[..., 0]  # nans with payloads among them
    turned = cuts.transposed(matrix)
    assert turned.flags.c_contiguous and turned.dtype == matrix.dtype
    assert turned.tobytes() == np.ascontiguousarray(matrix.T).tobytes()
