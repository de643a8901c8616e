"""Entropies against values worked out by hand."""

import math

import numpy as np
import pytest

from codegen_pax.data import entropy


def batch(ids, labels, weights=None):
    ids = np.array(ids, np.int32)
    weights = np.ones(ids.shape) if weights is None else np.array(weights, np.float32)
    return {"ids": ids, "labels": np.array(labels, np.int32), "weights": weights}


def test_empirical_by_hand():
    # Labels 0 0 0 1: H = 3/4 ln 4/3 + 1/4 ln 4. After 5: 0 and 1, ln 2; after 0: always 0.
    actual = entropy.empirical([batch([[5, 0]], [[0, 0]]), batch([[5, 0]], [[1, 0]])])
    assert actual.tokens == 4
    assert actual.unigram == pytest.approx(0.75 * math.log(4 / 3) + 0.25 * math.log(4))
    assert actual.bigram == pytest.approx(0.5 * math.log(2))


def test_positions_without_weight_do_not_count():
    weighted = batch([[5, 0, 9]], [[0, 0, 7]], [[1, 1, 0]])
    assert entropy.empirical([weighted]) == entropy.empirical([batch([[5, 0]], [[0, 0]])])


def test_id_zero_counts():
    assert entropy.empirical([batch([0, 0], [0, 1])]).unigram == pytest.approx(math.log(2))


def test_a_certain_successor_leaves_no_bigram_entropy():
    row = np.arange(100) % 10
    actual = entropy.empirical([batch(row[:-1], row[1:])])
    assert actual.bigram == pytest.approx(0, abs=1e-12)
    assert actual.unigram == pytest.approx(math.log(10), abs=0.01)


def test_fitted_by_hand():
    training = [batch([0, 0, 1], [0, 1, 0])]  # after 0: 0 and 1; after 1: 0
    p0, p1, p2 = 3 / 7, 2 / 7, 1 / 7  # counts 2, 1, 0 of N = 3 with one more each, V = 4
    scored = [batch([0, 1, 3], [1, 2, 0])]
    actual = entropy.fitted(training, scored, vocab_size=4)
    assert actual.tokens == 3
    assert actual.unigram == pytest.approx(-(math.log(p1) + math.log(p2) + math.log(p0)) / 3)
    seen = (1 + 2 * p1) / (2 + 2)
    unseen_pair = (0 + 1 * p2) / (1 + 1)
    assert actual.bigram == pytest.approx(
        -(math.log(seen) + math.log(unseen_pair) + math.log(p0)) / 3
    )


def test_fitted_bigram_is_a_distribution():
    rng = np.random.default_rng(0)
    row = rng.integers(0, 6, 200)
    training = [batch(row[:-1], row[1:])]
    for before in range(7):  # 6 never occurs
        losses = [entropy.fitted(training, [batch([before], [b])], 7).bigram for b in range(7)]
        assert sum(math.exp(-loss) for loss in losses) == pytest.approx(1)


def test_nothing_to_measure_is_an_error():
    with pytest.raises(ValueError, match="found 0 with a weight above 0"):
        entropy.empirical([batch([1, 2], [2, 3], [0, 0])])
