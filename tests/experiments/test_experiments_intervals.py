"""Intervals follow the length of a run; those of the published phases stay as they are."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.declaration import declarations
from experiments.intervals import Intervals, intervals


@pytest.mark.parametrize(
    ("steps", "wanted"),
    [
        (1, Intervals(record=1, save=1, evaluate=1, decode=1, kept=10)),
        (4, Intervals(record=1, save=4, evaluate=4, decode=4, kept=10)),
        (12, Intervals(record=1, save=10, evaluate=10, decode=10, kept=10)),
        (200, Intervals(record=6, save=50, evaluate=50, decode=50, kept=10)),
        (2_999, Intervals(record=99, save=749, evaluate=749, decode=749, kept=10)),
        (3_000, Intervals(record=100, save=1_000, evaluate=1_000, decode=1_000, kept=10)),
        (350_000, Intervals(record=100, save=1_000, evaluate=1_000, decode=1_000, kept=10)),
    ],
)
def test_intervals_of_a_real_size(steps, wanted):
    assert intervals(steps, embedded=False) == wanted


def test_every_published_run_is_long():
    real = [one for one in declarations() if not one.size.embedded]
    assert len(real) == 16
    for one in real:
        found = intervals(one.steps, embedded=False)
        assert (found.record, found.save, found.evaluate) == (100, 1_000, 1_000)


def test_a_laptop_evaluates_before_the_run_and_at_its_end():
    assert intervals(180, embedded=True) == Intervals(
        record=6, save=45, evaluate=180, decode=180, kept=2
    )


@given(st.integers(1, 10**6), st.booleans())
def test_no_interval_is_longer_than_the_run(steps, embedded):
    found = intervals(steps, embedded)
    assert all(1 <= every <= steps for every in (found.record, found.save, found.evaluate))
    # A curve of thirty points, where there are thirty steps to draw.
    assert steps // found.record >= min(steps, 30)
