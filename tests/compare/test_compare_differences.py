"""Differences between configurations: against changes that are known, and against Fiddle's own."""

import dataclasses
import itertools
import os
from typing import Any

import fiddle as fdl
import pytest
from fiddle import daglish, diffing
from hypothesis import given
from hypothesis import strategies as st

import codegen
from codegen_pax.compare import (
    GROUPS,
    ExperimentConfig,
    find_differences,
    format_value,
    group_of,
    shorten_paths,
)


@dataclasses.dataclass
class Layer:
    dims: Any = 0
    tpl: Any = None
    rate: Any = 0.5


def stack(block=None, *, times=1, name="stack"):
    return block, times, name


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.sampled_from([0.0, 0.5, 1.0, 1e-8]),
    st.sampled_from(["", "mdl", "1", "None", "a.b[0]"]),
)
KEYS = st.sampled_from(["a", "mesh", "a.b", "x y", ""])


def nodes(children):
    """What a tree is made of, as (kind, {argument or key or index: child})."""
    return st.one_of(
        st.tuples(
            st.just(Layer), st.dictionaries(st.sampled_from(["dims", "tpl", "rate"]), children)
        ),
        st.tuples(st.just(stack), st.dictionaries(st.sampled_from(["block", "times"]), children)),
        st.tuples(st.just(dict), st.dictionaries(KEYS, children, min_size=1)),
        # An element that is a configuration keeps the list from being one plain value.
        st.lists(children, max_size=2).map(
            lambda actual: (list, dict(enumerate([(Layer, {}), *actual])))
        ),
    )


TREES = st.tuples(
    st.just(Layer),
    st.dictionaries(st.sampled_from(["dims", "tpl"]), st.recursive(SCALARS, nodes, max_leaves=12)),
)


def build(tree):
    if not isinstance(tree, tuple):
        return tree
    kind, children = tree
    built = {key: build(child) for key, child in children.items()}
    if kind is dict:
        return built
    if kind is list:
        return list(built.values())
    return fdl.Config(kind, **built)


def leaves(tree, path=()):
    """(Path of steps, value) of every scalar that was put into the tree."""
    if not isinstance(tree, tuple):
        yield path, tree
        return
    kind, children = tree
    for key, child in children.items():
        by_name = kind is not list and key.isidentifier()
        yield from leaves(child, (*path, f".{key}" if by_name else f"[{key!r}]"))


def replaced(tree, path, value):
    if not path:
        return value
    kind, children = tree
    steps = {step: key for key in children for step in (f".{key}", f"[{key!r}]")}
    key = steps[path[0]]
    return kind, {**children, key: replaced(children[key], path[1:], value)}


@given(tree=TREES, data=st.data())
def test_every_changed_leaf_is_found_once_and_no_other(tree, data):
    old = dict(leaves(tree))
    chosen = data.draw(st.sets(st.sampled_from(sorted(old)))) if old else set()
    new = {path: data.draw(SCALARS) for path in sorted(chosen)}
    changed = tree
    for path, value in new.items():
        changed = replaced(changed, path, value)
    actual = find_differences(
        [
            ExperimentConfig("old", {"task": build(tree)}),
            ExperimentConfig("new", {"task": build(changed)}),
        ]
    )
    expected = {
        "task" + "".join(path): {"old": old[path], "new": value}
        for path, value in new.items()
        if (type(value), value) != (type(old[path]), old[path])
    }
    assert sorted(difference.path for difference in actual) == sorted(expected)
    for difference in actual:
        assert list(map(repr, difference.values.values())) == list(
            map(repr, expected[difference.path].values())
        )
        assert difference.group in GROUPS


@given(tree=TREES, data=st.data())
def test_a_subtree_on_one_side_only(tree, data):
    """All of it is told, as absent on the other side, and nothing else is."""
    subtree = data.draw(nodes(SCALARS))
    one = build((Layer, {"dims": tree, "tpl": subtree}))
    other = build((Layer, {"dims": tree, "tpl": None}))
    actual = find_differences(
        [ExperimentConfig("one", {"task": one}), ExperimentConfig("other", {"task": other})]
    )
    paths = {difference.path: difference.values for difference in actual}
    assert paths.pop("task.tpl")["other"] is None
    for path, value in leaves(subtree, ("task.tpl",)):
        assert repr(paths["".join(path)]) == repr({"one": value})
    assert all(path.startswith("task.tpl") and "other" not in paths[path] for path in paths)


