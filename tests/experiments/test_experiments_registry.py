"""Every registered experiment; one of each size, abstractly initialised on its own mesh."""

import json
from pathlib import Path

import pytest
from paxml import experiment_registry

import codegen
from codegen_pax.compare import ExperimentConfig, snapshot
from experiments.declaration import declarations
from experiments.phases import PHASES
from experiments.settings import Settings
from experiments.sizes import SIZES, network_parameters
from tests import pax_process

NAMES = [f"CodeGen{size}Mono" for size in SIZES]
MIB = 2**20


@pytest.fixture(scope="module")
def described():
    done = pax_process.run("tests.experiments.abstract_init", (), Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout)


def test_every_size_in_every_phase_is_registered():
    sizes = ("Nano", "Micro", "350M", "2B", "6B", "16B")
    phases = ("NL", "Multi", "Mono", "Instruct")
    names = {f"CodeGen{size}{phase}" for size in sizes for phase in phases}
    assert {declaration.name for declaration in declarations()} == names
    for name in names:
        assert experiment_registry.get(f"codegen.{name}") is getattr(codegen, name)


@pytest.mark.parametrize("size", SIZES)
def test_phases_of_a_size_have_the_same_arrays(size):
    """So that one of them is enough to look at below: model and optimizer are the same."""
    tasks = [getattr(codegen, f"CodeGen{size}{phase}")(Settings()).task() for phase in PHASES]
    texts = set()
    for task in tasks:
        task.model.decoder_tpl.eos_id = None
        learner = task.train.learner
        learner.optimizer.learning_rate = learner.optimizer.lr_schedule = None
        learner.stochastic_gradient = None
        texts.add(snapshot(ExperimentConfig("any", {"model": task.model, "learner": learner})))
    assert len(texts) == 1


# Parameters of the released models, vocabulary padded to 51,200.
RELEASED = {
    "350M": 356_712_448,
    "2B": 2_779_356_160,
    "6B": 7_064_213_504,
    "16B": 16_032_155_648,
}


@pytest.mark.parametrize("name", NAMES)
def test_parameter_count(described, name):
    declaration = {d.name: d for d in declarations()}[name]
    size = declaration.size
    weights = {
        array["name"]: array["size"]
        for array in described[name]["arrays"]
        if array["group"] == "mdl_vars"
    }
    biases = [key for key in weights if "embedding_lookup" in key and key.endswith("['b']")]
    assert len(biases) == 1 and weights[biases[0]] == size.model_dims
    assert sum(weights.values()) == declaration.parameters
    released = RELEASED.get(
        size.name, network_parameters(size.layers, size.model_dims, size.vocab_size)
    )
    assert sum(weights.values()) - weights[biases[0]] == released


@pytest.mark.parametrize("name", NAMES)
def test_nothing_large_is_replicated(described, name):
    """Weights and both of Adam's moments: over 1 MiB a device means cut over the whole mesh."""
    actual = described[name]
    if actual["devices"] == 1:
        assert name.startswith(("CodeGenNano", "CodeGenMicro"))
        return
    arrays = actual["arrays"]
    assert sum(array["group"] == "opt_states" for array in arrays) >= 2 * sum(
        array["group"] == "mdl_vars" for array in arrays
    )
    large = [array for array in arrays if array["bytes"] / array["ways"] > MIB]
    assert large, "the test would pass by looking at nothing"
    replicated = [array["name"] for array in large if array["ways"] == 1]
    assert not replicated
    assert all(array["ways"] == actual["devices"] for array in large), large
