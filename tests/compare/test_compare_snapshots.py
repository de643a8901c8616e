"""Snapshots: what has a line, and what has changed since a snapshot of any version was written."""

import dataclasses
from typing import Any

import fiddle as fdl
import pytest

from codegen_pax.compare import Change, ExperimentConfig, changes_since, snapshot, strip_module
from experiments.phases import Phase


@dataclasses.dataclass
class Layer:
    dims: Any = 0
    tpl: Any = None


@dataclasses.dataclass
class Other:
    dims: Any = 7


def experiment(**arguments):
    return ExperimentConfig("x", {"task": fdl.Config(Layer, **arguments)})


def test_a_line_for_each_class_and_argument_that_is_set():
    inner = fdl.Config(Other, dims=(1, 2))
    assert snapshot(experiment(tpl=inner)).splitlines() == [
        f"task = {__name__}.Layer",
        f"task.tpl = {__name__}.Other",
        "task.tpl.dims = (1, 2)",
    ]


def test_defaults_of_this_project_have_a_line_and_no_others():
    lines = snapshot(experiment(tpl=fdl.Config(Phase, "Zebra"))).splitlines()
    assert {"task.tpl.name = 'Zebra'", "task.tpl.packing = False"} <= set(lines)
    assert not [line for line in lines if line.startswith("task.dims")]


@pytest.mark.parametrize(
    ("lines", "config", "expected"),
    [
        pytest.param(["task = old.place.Layer"], experiment(), [], id="a module was renamed"),
        pytest.param(["task = Layer", "task.dims = 0"], experiment(), [], id="a default is unset"),
        pytest.param(["task = m.Layer"], experiment(dims=0), [], id="a default is set"),
        pytest.param(
            ["task = m.Layer"], experiment(dims=1), [Change("task.dims", None, "1")], id="set"
        ),
        pytest.param(
            ["task = m.Layer", "task.dims = 2"],
            experiment(),
            [Change("task.dims", "2", "0")],
            id="no longer set",
        ),
        pytest.param(
            ["task = m.Layer", "task.removed = 2"],
            experiment(),
            [Change("task.removed", "2", None)],
            id="an argument that no longer exists",
        ),
        pytest.param(
            ["task = m.Layer"],
            experiment(tpl=fdl.Config(Other)),
            [Change("task.tpl", None, f"{__name__}.Other")],
            id="a layer was added, with its defaults",
        ),
        pytest.param(
            ["task = m.Layer", "task.tpl = m.Other"],
            experiment(tpl=fdl.Config(Layer)),
            [Change("task.tpl", "m.Other", f"{__name__}.Layer")],
            id="another class",
        ),
    ],
)
def test_changes_since_a_snapshot(lines, config, expected):
    assert changes_since(lines, config) == expected


def test_nothing_has_changed_since_its_own_snapshot():
    config = experiment(dims=3, tpl=fdl.Partial(Other, dims=None))
    assert changes_since(snapshot(config).splitlines(), config) == []


@pytest.mark.parametrize(
    ("value", "stripped"),
    [
        ("a.b.Layer", "Layer"),
        ("partial a.b.Layer", "partial Layer"),
        ("a.f.<locals>.<lambda> sha256:0123456789ab", "<lambda> sha256:0123456789ab"),
        ("'a.b'", "'a.b'"),
        ("0.5", "0.5"),
        ("None", "None"),
    ],
)
def test_references_are_compared_without_their_module(value, stripped):
    assert strip_module(value) == stripped
