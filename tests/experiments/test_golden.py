"""Every registered experiment's configuration is as it was when it was last looked at."""

import difflib
import os
from pathlib import Path

import pytest

import codegen
from codegen_pax.compare import ExperimentConfig, snapshot
from experiments.declaration import declarations

NAMES = [declaration.name for declaration in declarations()]
GOLDEN = Path(__file__).with_name("golden")
REFRESH = os.environ.get("GOLDEN") == "refresh"


def expanded(name, monkeypatch):
    for setting in [key for key in os.environ if key.startswith("CODEGEN_")]:
        monkeypatch.delenv(setting)
    return snapshot(ExperimentConfig.of(name, getattr(codegen, name)()))


@pytest.mark.parametrize("name", NAMES)
def test_configuration_is_unchanged(name, monkeypatch):
    found = expanded(name, monkeypatch)
    path = GOLDEN / f"{name}.txt"
    if REFRESH:
        GOLDEN.mkdir(exist_ok=True)
        path.write_text(found)
    kept = path.read_text() if path.exists() else ""
    drift = "".join(
        difflib.unified_diff(
            kept.splitlines(keepends=True), found.splitlines(keepends=True), "kept", "found", n=1
        )
    )
    assert not drift, f"{name} has changed. If it was meant to: make golden\n{drift}"


def test_there_is_a_snapshot_for_each_experiment_and_no_other():
    if REFRESH:
        for path in GOLDEN.glob("*.txt"):
            if path.stem not in NAMES:
                path.unlink()
    assert sorted(path.stem for path in GOLDEN.glob("*.txt")) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_snapshots_are_of_no_machine(name):
    text = (GOLDEN / f"{name}.txt").read_text()
    assert len(text.splitlines()) < 1_000
    for sign in (" 0x", str(Path(__file__).parents[2]), os.path.expanduser("~"), "object at"):
        assert sign not in text


def test_a_changed_value_shows(monkeypatch):
    """A value of another class, one that was set to its default, and a default of ours."""
    monkeypatch.delenv("CODEGEN_RECIPE", raising=False)
    task = codegen.CodeGen350MMono().task()
    optimizer = task.train.learner.optimizer
    before = snapshot(ExperimentConfig("x", {"task": task})).splitlines()
    optimizer.beta1 = 0.8
    del optimizer.decay
    task.model.lm_tpl.model_dims = 1025
    after = snapshot(ExperimentConfig("x", {"task": task})).splitlines()
    learner = "task.train.learner.optimizer"
    assert sorted(set(before) - set(after)) == [
        "task.model.lm_tpl.model_dims = 1024",
        f"{learner}.beta1 = 0.9",
        f"{learner}.decay = 'stacked_rank'",
    ]
    assert sorted(set(after) - set(before)) == [
        "task.model.lm_tpl.model_dims = 1025",
        f"{learner}.beta1 = 0.8",
        # Not set any more, and told still: the default is ours.
        f"{learner}.decay = 'matrices'",
    ]
