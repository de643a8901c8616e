"""A phase starts from the last one's weights, or says why not before it trains."""

import json

import numpy as np
import pytest
from absl import flags

import codegen
from codegen_pax.runs import events
from codegen_pax.weights.checkpoint import read_variables
from experiments import registry

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def browser(pax, whole, tmp_path_factory):
    """The new language phase, trained from the NL job on another mesh."""
    job = tmp_path_factory.mktemp("jobs") / "browser"
    pax.run(
        "short_experiments.ShortBrowser",
        job,
        CODEGEN_START_FROM=str(whole),
        CODEGEN_MESH="1x1x4",
        XLA_FLAGS="--xla_force_host_platform_device_count=4",
    )
    return job


def test_a_new_language_phase_has_an_experiment_of_every_size(browser):
    import sys

    assert json.loads((browser / "experiment.json").read_text())["experiment"] == (
        "CodeGenNanoBrowser"
    )
    sys.path.insert(0, __file__.rpartition("/")[0])
    try:
        import short_experiments  # noqa: F401  (declares the phase)
    finally:
        sys.path.pop(0)
    for size in ("Nano", "350M", "2B", "6B", "16B"):
        experiment = registry.experiment_class(f"CodeGen{size}Browser")
        assert experiment.DECLARATION.start == f"CodeGen{size}NL"
        assert experiment.__module__ == "short_experiments"
    assert registry.experiment_class("CodeGen16BBrowser").DECLARATION.mixture == "codegen_browser"


def test_the_first_step_is_0_with_the_parents_weights_and_a_fresh_optimizer(whole, browser):
    first = browser / "checkpoints" / "checkpoint_00000000"
    parent = whole / "checkpoints" / "checkpoint_00000020"

    def leaves(tree):
        return [
            leaf
            for value in tree.values()
            for leaf in (leaves(value) if isinstance(value, dict) else [value])
        ]

    wanted, found = leaves(read_variables(parent)), leaves(read_variables(first))
    assert len(found) == len(wanted) == 14
    for ours, theirs in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert events.training_losses(browser)[0].step <= 10
    receipt = json.loads((browser / "experiment.json").read_text())
    assert receipt["start"] == {"experiment": "CodeGenNanoNL", "job": str(whole), "step": 20}


@pytest.fixture
def training(tmp_path):
    """Flags as the stock binary has them when it is about to train."""
    from paxml import main  # noqa: F401  (defines the flags)

    flags.FLAGS(["paxml.main", f"--job_log_dir={tmp_path}", "--mode=train"])
    yield
    flags.FLAGS.unparse_flags()


def refusal(name: str, monkeypatch, **settings: str) -> str:
    for key, value in settings.items():
        monkeypatch.setenv(key, value)
    with pytest.raises(ValueError) as error:
        getattr(codegen, name)().validate()
    message = str(error.value)
    assert "\n" not in message
    return message


def test_a_real_size_does_not_start_a_later_phase_from_nothing(training, monkeypatch):
    monkeypatch.delenv("CODEGEN_START_FROM", raising=False)
    message = refusal("CodeGen350MMulti", monkeypatch)
    assert "CodeGen350MNL" in message and "CODEGEN_START_FROM" in message


def test_scratch_is_an_answer(training, monkeypatch, tmp_path):
    monkeypatch.setenv("CODEGEN_START_FROM", "scratch")
    codegen.CodeGen350MMulti().validate()
    assert json.loads((tmp_path / "experiment.json").read_text())["start"] is None


def test_a_job_without_a_checkpoint(monkeypatch, tmp_path):
    message = refusal("CodeGenNanoMulti", monkeypatch, CODEGEN_START_FROM=str(tmp_path / "none"))
    assert str(tmp_path / "none") in message and "no checkpoint" in message


def test_a_job_of_another_experiment(whole, monkeypatch):
    message = refusal("CodeGenNanoMono", monkeypatch, CODEGEN_START_FROM=str(whole))
    assert "CodeGenNanoMulti" in message and "holds CodeGenNanoNL" in message


def test_a_job_of_another_recipe(whole, monkeypatch):
    message = refusal(
        "CodeGenNanoMulti",
        monkeypatch,
        CODEGEN_START_FROM=str(whole),
        CODEGEN_RECIPE="paper",
    )
    assert "embedding_lookup.b" in message and "jaxformer" in message


def test_a_job_of_another_size(whole, monkeypatch, tmp_path):
    """As an imported checkpoint, which has no receipt."""
    (tmp_path / "imported").mkdir()
    (tmp_path / "imported" / "checkpoints").symlink_to(whole / "checkpoints")
    message = refusal(
        "CodeGen350MMulti", monkeypatch, CODEGEN_START_FROM=str(tmp_path / "imported")
    )
    assert "(51200, 128)" in message and "(51200, 1024)" in message
