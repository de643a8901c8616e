"""Numbers that are not finite are found by their bits, counted and named."""

import ml_dtypes
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from codegen_pax import floats
from codegen_pax.floats import DTYPES
from codegen_pax.runs.checkpoint_arrays import Variables, read_variables
from codegen_pax.weights import layouts, slices
from tests.weights.conversions import export, import_hugging_face
from tests.weights.networks import Network

NETWORK = Network()
DIMS = NETWORK.dims()


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_every_number_of_two_bytes(kind):
    """Against numpy's own, one by one: NaNs of any payload, denormals and both zeros."""
    numbers = np.arange(1 << 16, dtype=np.uint16).view(DTYPES[kind])
    expected = np.isfinite(numbers.astype(np.float32))
    actual = np.array([floats.is_finite(numbers[i : i + 1]) for i in range(len(numbers))])
    np.testing.assert_array_equal(actual, expected)
    assert floats.is_finite(numbers[expected]) and not floats.is_finite(numbers[~expected])


@given(st.lists(st.integers(0, 2**32 - 1), max_size=9))
def test_any_numbers_of_four_bytes(bits):
    numbers = np.array(bits, np.uint32).view(np.float32)
    assert floats.is_finite(numbers) == np.isfinite(numbers).all()
    assert floats.is_finite(np.tile(numbers, (3, 1)).T) == np.isfinite(numbers).all()


def test_the_first_is_named_by_its_place_in_the_tensor():
    """Of a stack [2, 3, 4], whose first two axes are joined: row 4 is layer 1's second."""
    rows = np.zeros((6, 4), np.float32)
    rows[4, 2], rows[5, 0] = -np.inf, np.nan
    error = floats.non_finite_error("x", (2, 3, 4), [(0, rows[:3]), (3, rows[3:])])
    assert str(error).startswith(
        "x holds 2 numbers that are not finite, the first -inf at [1, 1, 2]"
    )
    rows[5, 0] = 0
    assert "holds 1 number that is not finite" in str(
        floats.non_finite_error("x", (6, 4), [(0, rows)])
    )


@pytest.mark.parametrize(
    ("kind", "value"),
    [("float32", float("nan")), ("float16", float("-inf")), ("bfloat16", float("nan"))],
)
def test_an_import_and_an_export_name_the_tensor(kind, value, tmp_path, monkeypatch):
    monkeypatch.setattr(slices, "SLICE_BYTES", 600)
    network = NETWORK.hugging_face(kind)
    network.save_pretrained(tmp_path / "sound")
    checkpoint = import_hugging_face(tmp_path / "sound", tmp_path / "job", DIMS)
    with torch.no_grad():
        network.transformer.h[1].mlp.fc_in.weight[70:72, 30:] = value
    network.save_pretrained(tmp_path / "source")
    message = (
        r"transformer\.h\.1\.mlp\.fc_in\.weight holds 4 numbers that are not finite, the first "
        rf"{value} at \[70, 30\]"
    )
    with pytest.raises(ValueError, match=rf"model\.safetensors: {message}"):
        import_hugging_face(tmp_path / "source", tmp_path / "new", DIMS)
    # As training that has diverged leaves it: Pax has the matrix the other way round.
    name = next(name for name in Variables(checkpoint).stores if "ffn_layer1.linear.w" in name)
    store = Variables(checkpoint).stores[name]
    store[1, 30:, 70:72] = np.full((2, 2), value, DTYPES[kind])
    with pytest.raises(ValueError, match=rf"checkpoint_00000000: {message}"):
        export(checkpoint, tmp_path / "export", layouts.hugging_face(DIMS))
    with pytest.raises(ValueError, match=rf"{name} holds 4 numbers .* {value} at \[1, 30, 70\]"):
        read_variables(checkpoint)
    assert {path.name for path in tmp_path.iterdir()} == {"sound", "job", "source"}


def test_small_numbers_pass(tmp_path):
    """Negative zeros and the least of each type are numbers as any other."""
    for kind in DTYPES.values():
        least = np.array(
            [ml_dtypes.finfo(kind).smallest_subnormal, -0.0, ml_dtypes.finfo(kind).min]
        )
        assert floats.is_finite(least.astype(kind))
