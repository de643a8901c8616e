"""`ladder`: what each run starts from and is scored on, and the matrix it ends with."""

import json

import pytest

from codegen_pax.cli import ladder
from codegen_pax.cli.core import training
from codegen_pax.cli.core.main import main
from codegen_pax.runs import summary

NAMES = [f"CodeGenNano{phase}" for phase in ladder.PHASES]
MIXTURES = [f"codegen_nano_{phase.lower()}" for phase in ladder.PHASES]


@pytest.fixture
def runs(monkeypatch):
    """The runs that are asked for, in order; model m scores m + c / 10 on the data of phase c."""
    started = []

    def train(experiment, declaration, job, console, settings):
        started.append((experiment, job, settings))

    def losses(job, mixture):
        return [summary.Scalar(1, 0.0, NAMES.index(job.name) + MIXTURES.index(mixture) / 10)]

    monkeypatch.setattr(training, "train", train)
    monkeypatch.setattr(training, "print_summary", lambda *_: None)
    monkeypatch.setattr(summary, "evaluation_losses", losses)
    return started


def test_each_phase_starts_from_the_last_and_is_scored_on_all(runs, tmp_path, capsys):
    assert main(["ladder", f"--output={tmp_path}"]) == 0
    experiments, jobs, settings = zip(*runs, strict=True)
    assert experiments == tuple(f"codegen.{name}" for name in NAMES)
    assert jobs == tuple(tmp_path / name for name in NAMES)
    assert [run.start_from for run in settings] == ["scratch", *map(str, jobs[:-1])]
    assert all(run.evaluate == tuple(MIXTURES) for run in settings)

    actual = json.loads((tmp_path / "losses.json").read_text())
    assert actual["CodeGenNanoMono"] == dict(zip(MIXTURES, (2.0, 2.1, 2.2, 2.3), strict=True))
    printed = [line for line in capsys.readouterr().out.splitlines() if "CodeGenNano" in line]
    assert [line.split("│")[1].strip() for line in printed] == NAMES
    assert [cell.strip() for cell in printed[3].split("│")[2:-1]] == [
        "3.000",
        "3.100",
        "3.200",
        "3.300",
    ]
