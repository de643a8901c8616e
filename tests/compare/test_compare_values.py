"""How single values, groups and labels are told."""

import enum
import functools
import operator

import fiddle as fdl
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax.sharding import PartitionSpec
from praxis import base_layer, pax_fiddle

from codegen_pax.compare import described, entries, group_of, labels
from codegen_pax.model import CodeGenModel


class Colour(enum.Enum):
    RED = 1


class Thing:
    def __init__(self, size):
        self.size = size


def written(value):
    return {path: described(found) for path, found in entries(value, "v").items()}


@pytest.mark.parametrize(
    ("value", "wanted"),
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
def test_leaf(value, wanted):
    assert written(value) == {"v": wanted}


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


def test_large_arrays_are_told_apart():
    one, other = np.zeros(1000), np.zeros(1000)
    other[999] = 1
    assert written(one) == written(one.copy()) != written(other)


def test_functions_of_one_name_are_told_apart():
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
    ours = entries(config, "v", defaults_of=(__name__,))
    praxis = entries(config, "v", defaults_of=("praxis",))
    none = entries(config, "v", defaults_of=())
    # What is set is told, though it is the default.
    assert {"v.offset", "v.fprop_dtype"} <= none.keys()
    assert {"v.factor", "v.shared_weight_layer_id"}.isdisjoint(none)
    assert "v.factor" in ours and "v.shared_weight_layer_id" not in ours
    assert "v.factor" not in praxis and "v.shared_weight_layer_id" in praxis
    assert entries(config, "v").items() >= ours.items() | praxis.items()


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
        ("task.train.save_interval_steps", "run"),
        ("something.nobody.has.heard.of", "run"),
    ],
)
def test_group(path, group):
    assert group_of(path) == group


def test_labels_are_short_and_differ():
    paths = [
        "task.model.lm_tpl.model_dims",
        "task.model.lm_tpl.block.model_dims",
        "task.model.other.block.model_dims",
        "datasets[0].batch_size",
        "datasets[1].batch_size",
        "task['a.b'].name",
        "task",
    ]
    assert labels(paths) == {
        "task.model.lm_tpl.model_dims": "lm_tpl.model_dims",
        "task.model.lm_tpl.block.model_dims": "lm_tpl.block.model_dims",
        "task.model.other.block.model_dims": "other.block.model_dims",
        "datasets[0].batch_size": "datasets[0].batch_size",
        "datasets[1].batch_size": "datasets[1].batch_size",
        "task['a.b'].name": "task['a.b'].name",
        "task": "task",
    }


@given(st.sets(st.from_regex(r"[ab](\.[ab]|\[0\]){0,5}", fullmatch=True), min_size=1))
def test_no_two_paths_have_one_label(paths):
    found = labels(paths)
    assert len(set(found.values())) == len(paths)
    assert all(path.endswith(label) for path, label in found.items())


def test_a_path_that_ends_another_one_keeps_its_steps():
    assert labels(["b.c", "a.b.c"]) == {"b.c": "b.c", "a.b.c": "a.b.c"}
