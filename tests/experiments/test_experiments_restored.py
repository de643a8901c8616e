"""A damaged checkpoint is refused before the stock binary restores anything from it."""

import types

import pytest

from codegen_pax.runs import checkpoints, checksums, verification
from experiments import start
from experiments.declaration import find_declaration
from tests.runs import small_jobs

A = "state/mdl_vars.params.lm.a"
M = "state/opt_states_0.no_prefix_2.m.params.lm.a"


@pytest.fixture
def job(tmp_path, monkeypatch):
    monkeypatch.delenv("CODEGEN_START_FROM", raising=False)
    for checkpoint in small_jobs.write_job(tmp_path / "job", [3, 5]):
        checksums.write(checkpoint)
    return tmp_path / "job"


def remove(job, step, name):
    (checkpoints.path(job, step) / name).unlink()


def binary(monkeypatch, mode, job, **flags):
    """This process is the stock binary."""
    values = {"mode": mode, "job_log_dir": job} | flags
    fake = types.SimpleNamespace(
        is_parsed=lambda: True, get_flag_value=values.get, job_log_dir=str(job), mode=mode
    )
    monkeypatch.setattr(start.flags, "FLAGS", fake)


@pytest.mark.parametrize("mode", ["train", "eval", "decode_once"])
def test_what_would_be_restored_is_looked_at(mode, job, monkeypatch):
    binary(monkeypatch, mode, job)
    declaration = find_declaration("CodeGenNanoMono")
    remove(job, 3, f"{A}/0.0")  # nobody restores it
    start.check_restored(declaration)
    remove(job, 5, f"{M}/0.1")
    with pytest.raises(checksums.DamagedCheckpointError, match=f"{M}/0.1 is missing"):
        start.check_restored(declaration)
    binary(monkeypatch, mode, job.parent / "new")
    start.check_restored(declaration)  # there is no checkpoint yet


def test_the_step_and_the_folder_that_are_to_be_decoded(job, monkeypatch):
    declaration = find_declaration("CodeGenNanoMono")
    remove(job, 3, f"{A}/0.0")
    named = job / checkpoints.DIRECTORY
    chosen = {"restore_checkpoint_dir": named, "restore_checkpoint_step": [5]}
    binary(monkeypatch, "decode_once", job.parent / "other", **chosen)
    start.check_restored(declaration)
    chosen["restore_checkpoint_step"] = [5, 3]
    binary(monkeypatch, "decode_once", job.parent / "other", **chosen)
    with pytest.raises(checksums.DamagedCheckpointError, match="checkpoint_00000003 is damaged"):
        start.check_restored(declaration)


def test_of_a_start_the_weights_are_looked_at(job, monkeypatch):
    monkeypatch.setenv("CODEGEN_START_FROM", str(job))
    declaration = find_declaration("CodeGenNanoMono")
    start.start_step.cache_clear()
    remove(job, 5, f"{M}/0.1")
    start.check_restored(declaration)
    remove(job, 5, f"{A}/0.0")
    with pytest.raises(checksums.DamagedCheckpointError, match=f"{A}/0.0 is missing"):
        start.check_restored(declaration)
    assert verification.WEIGHT_FILES == "state/mdl_vars."
