"""The guess of `mp_num`, on networks that were trained, are fresh, or are made up."""

import pathlib
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codegen_pax.weights import fused_qkv
from codegen_pax.weights.mp_num import LEVEL, detect_from_features, slot_features
from tests.weights import in_memory

FIXTURES = pathlib.Path(__file__).parents[1] / "fixtures"


def fuse(kinds: np.ndarray, mp_num: int) -> np.ndarray:
    """[L, 3, N, F] of query, key and value to features [L, 3N, F], by `layout`'s own order."""
    columns = in_memory.fuse_qkv(kinds.swapaxes(2, 3)[..., np.newaxis], mp_num=mp_num)
    return columns.swapaxes(1, 2)


def split(features: np.ndarray, mp_num: int) -> np.ndarray:
    """Undoes `fuse`."""
    heads = features.shape[1] // 3
    kinds = fused_qkv.split_qkv(features.swapaxes(1, 2), heads=heads, mp_num=mp_num)
    return kinds[..., 0].swapaxes(2, 3)


def divisors(number: int) -> list[int]:
    return [divisor for divisor in range(1, number + 1) if number % divisor == 0]


def trained(name: str) -> np.ndarray:
    """[L, 3, N, 3]: features of a fixture, told apart; `slot_features.json` says how made."""
    with np.load(FIXTURES / "slot_features.npz") as arrays:
        return split(arrays[name], 4)


@pytest.fixture
def matrix():
    """[D, 3NH] of 4 heads of 6, no two columns alike."""
    generator = np.random.default_rng(3)
    return generator.normal(size=(24, 72)) * generator.uniform(0.5, 2, 72)


@pytest.mark.parametrize("mp_num", [1, 2, 4])
def test_features_are_norms_of_each_heads_columns(mp_num, matrix):
    heads, head_dims, rotary = 4, 6, 2
    actual = slot_features(matrix.T, head_dims=head_dims, rotary_dims=rotary)
    parts = fused_qkv.split_qkv(matrix, heads=heads, mp_num=mp_num)
    for kind, of_heads in enumerate(split(actual[np.newaxis], mp_num)[0]):
        for head, features in enumerate(of_heads):
            norms = np.log(np.linalg.norm(parts[kind, :, head], axis=0) / np.sqrt(24))
            expected = [norms[:rotary].mean(), norms[rotary:].mean(), norms.std()]
            np.testing.assert_allclose(features, expected, rtol=1e-5, atol=1e-6)


def test_features_of_blocks_are_those_of_the_whole(matrix):
    sizes = {"head_dims": 6, "rotary_dims": 2}
    rows = matrix.T
    blocks = [slot_features(rows[i:j], **sizes) for i, j in [(0, 6), (6, 48), (48, 72)]]
    np.testing.assert_array_equal(np.concatenate(blocks), slot_features(rows, **sizes))


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e3])
def test_half_precision_neither_overflows_nor_vanishes(scale, matrix):
    rows = (matrix.T * scale).astype(np.float16)
    half = slot_features(rows, head_dims=6, rotary_dims=2)
    double = slot_features(rows.astype(np.float64), head_dims=6, rotary_dims=2)
    np.testing.assert_allclose(half, double, atol=1e-6)


@pytest.mark.parametrize("rotary", [0, 6])
def test_a_head_may_be_rotated_whole_or_not_at_all(rotary, matrix):
    assert np.isfinite(slot_features(matrix.T, head_dims=6, rotary_dims=rotary)).all()


def test_unusable_slots_are_named(matrix):
    with pytest.raises(ValueError, match="6 rows each; found 71 rows"):
        slot_features(matrix.T[1:], head_dims=6, rotary_dims=2)
    matrix[5, 9] = np.nan
    with pytest.raises(ValueError, match="row 9 has weights not finite"):
        slot_features(matrix.T, head_dims=6, rotary_dims=2)


def test_unusable_features_are_named():
    features = np.zeros((2, 12, 3))
    with pytest.raises(ValueError, match=re.escape("are [L, 15, F] for 5 heads; features.shape=")):
        detect_from_features(features, heads=5)
    with pytest.raises(ValueError, match=re.escape("the 4 heads; none of [0, 3, 8] does")):
        detect_from_features(features, heads=4, candidates=(8, 3, 0))


@st.composite
def networks(draw):
    """Features [L, 3, N, 3] whose kinds differ by a few times what their heads do, and a number."""
    heads = draw(st.sampled_from([8, 12, 16, 24]))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    layers = draw(st.integers(2, 4))
    # Query, value and key lie on a triangle, in a plane of the features that each layer chooses.
    triangle = np.array([[0, 0, 0], [1, 0, 0], [0.5, 0.8, 0]])
    plane = np.linalg.qr(generator.normal(size=(layers, 3, 3)))[0]
    means = 5 * (triangle @ plane)[:, :, np.newaxis]
    kinds = means + generator.normal(size=(layers, 3, heads, 3))
    return kinds * draw(st.sampled_from([1e-2, 1.0])), draw(st.sampled_from(divisors(heads)))


