"""The stock binary as a child: what a failure says, and what progress shows."""

import io

import pytest
from rich.console import Console

from codegen_pax.runs import launch
from codegen_pax.runs.progress import follow_steps


@pytest.mark.e2e
def test_a_refused_run_is_one_line_with_its_log(tmp_path):
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


def lines(terminal: bool) -> str:
    console = Console(file=io.StringIO(), force_terminal=terminal, width=100)
    with follow_steps("CodeGenNanoMono", 40, console) as on_step:
        for step in range(1, 41):
            on_step(step, 10.0 - step / 10)
    return console.file.getvalue()


def test_progress_without_a_terminal_is_a_line_for_every_tenth():
    printed = lines(terminal=False).splitlines()
    assert len(printed) == 11
    assert printed[-1] == "CodeGenNanoMono: step 40 of 40, loss 6.000"


def test_progress_on_a_terminal_shows_the_time_left():
    printed = lines(terminal=True)
    assert "40/40" in printed and "loss 6.000" in printed and "0:00:00" in printed
