"""The configurations of all registered experiments are as they were when last looked at.

`golden/common.txt` has what all experiments have in common, a line `path = value` each;
`golden/differing.txt` has every other path, and below it each value with the experiments that have
it: by name, or as sizes x phases where those are all of them.
"""

import difflib
import itertools
import os
from pathlib import Path

import pytest

import codegen
from codegen_pax.compare import ExperimentConfig, snapshot
from experiments.declaration import declarations
from experiments.settings import Settings

EXPERIMENTS = {one.name: (one.size.name, one.phase.name) for one in declarations()}
GOLDEN = Path(__file__).with_name("golden")
REFRESH = os.environ.get("GOLDEN") == "refresh"
ABSENT = "(absent)"


def shown(names):
    """Experiments in a few words: 'all x NL', '350M 2B x Mono Instruct', or their names."""
    sizes, phases = (
        list(dict.fromkeys(EXPERIMENTS[name][axis] for name in names)) for axis in (0, 1)
    )
    if len(names) < len(sizes) * len(phases):
        return " ".join(names)
    axes = [[*dict.fromkeys(pair[axis] for pair in EXPERIMENTS.values())] for axis in (0, 1)]
    words = (
        "all" if len(find_all) == len(every) else " ".join(find_all)
        for find_all, every in zip((sizes, phases), axes, strict=True)
    )
    return " x ".join(words)


def tables(snapshots):
    """The two files, from the snapshot of each experiment."""
    values = {
        name: dict(line.split(" = ", 1) for line in text.splitlines())
        for name, text in snapshots.items()
    }
    common, differing = [], []
    for path in sorted({path for table in values.values() for path in table}):
        by_value = {}
        for name, table in values.items():
            by_value.setdefault(table.get(path, ABSENT), []).append(name)
        if len(by_value) == 1:
            common.append(f"{path} = {next(iter(by_value))}")
        else:
            differing.append(path)
            differing += [f"    {value:<24} {shown(names)}" for value, names in by_value.items()]
    return {"common.txt": common, "differing.txt": differing}


@pytest.fixture(scope="module")
def find_all():
    snapshots = {
        name: snapshot(ExperimentConfig.of(name, getattr(codegen, name)(Settings())))
        for name in EXPERIMENTS
    }
    return tables(snapshots)


def test_configurations_are_unchanged(find_all):
    if REFRESH:
        GOLDEN.mkdir(exist_ok=True)
        for name, lines in find_all.items():
            (GOLDEN / name).write_text("\n".join(lines) + "\n")
    assert sorted(path.name for path in GOLDEN.iterdir()) == sorted(find_all)
    drift = "\n".join(
        itertools.chain.from_iterable(
            difflib.unified_diff(
                (GOLDEN / name).read_text().splitlines(), lines, name, "now", n=1, lineterm=""
            )
            for name, lines in find_all.items()
        )
    )
    assert not drift, f"a configuration has changed. If it was meant to: make golden\n{drift}"


def test_every_declared_value_is_in_them(find_all):
    """The two files say of each experiment what its snapshot does."""
    differing = [line for line in find_all["differing.txt"] if not line.startswith(" ")]
    paths = [line.partition(" = ")[0] for line in find_all["common.txt"]] + differing
    assert len(paths) == len({*paths}) > 400
    for name in ("CodeGenNanoNL", "CodeGen16BInstruct"):
        lines = snapshot(ExperimentConfig.of(name, getattr(codegen, name)(Settings()))).splitlines()
        for line in lines:
            path, _, value = line.partition(" = ")
            assert line in find_all["common.txt"] or (
                path in differing and value in values_of(find_all["differing.txt"], path)
            )


def values_of(lines, path):
    """The values of a path in `differing.txt`, run together."""
    below = itertools.takewhile(lambda line: line.startswith(" "), lines[lines.index(path) + 1 :])
    return "\n".join(below)


def test_snapshots_are_of_no_machine(find_all):
    for line in itertools.chain.from_iterable(find_all.values()):
        for sign in (" 0x", str(Path(__file__).parents[2]), os.path.expanduser("~"), "object at"):
            assert sign not in line


def test_a_changed_value_shows():
    """A value of another class, one that was set to its default, and a default of ours."""
    task = codegen.CodeGen350MMono(Settings()).task()
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
        # Not set any more, and shown still: the default is ours.
        f"{learner}.decay = 'matrices'",
    ]