@given(tree=TREES)
def test_a_configuration_is_equal_to_itself_built_again(tree):
    configs = [ExperimentConfig(name, {"task": build(tree)}) for name in ("one", "other", "third")]
    assert find_differences(configs) == []


def test_a_default_that_is_set_is_no_difference_and_another_default_is():
    set_, unset = fdl.Config(Layer, rate=0.5), fdl.Config(Layer)
    assert (
        find_differences(
            [ExperimentConfig("a", {"task": set_}), ExperimentConfig("b", {"task": unset})]
        )
        == []
    )
    (actual,) = find_differences(
        [
            ExperimentConfig("a", {"task": fdl.Config(Layer, rate=0.25)}),
            ExperimentConfig("b", {"task": unset}),
        ]
    )
    assert (actual.path, dict(actual.values)) == ("task.rate", {"a": 0.25, "b": 0.5})


def test_three_sides_and_another_class():
    configs = {
        "a": fdl.Config(Layer, dims=1),
        "b": fdl.Config(Layer, dims=1),
        "c": fdl.Config(stack, times=1),
    }
    actual = find_differences(
        [ExperimentConfig(name, {"task": config}) for name, config in configs.items()]
    )
    by_path = {difference.path: difference.values for difference in actual}
    assert {name: format_value(value) for name, value in by_path["task"].items()} == {
        "a": f"{__name__}.Layer",
        "b": f"{__name__}.Layer",
        "c": f"{__name__}.stack",
    }
    assert by_path["task.dims"] == {"a": 1, "b": 1}
    assert by_path["task.times"] == {"c": 1}


def test_one_side_cannot_be_compared():
    with pytest.raises(ValueError, match="found 1 experiment to compare; expected at least two"):
        find_differences([ExperimentConfig("a", {})])


def test_one_name_for_two_experiments():
    configs = [ExperimentConfig("a", {"task": fdl.Config(Layer, dims=dims)}) for dims in (1, 2)]
    with pytest.raises(ValueError, match="two different experiments are called 'a'"):
        find_differences(configs)


@pytest.mark.parametrize(
    ("path", "group"),
    [
        ("task.model.lm_tpl.model_dims", "network"),
        ("task.model.fprop_dtype", "network"),
        ("task.model.lm_tpl.softmax_tpl.z_loss_weight", "recipe"),
        ("task.train.learner.optimizer.beta2", "recipe"),
        ("task.train.num_train_steps", "recipe"),
        ("datasets[0].batch_size", "recipe"),
        ("datasets[0].mixture_name", "data"),
        ("decode_datasets[0].task_feature_lengths.inputs", "data"),
        ("input_specs.row_length", "data"),
        ("task.model.ici_mesh_shape", "hardware"),
        ("task.train.inputs_split_mapping.map_1d", "hardware"),
        ("task.model.lm_tpl.softmax_tpl.weight_split_dims_mapping.wt", "hardware"),
        ("task.model.lm_tpl.softmax_tpl.token_chunk", "hardware"),
        ("task.model.lm_tpl.block.tr_atten_tpl.kind", "hardware"),
        ("task.train.save_interval_steps", "run"),
        ("something.nobody.has.heard.of", "run"),
    ],
)
def test_group(path, group):
    assert group_of(path) == group


def test_short_paths_differ():
    paths = [
        "task.model.lm_tpl.model_dims",
        "task.model.lm_tpl.block.model_dims",
        "task.model.other.block.model_dims",
        "datasets[0].batch_size",
        "datasets[1].batch_size",
        "task['a.b'].name",
        "task",
    ]
    assert shorten_paths(paths) == {
        "task.model.lm_tpl.model_dims": "lm_tpl.model_dims",
        "task.model.lm_tpl.block.model_dims": "lm_tpl.block.model_dims",
        "task.model.other.block.model_dims": "other.block.model_dims",
        "datasets[0].batch_size": "datasets[0].batch_size",
        "datasets[1].batch_size": "datasets[1].batch_size",
        "task['a.b'].name": "task['a.b'].name",
        "task": "task",
    }


