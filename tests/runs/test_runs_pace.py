"""The speed of a run and the time it will take, by a clock that a test moves."""

import pytest

from codegen_pax.runs.pace import Pace, duration


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def test_the_first_step_tells_neither_since_it_compiles(clock):
    pace = Pace(40, 1_000, clock)
    clock.now += 90
    assert pace.at(1) == (None, None)
    clock.now += 2
    assert pace.at(2) == (500.0, 76.0)  # 1,000 tokens in 2 s; 38 steps to come


def test_a_resumed_run_counts_from_where_it_goes_on(clock):
    pace = Pace(1_000, 64, clock)
    clock.now += 30
    assert pace.at(501) == (None, None)
    clock.now += 4 * 99
    assert pace.at(600) == (16.0, 4.0 * 400)


def test_an_evaluation_is_no_part_of_the_speed_but_of_the_time_left(clock):
    pace = Pace(10, 100, clock)
    pace.resume()
    clock.now += 50
    pace.at(1)
    clock.now += 1
    pace.at(2)
    pace.pause()
    clock.now += 7  # an evaluation
    pace.resume()
    clock.now += 1
    assert pace.at(3) == (100.0, 9.0 / 2 * 7)
    pace.resume()  # without a pause before it: nothing
    clock.now += 1
    assert pace.at(4)[0] == 100.0


def test_two_records_at_one_time_divide_by_nothing(clock):
    pace = Pace(3, 1, clock)
    pace.at(1)
    assert pace.at(2) == (None, 0.0)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.4, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min"),
        (750, "12 min 30 s"),
        (3_600, "1 h"),
        (7_505, "2 h 5 min"),
        (86_400 * 3 + 3_600 * 4 + 59, "3 d 4 h"),
    ],
)
def test_durations_are_read_by_people(seconds, said):
    assert duration(seconds) == said
