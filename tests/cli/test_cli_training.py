"""`run`: what it says before each wait, and that it names the run once in a line."""

import pytest

from codegen_pax.cli.core.main import main
from codegen_pax.runs import launch
from codegen_pax.runs.log import Line


@pytest.fixture
def binary(monkeypatch):
    """In place of the binary: it reports two lines and fails."""

    def run_pax(experiment, job_dir, *, flags, environment, on_line):
        on_line(Line("CodeGenNanoMono: steps 1 to 180, in a folder"))
        on_line(Line("initialising the weights"))
        raise launch.PaxFailedError(f"{experiment} failed")

    monkeypatch.setattr(launch, "run_pax", run_pax)
    for name in ("DATA", "EVALUATE", "MESH", "RECIPE", "START_FROM"):
        monkeypatch.delenv(f"CODEGEN_{name}", raising=False)


def test_starting_the_binary_is_announced_and_the_run_named_once(binary, tmp_path, capsys):
    assert main(["run", "CodeGenNanoMono", "--output", str(tmp_path / "job")]) == 1
    captured = capsys.readouterr()
    first, *lines = captured.out.splitlines()
    assert first.startswith("codegen.CodeGenNanoMono: 3,300 steps of ")
    assert lines == [
        "starting the Pax binary, which takes about half a minute to import ...",
        "CodeGenNanoMono: steps 1 to 180, in a folder",
        "CodeGenNanoMono: initialising the weights",
    ]
    assert captured.err == "codegen-pax: codegen.CodeGenNanoMono failed\n"


def test_checking_the_data_is_announced(binary, tmp_path, capsys, monkeypatch):
    """A corpus that is missing is refused before the binary is started."""
    monkeypatch.setattr("codegen_pax.runs.checkpoints.check_room", lambda *_, **__: "")
    assert main(["run", "CodeGen350MNL", "--output", str(tmp_path / "job")]) == 1
    captured = capsys.readouterr()
    assert captured.out.startswith("checking the data, which takes some seconds to import ")
    assert "starting" not in captured.out and "cannot read pile" in captured.err
