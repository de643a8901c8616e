"""`codegen-pax doctor`: the settings that it shows beside its findings."""

import json
import os

import pytest

from codegen_pax.cli import doctor
from codegen_pax.cli.core.main import main
from experiments.settings import VARIABLES


@pytest.fixture
def run(monkeypatch, capsys):
    """Runs the verb in an environment with these CODEGEN_* variables alone, all else being well."""
    monkeypatch.setattr(doctor, "diagnose", list)
    for name in [key for key in os.environ if key.startswith("CODEGEN_")]:
        monkeypatch.delenv(name)

    def run(*options, **variables):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        return main(["doctor", *options]), capsys.readouterr().out

    return run


def test_every_setting_is_shown_with_its_value_default_and_meaning(run):
    status, text = run("--json", CODEGEN_MESH="1x8x1")
    rows = {row["check"]: row for row in json.loads(text)}
    assert status == 0 and rows.keys() == {variable.name for variable in VARIABLES.values()}
    for variable in VARIABLES.values():
        row = rows[variable.name]
        assert row["status"] == "ok"
        assert row["found"] == ("1x8x1" if variable.name == "CODEGEN_MESH" else "not set")
        assert (row["default"], row["description"]) == (variable.default, variable.description)
    status, text = run()
    words = " ".join(text.split())
    assert status == 0 and words.endswith("All is well.")
    for row in VARIABLES.values():
        assert f"{row.description} Values: {row.values}. Default: {row.default}." in words


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("CODEGEN_RECIPE", "papr", "no recipe is called 'papr'; nearest: paper"),
        ("CODEGEN_MESH", "1x8", "mesh '1x8': expected"),
        ("CODEGEN_MEHS", "1x8x1", "is called 'CODEGEN_MEHS'; nearest: CODEGEN_MESH"),
    ],
)
def test_a_setting_that_a_run_would_refuse_is_an_error(name, value, why, run):
    status, text = run("--json", **{name: value})
    errors = [row for row in json.loads(text) if row["status"] == "error"]
    assert status == 1 and [(row["check"], row["found"]) for row in errors] == [(name, value)]
    assert why in errors[0]["why"] and name in errors[0]["mend"]
    status, text = run()
    assert status == 1 and why in text and "Errors: 1; warnings: 0." in text


def test_a_terminal_obeys_nothing_of_a_value(run):
    _, text = run(CODEGEN_DATA="a\x1b[2Jb")
    assert "\x1b" not in text and "a\ufffd[2Jb" in text
