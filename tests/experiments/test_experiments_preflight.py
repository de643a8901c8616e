"""What is refused before a run begins, in which order, and that nothing is left behind."""

import collections
import shutil
from dataclasses import replace

import numpy as np
import pytest
from etils import epath
from jax.experimental import multihost_utils

import codegen
from codegen_pax.errors import UserError
from experiments import preflight, start
from experiments.meshes import parse_mesh
from experiments.preflight import Plan
from experiments.settings import Settings, from_environment
from experiments.start import Run
from tests.data.prepared_corpora import write_corpus

Usage = collections.namedtuple("Usage", "total used free")
MESH = "1x4x2"  # of the eight devices that tests have


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """A network is made, in shapes alone, for a start's arrays and for nothing else."""
    made = []
    monkeypatch.setattr(start, "network_shapes", lambda *_: made.append(True) or {})
    return made


@pytest.fixture(autouse=True)
def roomy_disk(monkeypatch):
    """Real sizes are planned here and nothing is written: this machine may have any disk."""
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**12, 0, 10**12))


@pytest.fixture
def job(tmp_path):
    """A folder that is not there."""
    (tmp_path / "jobs").mkdir()
    return epath.Path(tmp_path / "jobs" / "job")


def plan(job, experiment="CodeGenMicroMono", devices=8, settings=None, **changed) -> Plan:
    """Training on a mesh of eight devices, with everything that may go with it."""
    settings = {"mesh": parse_mesh(MESH), "data": str(job.parents[1] / "corpora")} | (
        settings or {}
    )
    done = {"trains": True, "evaluates": True, "decodes": True, "saves": True}
    cls = getattr(codegen, experiment) if isinstance(experiment, str) else experiment
    return Plan(cls(Settings(**settings), Run(job, **done | changed)), devices)


def refusal(plan: Plan, job) -> str:
    with pytest.raises(UserError) as error:
        preflight.check(plan)
    assert "\n" not in str(error.value)
    assert list(job.parent.iterdir()) == []
    return str(error.value)


def test_a_run_that_may_begin_says_what_it_found(job, no_network):
    message = "; ".join(preflight.check(plan(job)))
    assert "4 rows a step in 1 micro-batch of 4" in message
    assert "mesh 1x4x2 on 8 cpu devices" in message and "weights random" in message
    assert "trains on codegen_nano_mono" in message and "evaluates on codegen_nano_mono" in message
    assert "decodes 8 prompts" in message and "enough for 4 checkpoints" in message
    assert list(job.parent.iterdir()) == [] and not no_network


def test_without_an_evaluation_that_is_said(job):
    message = preflight.check(plan(job, evaluates=False, decodes=False))
    assert "is not evaluated (no --eval_on_test)" in message


@pytest.mark.parametrize(
    ("name", "devices", "mesh", "message"),
    [
        ("CodeGenMicroMono", 8, None, "the mesh 1x1x1 [replica x data x mdl] takes 1 device;"
         " found 8 cpu devices: set CODEGEN_MESH=1x4x2, or start it where there is 1"),
        ("CodeGen350MNL", 1, None, "takes 8 devices; found 1 cpu device: set CODEGEN_MESH=1x1x1"),
        ("CodeGen16BNL", 64, None, "takes 256 devices; found 64 cpu devices: set"
         " CODEGEN_MESH=1x64x1, or"),
        ("CodeGenMicroMono", 8, "1x1x4", "CODEGEN_MESH=1x1x4 [replica x data x mdl] takes 4"),
        ("CodeGenMicroMono", 3, "1x1x1", "found 3 cpu devices: start it where there is 1"),
        ("CodeGenMicroMono", 8, "1x3x1", "CODEGEN_MESH=1x3x1: mesh 1x3x1"),
    ],
)  # fmt: skip
def test_a_mesh_that_is_not_there_is_named(name, devices, mesh, message, job):
    """Before data and start, which are missing too."""
    settings = {"mesh": mesh and parse_mesh(mesh)}
    assert message in refusal(plan(job, name, devices, settings), job)


def test_a_mesh_that_jax_cannot_lay_is_named(job, monkeypatch):
    def refuse(*_):
        raise NotImplementedError("no contiguous submesh")

    monkeypatch.setattr(preflight.py_utils, "create_device_mesh", refuse)
    message = refusal(plan(job), job)
    assert "CODEGEN_MESH=1x4x2 cannot be laid over 8 cpu devices: no contiguous submesh" in message


