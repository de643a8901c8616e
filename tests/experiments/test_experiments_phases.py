"""A phase in the table, and one that is declared: what comes with it, and what is refused."""

import dataclasses

import pytest

import codegen
from experiments.declaration import find_declaration
from experiments.phases import PHASES, Phase


def with_phase(name, **changes):
    """An experiment like `name` whose phase says something else."""
    declaration = find_declaration(name)
    phase = dataclasses.replace(declaration.phase, **changes)
    declared = {"DECLARATION": dataclasses.replace(declaration, phase=phase)}
    return type("Changed", (getattr(codegen, name),), declared)()


@pytest.mark.parametrize(
    ("name", "loss_on"), [("CodeGen350MMono", "answer"), ("CodeGenNanoInstruct", "all")]
)
def test_a_loss_that_the_rows_cannot_give_is_refused(name, loss_on):
    with pytest.raises(ValueError, match="loss") as error:
        with_phase(name, loss_on=loss_on).datasets()
    assert f"expected {loss_on!r}" in str(error.value) and "Changed: " in str(error.value)


def test_packing_reaches_training_and_evaluation():
    for packing in (False, True):
        training, evaluation = with_phase("CodeGen2BMono", packing=packing).datasets()
        assert training.packing is evaluation.packing is packing


@pytest.mark.parametrize("size", ["350M", "2B", "6B", "16B"])
def test_evaluation_batches_fit_where_training_does(size):
    """No more rows than an accumulation step holds, but one for each device at least."""
    declaration = find_declaration(f"CodeGen{size}Mono")
    _, evaluation = getattr(codegen, declaration.name)().datasets()
    expected = max(declaration.micro_batch_rows, declaration.mesh.devices)
    assert evaluation.batch_size == expected < declaration.batch_rows


def test_the_registered_phases_are_the_four():
    assert isinstance(PHASES["Mono"], Phase)
    assert list(PHASES) == ["NL", "Multi", "Mono", "Instruct"]
