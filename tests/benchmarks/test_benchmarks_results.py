"""A benchmark's report: the file, the table and the exit status."""

import json

import pytest

from benchmarks import results
from benchmarks.results import Target


@pytest.mark.parametrize(
    ("target", "met"),
    [
        (Target("speed", 1.0, least=1.0), True),
        (Target("speed", 0.99, least=1.0), False),
        (Target("time", 2.0, most=2.0), True),
        (Target("time", 2.1, most=2.0), False),
        (Target("between", 3.0, least=1.0, most=2.0), False),
        (Target("no number", float("nan"), least=1.0), False),
        (Target("no number", float("nan"), most=1.0), False),
    ],
)
def test_a_target_is_met_within_its_bounds(target, met):
    assert target.is_met == met


def test_a_report_with_a_missed_target_fails_and_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rows = [{"side": "ours", "seconds": 2.0}, {"side": "theirs", "seconds": 1.5}]
    assert results.report("racing", rows, [Target("time, of theirs", 4 / 3, most=1.0)]) == 1
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].split() == ["side", "seconds"]
    assert shown[-1] == "missed: time, of theirs: 1.333; expected at most 1.000"
    kept = json.loads((tmp_path / "build/benchmarks/racing.json").read_text())
    assert kept["rows"] == rows
    assert [target["met"] for target in kept["targets"]] == [False]
    assert results.report("racing", rows, [Target("time, of theirs", 0.9, most=1.0)]) == 0
