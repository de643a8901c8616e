"""Every registered experiment, built and abstractly initialised on a mesh of its own size."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.declaration import declarations
from experiments.sizes import SIZES, network_parameters

NAMES = [declaration.name for declaration in declarations()]
MIB = 2**20


@pytest.fixture(scope="module")
def described():
    script = Path(__file__).with_name("abstract_init.py")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout)


def test_twenty_experiments(described):
    sizes = ("Nano", "350M", "2B", "6B", "16B")
    phases = ("NL", "Multi", "Mono", "Instruct")
    assert set(described) == {f"CodeGen{size}{phase}" for size in sizes for phase in phases}


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
    released = RELEASED.get(size.name, network_parameters(size.layers, size.model_dims))
    assert sum(weights.values()) - weights[biases[0]] == released


@pytest.mark.parametrize("size", SIZES.values(), ids=lambda size: size.name)
def test_counts_by_hand(size):
    assert size.parameters == network_parameters(size.layers, size.model_dims)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_large_is_replicated(described, name):
    """Weights and both of Adam's moments: over 1 MiB a device means cut over the whole mesh."""
    found = described[name]
    if found["devices"] == 1:
        assert name.startswith("CodeGenNano")
        return
    arrays = found["arrays"]
    assert sum(array["group"] == "opt_states" for array in arrays) >= 2 * sum(
        array["group"] == "mdl_vars" for array in arrays
    )
    large = [array for array in arrays if array["bytes"] / array["ways"] > MIB]
    assert large, "the test would pass by looking at nothing"
    replicated = [array["name"] for array in large if array["ways"] == 1]
    assert not replicated
    assert all(array["ways"] == found["devices"] for array in large), large
