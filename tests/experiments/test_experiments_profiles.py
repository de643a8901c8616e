"""Intervals follow the length of a run; those of the published phases are fixed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.declaration import declarations
from experiments.profiles import LAPTOP, PUBLISHED, Intervals


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        (1, Intervals(record=1, save=1, evaluate=1, decode=1, keep=10)),
        (4, Intervals(record=1, save=4, evaluate=4, decode=4, keep=10)),
        (12, Intervals(record=1, save=10, evaluate=10, decode=10, keep=10)),
        (200, Intervals(record=6, save=50, evaluate=50, decode=50, keep=10)),
        (2_999, Intervals(record=99, save=749, evaluate=749, decode=749, keep=10)),
        (3_000, Intervals(record=100, save=1_000, evaluate=1_000, decode=1_000, keep=10)),
        (350_000, Intervals(record=100, save=1_000, evaluate=1_000, decode=1_000, keep=10)),
    ],
)
def test_intervals_of_a_real_size(steps, expected):
    assert PUBLISHED.intervals(steps) == expected


def test_every_published_run_is_long():
    real = [one for one in declarations() if one.profile == PUBLISHED]
    assert len(real) == 16
    for one in real:
        actual = PUBLISHED.intervals(one.steps)
        assert (actual.record, actual.save, actual.evaluate) == (100, 1_000, 1_000)


def test_a_laptop_evaluates_before_the_run_and_at_its_end():
    assert LAPTOP.intervals(180) == Intervals(record=6, save=45, evaluate=180, decode=180, keep=2)


@given(st.integers(1, 10**6), st.sampled_from([PUBLISHED, LAPTOP]))
def test_no_interval_is_longer_than_the_run(steps, profile):
    actual = profile.intervals(steps)
    assert all(1 <= every <= steps for every in (actual.record, actual.save, actual.evaluate))
    # A curve of thirty points, where there are thirty steps to draw.
    assert steps // actual.record >= min(steps, 30)
