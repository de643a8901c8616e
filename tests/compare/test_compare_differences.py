"""Differences between configurations: against changes that are known, and against Fiddle's own."""

import dataclasses
from typing import Any

import fiddle as fdl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegen_pax.compare import GROUPS, Side, described, differences


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
            lambda found: (list, dict(enumerate([(Layer, {}), *found])))
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
    found = differences([Side("old", {"task": build(tree)}), Side("new", {"task": build(changed)})])
    expected = {
        "task" + "".join(path): {"old": old[path], "new": value}
        for path, value in new.items()
        if (type(value), value) != (type(old[path]), old[path])
    }
    assert sorted(difference.path for difference in found) == sorted(expected)
    for difference in found:
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
    found = differences([Side("one", {"task": one}), Side("other", {"task": other})])
    paths = {difference.path: difference.values for difference in found}
    assert paths.pop("task.tpl")["other"] is None
    for path, value in leaves(subtree, ("task.tpl",)):
        assert repr(paths["".join(path)]) == repr({"one": value})
    assert all(path.startswith("task.tpl") and "other" not in paths[path] for path in paths)


@given(tree=TREES)
def test_a_configuration_is_equal_to_itself_built_again(tree):
    sides = [Side(name, {"task": build(tree)}) for name in ("one", "other", "third")]
    assert differences(sides) == []


def test_a_default_that_is_set_is_no_difference_and_another_default_is():
    set_, unset = fdl.Config(Layer, rate=0.5), fdl.Config(Layer)
    assert differences([Side("a", {"task": set_}), Side("b", {"task": unset})]) == []
    (found,) = differences(
        [Side("a", {"task": fdl.Config(Layer, rate=0.25)}), Side("b", {"task": unset})]
    )
    assert (found.path, dict(found.values)) == ("task.rate", {"a": 0.25, "b": 0.5})


def test_three_sides_and_another_class():
    configs = {
        "a": fdl.Config(Layer, dims=1),
        "b": fdl.Config(Layer, dims=1),
        "c": fdl.Config(stack, times=1),
    }
    found = differences([Side(name, {"task": config}) for name, config in configs.items()])
    by_path = {difference.path: difference.values for difference in found}
    assert {name: described(value) for name, value in by_path["task"].items()} == {
        "a": f"{__name__}.Layer",
        "b": f"{__name__}.Layer",
        "c": f"{__name__}.stack",
    }
    assert by_path["task.dims"] == {"a": 1, "b": 1}
    assert by_path["task.times"] == {"c": 1}


def test_one_side_cannot_be_compared():
    with pytest.raises(ValueError, match="found 1 experiment to compare; wanted at least two"):
        differences([Side("a", {})])


def test_one_name_for_two_experiments():
    sides = [Side("a", {"task": fdl.Config(Layer, dims=dims)}) for dims in (1, 2)]
    with pytest.raises(ValueError, match="two different experiments are called 'a'"):
        differences(sides)
