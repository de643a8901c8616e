"""Checkpoints as jaxformer writes them, and damaged ones."""

import pathlib
import re

import numpy as np
import pytest

from codegen_pax.floats import dtype
from codegen_pax.weights import jaxformer_checkpoint, layouts
from codegen_pax.weights.tensors import FileReader
from tests.weights.damaged_files import count_refused
from tests.weights.networks import Network, save_jaxformer

NETWORK = Network()


@pytest.fixture
def parameters():
    random = np.random.default_rng(0)
    return {
        weight.jaxformer: random.standard_normal(weight.jaxformer_shape(NETWORK.dims()), np.float32)
        for weight in layouts.WEIGHTS
    }


@pytest.mark.parametrize("kind", ["float32", "bfloat16"])
def test_jaxformer(kind, parameters, tmp_path):
    parameters = {name: array.astype(dtype(kind)) for name, array in parameters.items()}
    save_jaxformer(parameters, tmp_path / "7", step=7)
    tensors, step = jaxformer_checkpoint.find_weights(tmp_path / "7")
    assert step == 7
    with FileReader(tensors) as files:
        assert {tensor.dtype for tensor in tensors.values()} == {dtype(kind)}
        for name, array in parameters.items():
            assert files.tensors[name].shape == array.shape
            rows = array.reshape(-1, *array.shape[2:])
            actual = files.read_rows(name, 1, len(rows), rows.shape[1:])
            assert actual.tobytes() == rows[1:].tobytes()


def test_the_order_is_that_of_jaxformers_own_run():
    """Of the parameters that its trainer printed by name."""
    path = pathlib.Path(__file__).parents[1] / "fixtures" / "jaxformer_trajectory.npz"
    with np.load(path) as arrays:
        names = {name.removeprefix("init/") for name in arrays if name.startswith("init/")}
    assert set(jaxformer_checkpoint.parameter_order()) == names
    assert jaxformer_checkpoint.parameter_order()[:4] == [
        "embed/embedding_sharded/~/proj/b",
        "embed/embedding_sharded/~/proj/w",
        "proj/projection/~/layer_norm/offset",
        "proj/projection/~/layer_norm/scale",
    ]


def compress(folder, parameters):
    with open(folder / "model" / "0.npz", "wb") as file:
        np.savez_compressed(file, *parameters.values())


def drop_one(folder, parameters):
    with open(folder / "model" / "0.npz", "wb") as file:
        np.savez(file, *[*parameters.values()][1:])


def say(text):
    return lambda folder, parameters: (folder / "ckpt.json").write_text(text)


def damage_header(folder, parameters):
    path = folder / "model" / "0.npz"
    path.write_bytes(path.read_bytes().replace(b"NUMPY", b"NUMPX"))


def objects(folder, parameters):
    with open(folder / "model" / "0.npz", "wb") as file:
        np.savez(file, *[np.array([{}], object)] * len(parameters))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (compress, "0.npz is compressed, and cannot be read in parts"),
        (drop_one, "0.npz holds 13 arrays; expected the 14 of jaxformer's network"),
        (
            lambda folder, _: (folder / "model" / "0.npz").write_bytes(b"PK"),
            "0.npz is no complete npz file",
        ),
        (say("{}"), "ckpt.json does not state the step"),
        (say('{"step": null}'), "ckpt.json does not state the step"),
        (say("[1]"), "ckpt.json does not state the step"),
        (say("no JSON"), "ckpt.json does not state the step"),
        (damage_header, "is no array that numpy saved"),
        (objects, "has the type object; expected one of float32, float16, bfloat16"),
    ],
)
def test_a_bad_checkpoint_of_jaxformer(spoil, message, parameters, tmp_path):
    save_jaxformer(parameters, tmp_path / "7")
    spoil(tmp_path / "7", parameters)
    with pytest.raises(ValueError, match=re.escape(message)):
        FileReader(jaxformer_checkpoint.find_weights(tmp_path / "7")[0])


def test_the_folder_above_jaxformers_checkpoints(parameters, tmp_path):
    for step in (7, 10_000):
        save_jaxformer(parameters, tmp_path / str(step), step)
    with pytest.raises(FileNotFoundError, match=r"it holds the steps 7, 10000: name one of them"):
        jaxformer_checkpoint.find_weights(tmp_path)


def test_any_damage_is_one_clear_error_or_none(tmp_path):
    dims = NETWORK.dims(embedding_bias=True)
    shapes = {weight.jaxformer: weight.jaxformer_shape(dims) for weight in layouts.WEIGHTS}
    save_jaxformer({name: np.ones(shape, np.float32) for name, shape in shapes.items()}, tmp_path)
    path = tmp_path / "model" / "0.npz"
    assert count_refused(path, lambda: jaxformer_checkpoint.find_weights(tmp_path)[0]) > 50