@given(st.sets(st.from_regex(r"[ab](\.[ab]|\[0\]){0,5}", fullmatch=True), min_size=1))
def test_no_two_paths_have_one_short_path(paths):
    short = shorten_paths(paths)
    assert len(set(short.values())) == len(paths)
    assert all(path.endswith(end) for path, end in short.items())


def test_a_path_that_ends_another_one_keeps_its_steps():
    assert shorten_paths(["b.c", "a.b.c"]) == {"b.c": "b.c", "a.b.c": "a.b.c"}


# Real experiments: what Fiddle's own diffing finds is found, and nothing else.

PAIRS = [
    ("CodeGen350MNL", "CodeGen350MMono"),
    ("CodeGen350MNL", "CodeGen2BMono"),
    ("CodeGen6BMulti", "CodeGen16BMulti"),
    ("CodeGen350MMono", "CodeGen350MInstruct"),
    ("CodeGenNanoMono", "CodeGen16BInstruct"),
]


@pytest.fixture(autouse=True, scope="module")
def plain_environment():
    with pytest.MonkeyPatch.context() as patch:
        for name in [key for key in os.environ if key.startswith("CODEGEN_")]:
            patch.delenv(name)
        yield


def config_of(name):
    return ExperimentConfig.of(name, getattr(codegen, name)())


def fiddle_leaves(config, path):
    """Path -> value of everything that Fiddle itself does not look into."""

    def step(element):
        if isinstance(element, daglish.Key) and str(element.key).isidentifier():
            return f".{element.key}"
        return element.code

    return {
        path + "".join(map(step, actual)): value
        for value, actual in daglish.iterate(config, memoized=False)
        if not daglish.is_traversable_type(type(value))
    }


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_fiddle_sees_the_same(one, other):
    """Against Fiddle's own traversal and the values' own equality, over the arguments it sees."""
    old, new = config_of(one).sections, config_of(other).sections
    ours = {
        difference.path
        for difference in find_differences(
            [ExperimentConfig(one, old), ExperimentConfig(other, new)]
        )
    }
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
    old, new = config_of(one).sections, config_of(other).sections
    for part, find in {
        "task": lambda tree: tree["task"].model,
        "learner": lambda tree: tree["task"].train.learner,
        "input": lambda tree: tree["datasets"][0],
    }.items():
        configs = [
            ExperimentConfig("old", {part: find(old)}),
            ExperimentConfig("new", {part: find(new)}),
        ]
        before = find_differences(configs)
        diffing.apply_diff(diffing.build_diff(find(old), find(new)), find(old))
        assert find_differences(configs) == []
        if part == "learner":
            assert before


def test_nothing_differs_between_one_experiment_and_itself():
    name = "CodeGen2BMulti"
    assert find_differences([config_of(name), config_of(name)]) == []


def test_settings_that_are_known_to_differ():
    """By the tables: 350M's NL and Mono differ in rate, schedule, length and data alone."""
    one, other = "CodeGen350MNL", "CodeGen350MMono"
    actual = {
        difference.path: tuple(difference.values.values())
        for difference in find_differences([config_of(one), config_of(other)])
    }
    # A tenth of either rate, over that rate: told if the two differ in their last bit.
    ratio = actual.pop("task.train.learner.optimizer.lr_schedule.min_ratio", (0.1, 0.1))
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
    assert actual == {
        f"{learner}.learning_rate": (3e-4, 1.8e-4),
        f"{learner}.lr_schedule.decay_end": (303_000, 150_000),
        "task.train.num_train_steps": (350_000, 150_000),
        **data,
    }


def test_more_than_two_show_what_any_two_differ_in():
    names = ("CodeGenNanoNL", "CodeGen350MNL", "CodeGen350MMulti")
    configs = {name: config_of(name) for name in names}
    of_pairs = {
        difference.path
        for pair in itertools.combinations(names, 2)
        for difference in find_differences([configs[name] for name in pair])
    }
    assert {difference.path for difference in find_differences(list(configs.values()))} == of_pairs