@given(networks())
@settings(max_examples=15, deadline=None)
def test_kinds_are_found_in_any_order_of_heads(case):
    kinds, mp_num = case
    heads = kinds.shape[2]
    actual = detect_from_features(fuse(kinds, mp_num), heads=heads)
    assert actual.mp_num == mp_num
    assert max(actual.scores, key=actual.scores.get) == mp_num
    assert actual.summary.startswith(f"mp_num is {mp_num}: the norms of query, key and value")
    order = np.random.default_rng(0).permutation(heads)
    renumbered = detect_from_features(fuse(kinds[:, :, order], mp_num), heads=heads)
    assert renumbered.mp_num == mp_num
    assert renumbered.scores[mp_num] == pytest.approx(actual.scores[mp_num])


@given(networks(), st.permutations([1, 2, 4, 8]))
@settings(max_examples=10, deadline=None)
def test_candidates_come_in_any_order_and_must_divide(case, candidates):
    kinds, mp_num = case
    heads = kinds.shape[2]
    features = fuse(kinds, mp_num)
    actual = detect_from_features(
        features, heads=heads, candidates=[*candidates, mp_num, 2 * heads]
    )
    assert list(actual.scores) == sorted({n for n in candidates if heads % n == 0} | {mp_num})
    assert actual.mp_num == mp_num
    assert actual == detect_from_features(features, heads=heads, candidates=list(actual.scores))


def test_one_possible_number_needs_no_weights():
    actual = detect_from_features(np.zeros((1, 9, 3)), heads=3, candidates=(1, 2, 4, 8))
    assert (actual.mp_num, actual.summary) == (1, "mp_num is 1: no other number is possible")


def test_weights_of_zero_tell_nothing():
    features = slot_features(np.zeros((3 * 8 * 4, 32)), head_dims=4, rotary_dims=2)
    actual = detect_from_features(np.stack([features] * 3), heads=8)
    assert actual.mp_num is None
    assert set(actual.p_values.values()) == {1.0}


@pytest.mark.parametrize("mp_num", [1, 2, 4, 8, 16])
@pytest.mark.parametrize(
    "name",
    [
        f"heads_16_dims_{dims}/{step}"
        for dims, last in [(128, 1600), (256, 800)]
        for step in [100, 200, last]
    ],
)
def test_trained_networks_tell(name, mp_num):
    """Also where only the four usual numbers are asked about."""
    features = fuse(trained(name), mp_num)
    assert detect_from_features(features, heads=16).mp_num == mp_num
    if mp_num <= 8:
        assert detect_from_features(features, heads=16, candidates=(1, 2, 4, 8)).mp_num == mp_num


@pytest.mark.parametrize("mp_num", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("name", ["heads_16_dims_128", "heads_16_dims_256"])
@pytest.mark.parametrize("step", [0, 25])
def test_networks_hardly_trained_do_not_tell(name, step, mp_num):
    actual = detect_from_features(fuse(trained(f"{name}/{step}"), mp_num), heads=16)
    assert actual.mp_num is None
    assert min(actual.p_values.values()) > LEVEL
    assert actual.summary.startswith("cannot tell mp_num from the weights: the norms of query")
    assert actual.summary.endswith("it may be any of 1, 2, 4, 8, 16")


@pytest.mark.parametrize("mp_num", [1, 2, 4])
@pytest.mark.parametrize("step", [135, 180])
def test_four_heads_in_two_layers_are_too_few_to_tell(step, mp_num):
    """Even though the true number fits best by far."""
    actual = detect_from_features(fuse(trained(f"nano/{step}"), mp_num), heads=4)
    first, second = sorted(actual.scores, key=actual.scores.get, reverse=True)[:2]
    assert first == mp_num
    assert actual.scores[first] > 3 * actual.scores[second]
    assert actual.mp_num is None


@pytest.mark.parametrize("stage", ["init", "final"])
def test_jaxformers_short_run_does_not_tell(stage):
    """25 steps of 4 heads in 3 layers; its settings lie beside the fixture."""
    with np.load(FIXTURES / "jaxformer_trajectory.npz") as arrays:
        fused = arrays[f"{stage}/transformer/block/~/attn/~/proj_qkv/w"]
    features = [slot_features(w.T, head_dims=8, rotary_dims=4) for w in fused]
    actual = detect_from_features(np.stack(features), heads=4)
    assert actual.mp_num is None
    assert min(actual.p_values.values()) > LEVEL


def test_fresh_networks_do_not_tell():
    """50 of 4 layers, 8 heads: at 0.1% each, two or more named by chance are 1 in 800."""
    generator = np.random.default_rng(11)
    guesses = [
        detect_from_features(generator.normal(size=(4, 24, 3)), heads=8).mp_num for _ in range(50)
    ]
    assert sum(mp_num is not None for mp_num in guesses) <= 1


@pytest.mark.parametrize("mp_num", [1, 8])
def test_the_true_number_is_ruled_out_as_rarely_as_said(mp_num):
    """Also where query, key and value of a head are alike: p-values of 80 networks are uniform."""
    generator = np.random.default_rng(13)
    p_values = []
    for _ in range(80):
        head = generator.normal(size=(2, 1, 8, 1))
        kinds = head + 0.5 * generator.normal(size=(2, 3, 8, 3)) + np.arange(3)[:, None, None]
        actual = detect_from_features(fuse(kinds, mp_num), heads=8)
        p_values.append(actual.p_values[mp_num])
    # Four standard deviations of a binomial of 80.
    for level in (0.05, 0.2, 0.5):
        allowed = level + 4 * np.sqrt(level * (1 - level) / 80)
        assert np.mean(np.array(p_values) <= level) <= allowed
