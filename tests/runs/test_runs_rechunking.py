"""Chunks that are larger than what is read of them: when an array is copied first, and how."""

import itertools
import math
import tracemalloc

import numpy as np
import pytest
import tensorstore
from etils import epath
from hypothesis import given, settings
from hypothesis import strategies as st

from codegen_pax.runs import rechunking
from codegen_pax.weights import layouts, slices
from codegen_pax.weights.layouts import Dimensions
from experiments.sizes import SIZES

SETTINGS = settings(deadline=None, max_examples=60)


@st.composite
def grids(draw):
    """A shape, and the shapes of a chunk and of a part of it."""
    shape = draw(st.lists(st.integers(1, 9), min_size=1, max_size=3))
    return shape, *([draw(st.integers(1, size)) for size in shape] for _ in range(2))


@SETTINGS
@given(grids())
def test_it_is_needed_where_chunks_are_decoded_more_than_twice(grid):
    shape, chunk, part = grid
    decoded = 0
    for begins in itertools.product(*map(range, [0] * len(shape), shape, part)):
        ends = [min(b + n, size) for b, n, size in zip(begins, part, shape, strict=True)]
        touched = {
            tuple(i // c for i, c in zip(place, chunk, strict=True))
            for place in itertools.product(*map(range, begins, ends))
        }
        decoded += len(touched) * math.prod(chunk)
    assert rechunking.is_needed(shape, chunk, part) == (decoded > 2 * math.prod(shape))
    if not rechunking.is_needed(shape, chunk, part):
        assert math.prod(chunk) <= 2 * math.prod(part)


@pytest.mark.parametrize("name", ["350M", "2B", "6B", "16B"])
def test_what_32_devices_hold_of_a_table_is_rechunked(name):
    """Pax shards it by columns, and it is read by rows: chunks are small, but read often."""
    dims = Dimensions.of(SIZES[name], embedding_bias=False)
    shape = layouts.EMBEDDING.pax_shape(dims)
    all_slices = slices.make_slices(layouts.hugging_face(dims))
    part = slices.chunk_shapes(all_slices, dims)[layouts.EMBEDDING]
    chunk = (shape[0] // 2, shape[1] // 32)
    assert math.prod(chunk) <= 2 * math.prod(part)
    assert rechunking.is_needed(shape, chunk, part)
    assert not rechunking.is_needed(shape, part, part)


def store(folder, values, chunk, compressor, **metadata):
    """A zarr array; without those chunks of it that are zero."""
    spec = {
        "driver": "zarr",
        "kvstore": {"driver": "file", "path": str(folder)},
        "metadata": {
            "shape": values.shape,
            "chunks": chunk,
            "compressor": compressor,
            **metadata,
        },
        "dtype": values.dtype.name,
    }
    made = tensorstore.open(spec, create=True).result()
    made.write(values).result()
    return made


@SETTINGS
@given(
    grids(),
    st.sampled_from([None, {"id": "zstd", "level": 1}, {"id": "gzip", "level": 1}]),
    st.sampled_from([{}, {"dimension_separator": "/"}, {"order": "F"}]),
    st.sampled_from(["float32", "float16"]),
    st.integers(1, 200),
)
def test_the_pieces_are_the_array(tmp_path_factory, grid, compressor, metadata, kind, most):
    shape, chunk, _ = grid
    if len(shape) == 1 and "order" in metadata:
        metadata = {}  # it is the same, and tensorstore takes one alone
    random = np.random.default_rng(0)
    values = random.standard_normal(shape).astype(kind)
    values *= random.integers(0, 2, [shape[0]] + [1] * (len(shape) - 1))
    folder = tmp_path_factory.mktemp("array")
    made = store(folder, values, chunk, compressor, **metadata)
    actual = np.zeros_like(values)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rechunking, "PIECE_BYTES", most)
        whole = []

        def read(box):
            whole.append(box)
            return made[box].read().result()

        for box, part in rechunking.read_pieces(
            epath.Path(folder), shape, chunk, values.dtype, read
        ):
            assert part.size and (whole or part.nbytes <= max(most, part.itemsize))
            assert not np.any(actual[box])  # no part comes twice
            actual[box] = part
    np.testing.assert_array_equal(actual, values)
    assert bool(whole) == (compressor == {"id": "gzip", "level": 1} or metadata == {"order": "F"})


@pytest.mark.parametrize("compressor", [None, {"id": "zstd", "level": 1}])
def test_a_large_chunk_is_never_whole(compressor, tmp_path, monkeypatch):
    values = np.random.default_rng(0).standard_normal((4, 1024, 512), np.float32)
    store(tmp_path, values, values.shape, compressor)
    monkeypatch.setattr(rechunking, "PIECE_BYTES", 1 << 16)
    arguments = (epath.Path(tmp_path), values.shape, values.shape, values.dtype, None)
    expected, seen = values.sum(), 0.0
    tracemalloc.start()
    try:
        for _, part in rechunking.read_pieces(*arguments):
            seen += part.sum(dtype=np.float64)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < values.nbytes / 8 and seen == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("compressor", [None, {"id": "zstd", "level": 1}])
@pytest.mark.parametrize("damage", ["cut short", "changed"])
def test_a_damaged_chunk_is_told(damage, compressor, tmp_path):
    values = np.random.default_rng(0).standard_normal((64, 64), np.float32)
    store(tmp_path, values, values.shape, compressor)
    data = (tmp_path / "0.0").read_bytes()
    if damage == "changed" and compressor is None:
        return  # any bytes are numbers
    (tmp_path / "0.0").write_bytes(data[:-9] if damage == "cut short" else b"\xff" * len(data))
    with pytest.raises(OSError, match=r"0\.0 is damaged: "):
        list(rechunking.read_pieces(epath.Path(tmp_path), (64, 64), (64, 64), values.dtype, None))
