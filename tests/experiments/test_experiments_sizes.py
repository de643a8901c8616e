"""A size is one row, and one placement for each accelerator: nothing else names it."""

import pytest

from codegen_pax.plan.accelerators import TPU_V4
from experiments.declaration import declarations, find_declaration
from experiments.experiment import CodeGenExperiment
from experiments.meshes import PLACEMENTS, Mesh, Placement
from experiments.phases import PHASES
from experiments.report import report
from experiments.sizes import SIZES, Size, network_parameters


@pytest.fixture
def one_billion(monkeypatch):
    """A size that was not there: its row, and its placement."""
    size = Size(
        "1B",
        layers=24,
        model_dims=2048,
        heads=16,
        head_dims=128,
        rotary_dims=32,
        context=2048,
        batch_tokens={"jaxformer": 512 * 2048, "paper": 512 * 2048},
        learning_rate={"NL": 2e-4, "Multi": 1e-4, "Mono": 1e-4, "Instruct": 1e-5},
    )
    placement = Placement(TPU_V4, Mesh((1, 16, 1), "TPU v4-32"), micro_batch_rows=16)
    monkeypatch.setitem(SIZES, size.name, size)
    monkeypatch.setitem(PLACEMENTS, size.name, (placement,))
    return size


@pytest.mark.parametrize("phase", PHASES)
def test_a_row_and_a_placement_are_all_a_size_needs(phase, one_billion):
    declaration = find_declaration(f"CodeGen1B{phase}")
    assert (str(declaration.mesh), declaration.mesh.hardware) == ("1x16x1", "TPU v4-32")
    assert declaration.learning_rate == one_billion.learning_rate[phase]
    assert declaration.micro_batch_rows == 16
    assert declaration.batch_rows == (128 if phase == "Instruct" else 512)
    assert "no published" in report(declaration)
    cls = type(declaration.name, (CodeGenExperiment,), {"DECLARATION": declaration})
    experiment = cls()
    task = experiment.task()
    assert task.model.ici_mesh_shape == [1, 16, 1]
    assert task.model.lm_tpl.model_dims == 2048
    assert task.train.learner.optimizer.learning_rate == one_billion.learning_rate[phase]
    training, _ = experiment.datasets()
    assert training.batch_size == declaration.batch_rows


def test_every_size_has_a_placement():
    assert PLACEMENTS.keys() == SIZES.keys()
    for declaration in declarations():
        (placement, *_) = PLACEMENTS[declaration.size.name]
        assert declaration.mesh == placement.mesh


@pytest.mark.parametrize("size", SIZES.values(), ids=lambda size: size.name)
def test_counts_by_hand(size):
    assert size.parameters == network_parameters(size.layers, size.model_dims, size.vocab_size)
