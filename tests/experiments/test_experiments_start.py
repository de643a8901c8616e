"""What a run starts from: the newest whole checkpoint of a job, which is not damaged."""

import dataclasses

import pytest
from absl import flags
from etils import epath
from jax.experimental import multihost_utils
from paxml import checkpoint_paths

from codegen_pax.runs import checkpoints, checksums, verification
from experiments import start
from experiments.declaration import find_declaration
from experiments.settings import SCRATCH, Settings
from experiments.start import Run, StartCheckpoint
from tests.runs import small_jobs

A = "state/mdl_vars.params.lm.a"
M = "state/opt_states_0.no_prefix_2.m.params.lm.a"
MONO = find_declaration("CodeGenNanoMono")


@pytest.mark.parametrize(
    ("there", "newest"),
    [
        (None, None),
        ([], None),
        (["checkpoint_00000004.orbax-checkpoint-tmp-17"], None),
        (["checkpoint_00000000"], 0),
        (["checkpoint_00000004", "checkpoint_00000012", "checkpoint_00000016.orbax-tmp-1"], 12),
    ],
)
def test_the_newest_whole_checkpoint_is_found_without_other_hosts(
    there, newest, tmp_path, monkeypatch
):
    """A host that asked the others would wait for ever for one that has seen no directory yet."""

    def ask(*_, **__):
        raise AssertionError("the other hosts were asked")

    monkeypatch.setattr(multihost_utils, "broadcast_one_to_all", ask)
    for name in there or ():
        (tmp_path / "checkpoints" / name).mkdir(parents=True)
    if there is not None:
        (tmp_path / "checkpoints").mkdir(exist_ok=True)
    monkeypatch.chdir(tmp_path.parent)
    for job in (epath.Path(tmp_path), epath.Path(tmp_path.name)):
        checkpoint = start.find(MONO, Settings(start_from=str(job)), Run())
        assert checkpoint == StartCheckpoint(epath.Path(tmp_path), newest)
    monkeypatch.undo()
    actual = checkpoint_paths.latest_checkpoint_if_exists(epath.Path(tmp_path) / "checkpoints")
    reference = None if newest is None else checkpoints.path(tmp_path, newest)
    assert actual == reference  # what the stock binary goes on with


def test_a_start_is_for_a_run_that_begins(tmp_path):
    small_jobs.write_job(tmp_path / "parent", [3])
    settings, job = Settings(start_from=str(tmp_path / "parent")), epath.Path(tmp_path / "job")
    parent = StartCheckpoint(epath.Path(tmp_path / "parent"), 3)
    assert start.find(MONO, settings, Run()) == parent  # outside the stock binary
    assert start.find(MONO, settings, Run(job, trains=True)) == parent
    for run in (Run(job, step=0, trains=True), Run(job, decodes=True), Run(job, evaluates=True)):
        assert start.find(MONO, settings, run) is None
    assert start.find(MONO, Settings(start_from=SCRATCH), Run()) is None
    assert start.find(MONO, Settings(), Run()) is None
    assert start.find(find_declaration("CodeGenNanoNL"), settings, Run()) is None


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("--mode=train", {"trains", "saves"}),
        ("--mode=train --eval_on_test", {"trains", "saves", "evaluates"}),
        ("--mode=train --decode_during_train --noenable_checkpoint_saving", {"trains", "decodes"}),
        ("--mode=eval", {"evaluates"}),
        ("--mode=decode_once", {"decodes", "needs_checkpoint"}),
        (
            "--mode=decode_once --restore_checkpoint_dir=other/checkpoints "
            "--restore_checkpoint_step=3",
            {"decodes", "restore_from", "restore_steps"},
        ),
        ("--mode=decode --eval_during_decode", {"decodes", "evaluates"}),
    ],
)
def test_the_stock_binarys_flags_say_what_is_done(words, expected, tmp_path, monkeypatch):
    from paxml import main  # noqa: F401  (defines the flags)

    monkeypatch.chdir(tmp_path)
    small_jobs.write_job(tmp_path / "job", [5])
    assert not Run.is_stock_binary()
    flags.FLAGS(["paxml.main", "--job_log_dir=job", *words.split()])
    try:
        assert Run.is_stock_binary()
        run = Run.from_flags()
    finally:
        flags.FLAGS.unparse_flags()
    values = {field.name: getattr(run, field.name) for field in dataclasses.fields(run)}
    assert (values.pop("job"), values.pop("step")) == (epath.Path(tmp_path / "job"), 5)
    assert {name for name, value in values.items() if value} == expected
    if run.restore_from:
        assert (run.restore_from, run.restore_steps) == (epath.Path("other"), (3,))


@pytest.fixture
def job(tmp_path):
    """A job with checkpoints of steps 3 and 5."""
    for checkpoint in small_jobs.write_job(tmp_path / "job", [3, 5]):
        checksums.write(checkpoint)
    return tmp_path / "job"


def remove(job, step, name):
    (checkpoints.path(job, step) / name).unlink()


def test_what_would_be_restored_is_looked_at(job):
    run = Run(job=epath.Path(job), step=5, trains=True)
    remove(job, 3, f"{A}/0.0")  # nobody restores it
    start.check_restored(run, None)
    remove(job, 5, f"{M}/0.1")
    with pytest.raises(checksums.DamagedCheckpointError, match=f"{M}/0.1 is missing"):
        start.check_restored(run, None)
    start.check_restored(Run(job=epath.Path(job.parent / "new"), trains=True), None)
    start.check_restored(Run(), None)


def test_the_step_and_the_folder_that_are_to_be_decoded(job):
    remove(job, 3, f"{A}/0.0")
    other = Run(job=epath.Path(job.parent / "other"), decodes=True, restore_from=epath.Path(job))
    start.check_restored(dataclasses.replace(other, restore_steps=(5,)), None)
    start.check_restored(other, None)  # the newest
    with pytest.raises(checksums.DamagedCheckpointError, match="checkpoint_00000003 is damaged"):
        start.check_restored(dataclasses.replace(other, restore_steps=(5, 3)), None)


def test_of_a_start_the_weights_are_looked_at(job):
    checkpoint = StartCheckpoint(epath.Path(job), 5)
    remove(job, 5, f"{M}/0.1")
    start.check_restored(Run(), checkpoint)
    remove(job, 5, f"{A}/0.0")
    with pytest.raises(checksums.DamagedCheckpointError, match=f"{A}/0.0 is missing"):
        start.check_restored(Run(), checkpoint)
    assert verification.WEIGHT_FILES == "state/mdl_vars."
