"""The stock binary as a child: what a failure says, and what progress shows."""

import io
import time

import pytest
from rich.console import Console

from codegen_pax.runs import launch
from codegen_pax.runs.progress import follow_steps


@pytest.mark.e2e
def test_a_refused_run_is_one_line_with_its_log(tmp_path, monkeypatch):
    """From another directory than the project's: the binary finds the experiment all the same."""
    monkeypatch.chdir(tmp_path)
    job = tmp_path / "job"
    settings = {"CODEGEN_START_FROM": str(tmp_path / "nothing")}
    with pytest.raises(launch.PaxFailedError) as error:
        launch.run_pax("codegen.CodeGenNanoMulti", job, environment=settings)
    message = str(error.value)
    assert "\n" not in message
    assert "status 1" in message and "holds no checkpoint" in message
    assert str(job / "logs" / "train.log") in message
    assert "holds no checkpoint" in (job / "logs" / "train.log").read_text()
    assert not (job / "checkpoints").exists()


@pytest.fixture
def clock(monkeypatch):
    """Seconds as `time.monotonic` gives them; stands still unless it is moved."""
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def lines(terminal: bool, clock: list[float], steps: int) -> str:
    """What is printed until `steps` of 40 are done, three seconds each."""
    console = Console(
        file=io.StringIO(), force_terminal=terminal, width=100, get_time=lambda: clock[0]
    )
    with follow_steps("CodeGenNanoMono", 40, console) as on_step:
        for step in range(1, steps + 1):
            on_step(step, 10.0 - step / 10)
            clock[0] += 3
    return console.file.getvalue()


def test_progress_without_a_terminal_is_a_line_for_every_tenth(clock):
    printed = lines(False, clock, 40).splitlines()
    assert len(printed) == 11
    assert printed[5] == "CodeGenNanoMono: step 20 of 40, loss 8.000, 60 s left"
    assert printed[-1] == "CodeGenNanoMono: step 40 of 40, loss 6.000, 0 s left"


def test_progress_on_a_terminal_shows_the_time_left(clock):
    printed = lines(True, clock, 20)
    assert "20/40" in printed and "loss 8.000" in printed
    assert "0:01:0" in printed  # of twenty steps of three seconds
