"""The speed of a run and the time left, by a clock that a test moves; and what progress shows."""

import io

import pytest
from rich.console import Console

from codegen_pax.runs import progress
from codegen_pax.runs.log import Line
from codegen_pax.runs.progress import Pace, Speed, follow_run, format_duration


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
    assert pace.at(1) is None
    clock.now += 2
    assert pace.at(2) == Speed(500.0, 76.0, 0.0)  # 1,000 tokens in 2 s; 38 steps to come


def test_a_resumed_run_counts_from_where_it_goes_on(clock):
    pace = Pace(1_000, 64, clock)
    clock.now += 30
    assert pace.at(501) is None
    clock.now += 4 * 99
    assert pace.at(600) == Speed(16.0, 4.0 * 400, 0.0)


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
    assert pace.at(3) == Speed(100.0, 9.0 / 2 * 7, 0.0)
    pace.resume()  # without a pause before it: nothing
    clock.now += 1
    assert pace.at(4).tokens_per_second == 100.0


def test_two_records_at_one_time_tell_nothing(clock):
    pace = Pace(3, 1, clock)
    pace.at(1)
    assert pace.at(2) is None


def test_the_wait_for_input_is_a_share_of_the_steps_since_the_last_record(clock):
    pace = Pace(100, 10, clock)

    def read(seconds=0.5):
        clock.now += seconds
        return "batch"

    def steps(first, last):
        for _ in range(first, last + 1):
            assert pace.timed(read)() == "batch"
            clock.now += 1.5
        return pace.at(last)

    assert steps(1, 1) is None
    assert steps(2, 5) == Speed(5.0, 190.0, 0.25)
    pace.pause()
    clock.now += 90  # an evaluation, which is no part of the steps' time
    pace.resume()
    assert steps(6, 9).input_wait == 0.25
    clock.now += 8  # steps that wait for nothing
    assert pace.at(13).input_wait == 0.0


def test_an_input_that_fails_was_waited_for(clock):
    pace = Pace(100, 10, clock)
    pace.at(1)

    def read():
        clock.now += 3
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        pace.timed(read)()
    clock.now += 1
    assert pace.at(2).input_wait == 0.75


@pytest.mark.parametrize(
    ("seconds", "text"),
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
def test_durations_are_read_by_people(seconds, text):
    assert format_duration(seconds) == text


def shown(terminal: bool, steps: int) -> str:
    """What is shown of a run of 40 steps until so many are done."""
    console = Console(file=io.StringIO(), force_terminal=terminal, width=120)
    with follow_run("Short", 40, console) as on_line:
        on_line(Line("mesh: 1x1x1 [replica x data x mdl]"))
        for step in range(1, steps + 1):
            on_line(Line(f"step {step} of 40: loss {10 - step / 10:.3f}, {40 - step} s left", step))
        on_line(Line("after step 40: validation loss 9.000 on x"))
    return console.file.getvalue()


def test_progress_without_a_terminal_is_a_line_for_every_tenth():
    printed = shown(False, 40).splitlines()
    assert len(printed) == 13
    assert printed[0] == "Short: mesh: 1x1x1 [replica x data x mdl]"
    assert printed[1] == "Short: step 1 of 40: loss 9.900, 39 s left"
    assert printed[6] == "Short: step 20 of 40: loss 8.000, 20 s left"
    assert printed[-2:] == [
        "Short: step 40 of 40: loss 6.000, 0 s left",
        "Short: after step 40: validation loss 9.000 on x",
    ]


def test_the_name_of_a_run_is_printed_once():
    console = Console(file=io.StringIO())
    with follow_run("Short", 40, console) as on_line:
        on_line(Line("Short is checked, and all is well"))
        on_line(Line("Short: steps 1 to 40, in runs/short"))
        on_line(Line("weights: random"))
    assert console.file.getvalue().splitlines() == [
        "Short is checked, and all is well",
        "Short: steps 1 to 40, in runs/short",
        "Short: weights: random",
    ]


def test_progress_on_a_terminal_shows_the_newest_step_and_the_other_lines():
    printed = shown(True, 20)
    assert "step 20 of 40: loss 8.000, 20 s left" in printed
    assert "mesh: 1x1x1 [replica x data x mdl]" in printed and "loss 9.000" in printed


def test_on_a_narrow_terminal_no_part_of_the_line_is_lost():
    console = Console(file=io.StringIO(), force_terminal=True, width=80)
    parts = ("loss 3.1234", "rate 0.00377", "13,012 tokens/s", "MFU 21.3%", "input wait 0.2%")
    with follow_run("CodeGenNanoMono", 3_300, console) as on_line:
        on_line(Line(f"step 1,200 of 3,300: {', '.join(parts)}, 2 min 41 s left", 1_200))
    shown = " ".join(console.file.getvalue().split())
    assert "CodeGenNanoMono" in shown and "…" not in shown and "left" in shown


def printed(monkeypatch, *moved):
    """What is printed of 1 GB, of which (seconds, bytes) each are moved."""
    now = 0.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    console = Console(file=io.StringIO())
    with progress.follow_bytes("importing", 10**9, console) as on_bytes:
        for seconds, count in moved:
            now += seconds
            on_bytes(count)
    return console.file.getvalue().splitlines()


def test_a_short_conversion_has_one_line(monkeypatch):
    assert printed(monkeypatch, *[(0.01, 10**8)] * 10) == ["importing: 1.0 GB of 1.0 GB, 0 s left"]


def test_a_long_one_has_a_line_for_every_tenth(monkeypatch):
    lines = printed(monkeypatch, *[(2.0, 5 * 10**7)] * 20)
    assert len(lines) == 10
    assert lines[0] == "importing: 100.0 MB of 1.0 GB, 36 s left"
    assert lines[-1] == "importing: 1.0 GB of 1.0 GB, 0 s left"


def test_what_is_moved_at_once_has_its_line(monkeypatch):
    assert printed(monkeypatch, (3.0, 10**9)) == ["importing: 1.0 GB of 1.0 GB, 0 s left"]
