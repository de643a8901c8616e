"""How single values, groups and shorten_paths are told."""

import enum
import functools
import operator

import fiddle as fdl
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec
from praxis import base_layer, pax_fiddle

from codegen_pax.compare import flatten, format_value
from codegen_pax.model import CodeGenModel


class Colour(enum.Enum):
    RED = 1


class Thing:
    def __init__(self, size):
        self.size = size


def written(value):
    return {path: format_value(entry) for path, entry in flatten(value, "v").items()}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1, "1"),
        (1.0, "1.0"),
        (True, "True"),
        (None, "None"),
        (float("nan"), "nan"),
        ("1", "'1'"),
        ([1, (2, "a")], "[1, (2, 'a')]"),
        ((), "()"),
        ({}, "{}"),
        (jnp.float32, "jax.numpy.float32"),
        (np.dtype("int8"), "dtype('int8')"),
        (dict, "dict"),
        (CodeGenModel, f"{CodeGenModel.__module__}.CodeGenModel"),
        (operator.add, "_operator.add"),
        (Colour.RED, "Colour.RED"),
        (PartitionSpec("data", None), "PartitionSpec('data', None)"),
        (np.array([[1, 2]], np.int32), "array int32 [1, 2] [[1, 2]]"),
        (jnp.zeros(2, jnp.bfloat16), "array bfloat16 [2] [0.0, 0.0]"),
        pytest.param({"b", "a"}, "set([\"'a'\", \"'b'\"])", id="a set"),
    ],
    ids=repr,
)
def test_leaf(value, expected):
    assert written(value) == {"v": expected}


def test_objects_with_values_below_them():
    assert written(base_layer.WeightInit("gaussian", 0.5)) == {
        "v": "praxis.base_layer.WeightInit",
        "v.method": "'gaussian'",
        "v.scale": "0.5",
    }
    assert written(Thing(3)) == {"v": f"{__name__}.Thing", "v.size": "3"}
    assert written(functools.partial(operator.add, 1)) == {
        "v": "partial _operator.add",
        "v[0]": "1",
    }
    assert written({"a.b": fdl.Partial(Thing, size=1)}) == {
        "v": "dict",
        "v['a.b']": f"partial {__name__}.Thing",
        "v['a.b'].size": "1",
    }
    assert written(base_layer.NestedMap(a=1)) == {
        "v": "lingvo.core.nested_map.NestedMap",
        "v.a": "1",
    }


def test_an_object_that_holds_itself_ends():
    thing = Thing(None)
    thing.size = thing
    assert written(thing)["v.size"] == f"{__name__}.Thing (itself)"


def test_large_arrays_differ_by_their_numbers():
    one, other = np.zeros(1000), np.zeros(1000)
    other[999] = 1
    assert written(one) == written(one.copy()) != written(other)


def test_functions_of_one_name_differ_by_their_code():
    def scaled(factor):
        return lambda x: factor * x

    assert written(scaled(2)) == written(scaled(2))
    assert written(scaled(2)) != written(scaled(3))
    assert written(lambda x: x + 1) != written(lambda x: x - 1)


class Doubled(base_layer.BaseLayer):
    factor: float = 2.0
    offset: float = 0.0


def test_defaults_of_some_packages_only():
    config = pax_fiddle.Config(Doubled, offset=0.0, fprop_dtype=None)
    ours = flatten(config, "v", defaults_of=("tests",))
    praxis = flatten(config, "v", defaults_of=("praxis",))
    none = flatten(config, "v", defaults_of=())
    # What is set has an entry, though it is the default.
    assert {"v.offset", "v.fprop_dtype"} <= none.keys()
    assert {"v.factor", "v.shared_weight_layer_id"}.isdisjoint(none)
    assert "v.factor" in ours and "v.shared_weight_layer_id" not in ours
    assert "v.factor" not in praxis and "v.shared_weight_layer_id" in praxis
    assert flatten(config, "v").items() >= ours.items() | praxis.items()
