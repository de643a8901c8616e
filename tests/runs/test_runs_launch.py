"""The stock binary as a child process: what is reported of it, and what a failure leaves."""

import io
import subprocess

import pytest

from codegen_pax.runs import launch
from codegen_pax.runs.log import Line


@pytest.mark.e2e
def test_a_refused_run_is_one_line_and_leaves_nothing(tmp_path, monkeypatch):
    """From another directory than the project's: the binary finds the experiment all the same."""
    monkeypatch.chdir(tmp_path)
    settings = {"CODEGEN_START_FROM": str(tmp_path / "nothing"), "CODEGEN_MESH": "1x4x2"}
    with pytest.raises(launch.RefusedError) as error:
        launch.run_pax("codegen.CodeGenNanoMulti", tmp_path / "jobs" / "job", environment=settings)
    message = str(error.value)
    assert message.startswith("CodeGenNanoMulti starts from CodeGenNanoNL: CODEGEN_START_FROM=")
    assert "\n" not in message and "holds no checkpoint" in message
    assert list(tmp_path.iterdir()) == []


class Child:
    """A process that prints some lines and ends."""

    def __init__(self, lines, status, then=lambda: None):
        self.stdout, self._status, self._then = io.StringIO(lines), status, then

    def wait(self):
        self._then()
        return self._status

    def poll(self):
        return self._status


LOG = """\
Registered experiment `codegen.CodeGenNanoNL`
I1127 02:53:07.151070 1400 programs.py:118] codegen-pax: weights: random
I1127 02:54:36.785385 1400 programs.py:167] codegen-pax: after step 0: validation loss 11.09 on x
I1127 02:55:00.685653 1400 summary.py:20] Wrote summary entry at step `1` (loss=`11.1`).
I1127 02:55:00.685653 1400 programs.py:158] codegen-pax: step 1,200 of 2,000: loss nan, rate 0
"""


def run(monkeypatch, job, lines, status=0, then=lambda: None):
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: Child(lines, status, then))
    reported = []
    launch.run_pax("mine.Short", job, on_line=reported.append)
    return reported


def test_the_lines_that_a_run_reports_are_followed(tmp_path, monkeypatch):
    reported = run(monkeypatch, tmp_path / "job", LOG)
    assert reported == [
        Line("weights: random"),
        Line("after step 0: validation loss 11.09 on x"),
        Line("step 1,200 of 2,000: loss nan, rate 0", 1_200),
    ]
    assert (tmp_path / "job" / "logs" / "train.log").read_text() == LOG


def test_a_defect_keeps_its_log(tmp_path, monkeypatch):
    lines = f"{LOG}Traceback (most recent call last):\nValueError: boom\n"
    with pytest.raises(launch.PaxFailedError, match=r"status 1: ValueError: boom .*train\.log"):
        run(monkeypatch, tmp_path / "job", lines, status=1)
    assert (tmp_path / "job" / "logs" / "train.log").read_text() == lines


REFUSED = f"{LOG}codegen-pax: shard 3 is damaged\n"


def test_a_run_that_had_begun_keeps_its_log(tmp_path, monkeypatch):
    """What is wrong with the data may show when it has saved for hours."""
    job = tmp_path / "job"
    with pytest.raises(launch.PaxFailedError, match="status 1: shard 3 is damaged"):
        run(monkeypatch, job, REFUSED, 1, then=(job / "lineage.json").touch)
    assert (job / "logs" / "train.log").exists()


def test_a_log_that_was_there_before_is_added_to(tmp_path, monkeypatch):
    log = tmp_path / "job" / "logs" / "train.log"
    log.parent.mkdir(parents=True)
    log.write_text("before\n")
    with pytest.raises(launch.PaxFailedError):
        run(monkeypatch, tmp_path / "job", REFUSED, 1)
    assert log.read_text() == f"before\n{REFUSED}"


def test_what_is_not_its_own_stays(tmp_path, monkeypatch):
    (tmp_path / "jobs" / "other").mkdir(parents=True)
    with pytest.raises(launch.RefusedError, match=r"^shard 3 is damaged$"):
        run(monkeypatch, tmp_path / "jobs" / "job", REFUSED, 1)
    assert [path.name for path in (tmp_path / "jobs").iterdir()] == ["other"]