def test_a_start_is_looked_for_before_the_data(job):
    assert "set CODEGEN_START_FROM" in refusal(plan(job, "CodeGen350MMulti"), job)
    settings = {"start_from": str(job.parent / "none")}
    message = refusal(plan(job, "CodeGen350MMulti", settings=settings), job)
    assert "holds no checkpoint" in message


def test_a_missing_corpus_is_told_before_a_network_is_made(job, no_network):
    message = refusal(plan(job, "CodeGen350MNL"), job)
    assert "codegen-pax prepare pile --input ... --output" in message and not no_network


def test_an_evaluation_on_nothing_is_refused_where_there_is_one(job, tmp_path):
    write_corpus(tmp_path / "corpora" / "pile", {"": {"train": 3}}, vocabulary="gpt2",
                 row_length=2048)  # fmt: skip
    message = refusal(plan(job, "CodeGen350MNL"), job)
    assert "codegen_pile has no row to evaluate on" in message and "--validation" in message
    preflight.check(plan(job, "CodeGen350MNL", evaluates=False))


def test_an_evaluation_on_a_name_that_nobody_knows(job):
    """One that is known is found with spaces around it."""
    read = from_environment({"CODEGEN_EVALUATE": " codegen_nano_mono, codegen_pil"})
    message = refusal(plan(job, settings={"evaluate": read.evaluate}), job)
    assert message.startswith(
        "CODEGEN_EVALUATE: no task or mixture is called 'codegen_pil'; nearest"
    )


def test_a_mixture_that_nobody_knows(job):
    class Misspelt(codegen.CodeGenMicroMono):
        DECLARATION = replace(
            actual := codegen.CodeGenMicroMono.DECLARATION,
            phase=replace(actual.phase, nano_mixture="codegen_nano_mon"),
        )

    message = refusal(plan(job, Misspelt), job)
    assert "'codegen_nano_mon'; nearest: codegen_nano_mono" in message


def test_hosts_that_do_not_divide_the_batch(job, monkeypatch):
    monkeypatch.setattr(preflight.jax, "process_count", lambda: 3)
    assert "batch of 4 rows cannot be read by 3 processes" in refusal(plan(job), job)


def test_a_full_disk_is_told(job, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**12, 0, 10**8))
    message = refusal(plan(job), job)
    # 13,553,792 parameters; at steps 0, 45 and 90 and one that is being written.
    assert "0.10 GB free; expected 0.54 GB, for 4 more checkpoints" in message
    preflight.check(plan(job, saves=False, evaluates=False, decodes=False))


def test_a_file_in_the_way(job):
    job.parent.rmdir()
    job.parent.write_text("")
    with pytest.raises(UserError, match="is not a directory"):
        preflight.check(plan(job))


def test_nothing_to_decode(job):
    decodes = plan(job, trains=False, saves=False, evaluates=False, needs_checkpoint=True)
    assert "holds no checkpoint to decode" in refusal(decodes, job)


def hosts(monkeypatch, others: list[int]):
    """Other hosts, which gather these numbers behind this one's."""
    monkeypatch.setattr(preflight.jax, "process_count", lambda: 1 + len(others))
    monkeypatch.setattr(
        multihost_utils, "process_allgather", lambda mine: np.array([mine, *others])
    )


def test_all_hosts_stop_with_one_that_is_refused(monkeypatch):
    def refused():
        raise start.InvalidValueError("mine")

    hosts(monkeypatch, [0, 0])
    assert preflight.together(lambda: 7) == 7
    with pytest.raises(UserError, match="mine"):
        preflight.together(refused)
    hosts(monkeypatch, [0, 1])
    with pytest.raises(UserError, match="stopped with host 2 of 3"):
        preflight.together(lambda: 7)
    with pytest.raises(ZeroDivisionError):  # a defect too: the others must not wait for ever
        preflight.together(lambda: 1 // 0)


@pytest.mark.parametrize(
    ("elsewhere", "message"),
    [
        ([8], None),
        ([4], "step 8, step 4; expected the same"),
        ([-1], "step 8, none; expected the same"),
    ],
)
def test_hosts_start_from_the_same_checkpoint(elsewhere, message, tmp_path, monkeypatch):
    (tmp_path / "checkpoints" / "checkpoint_00000008").mkdir(parents=True)
    experiment = codegen.CodeGenNanoMulti(Settings(start_from=str(tmp_path)))
    hosts(monkeypatch, elsewhere)
    if message is None:
        preflight.check_hosts_start(experiment)
    else:
        with pytest.raises(ValueError, match=message):
            preflight.check_hosts_start(experiment)
