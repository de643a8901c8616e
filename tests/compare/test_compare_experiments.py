"""Real experiments: what Fiddle's own diffing finds is found, and nothing else."""

import itertools

import pytest
from fiddle import daglish, diffing

import codegen
from codegen_pax.compare import Side, differences

PAIRS = [
    ("CodeGen350MNL", "CodeGen350MMono"),
    ("CodeGen350MNL", "CodeGen2BMono"),
    ("CodeGen6BMulti", "CodeGen16BMulti"),
    ("CodeGen350MMono", "CodeGen350MInstruct"),
    ("CodeGenNanoMono", "CodeGen16BInstruct"),
]


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch):
    for name in ("CODEGEN_START_FROM", "CODEGEN_MESH", "CODEGEN_RECIPE", "CODEGEN_EVALUATE"):
        monkeypatch.delenv(name, raising=False)


def side(name):
    return Side.of(name, getattr(codegen, name)())


def fiddle_leaves(config, path):
    """Path -> value of everything that Fiddle itself does not look into."""

    def step(element):
        if isinstance(element, daglish.Key) and str(element.key).isidentifier():
            return f".{element.key}"
        return element.code

    return {
        path + "".join(map(step, found)): value
        for value, found in daglish.iterate(config, memoized=False)
        if not daglish.is_traversable_type(type(value))
    }


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_fiddle_sees_the_same(one, other):
    """Against Fiddle's own traversal and the values' own equality, over the arguments it sees."""
    old, new = side(one).parts, side(other).parts
    ours = {difference.path for difference in differences([Side(one, old), Side(other, new)])}
    old_leaves, new_leaves = (
        {key: value for part in tree for key, value in fiddle_leaves(tree[part], part).items()}
        for tree in (old, new)
    )
    equal = {
        path
        for path in old_leaves.keys() & new_leaves.keys()
        if old_leaves[path] == new_leaves[path]
    }
    different = (old_leaves.keys() | new_leaves.keys()) - equal

    def at_or_below(path, target):
        return path == target or (path.startswith(target) and path[len(target)] in ".[")

    assert equal and different
    # We look into what Fiddle does not (initialisers), and write lists of scalars whole.
    assert [
        leaf
        for leaf in different
        if not any(at_or_below(path, leaf) or at_or_below(leaf, path) for path in ours)
    ] == []
    assert [path for path in ours if any(at_or_below(path, leaf) for leaf in equal)] == []


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_no_difference_is_left_when_fiddles_own_is_applied(one, other):
    old, new = side(one).parts, side(other).parts
    for part, find in {
        "task": lambda tree: tree["task"].model,
        "learner": lambda tree: tree["task"].train.learner,
        "input": lambda tree: tree["datasets"][0],
    }.items():
        sides = [Side("old", {part: find(old)}), Side("new", {part: find(new)})]
        before = differences(sides)
        diffing.apply_diff(diffing.build_diff(find(old), find(new)), find(old))
        assert differences(sides) == []
        if part == "learner":
            assert before


def test_nothing_differs_between_one_experiment_and_itself():
    name = "CodeGen2BMulti"
    assert differences([side(name), side(name)]) == []


def test_settings_that_are_known_to_differ():
    """By the tables: 350M's NL and Mono differ in rate, schedule, length and data alone."""
    one, other = "CodeGen350MNL", "CodeGen350MMono"
    found = {
        difference.path: tuple(difference.values.values())
        for difference in differences([side(one), side(other)])
    }
    # A tenth of either rate, over that rate: told if the two differ in their last bit.
    ratio = found.pop("task.train.learner.optimizer.lr_schedule.min_ratio", (0.1, 0.1))
    assert ratio == pytest.approx((0.1, 0.1), rel=1e-15)
    data = {
        f"datasets[{i}].{key}": (f"codegen_pile{end}", f"codegen_bigpython{end}")
        for i, split in enumerate(("_train", "_validation"))
        for key, end in (("mixture_name", ""), ("name", split))
    }
    prompts = ("codegen_nano_prompts_nl", "codegen_nano_prompts")
    data |= {
        "decode_datasets[0].mixture_name": prompts,
        "decode_datasets[0].name": tuple(f"{name}_validation" for name in prompts),
    }
    learner = "task.train.learner.optimizer"
    assert found == {
        f"{learner}.learning_rate": (3e-4, 1.8e-4),
        f"{learner}.lr_schedule.decay_end": (303_000, 150_000),
        "task.train.num_train_steps": (350_000, 150_000),
        **data,
    }


def test_more_than_two_show_what_any_two_differ_in():
    names = ("CodeGenNanoNL", "CodeGen350MNL", "CodeGen350MMulti")
    sides = {name: side(name) for name in names}
    of_pairs = {
        difference.path
        for pair in itertools.combinations(names, 2)
        for difference in differences([sides[name] for name in pair])
    }
    assert {difference.path for difference in differences(list(sides.values()))} == of_pairs
