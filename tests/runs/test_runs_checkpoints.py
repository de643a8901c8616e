"""The checkpoints of a job: which are complete, and whether there is room for the next ones."""

import collections
import json
import os
import shutil

import pytest

from codegen_pax.runs import checkpoints
from tests.runs import small_jobs

Usage = collections.namedtuple("Usage", "total used free")


@pytest.mark.parametrize(
    ("names", "newest"),
    [
        (None, None),
        ([], None),
        (["checkpoint_00000004.orbax-checkpoint-tmp-17"], None),
        (["checkpoint_00000000"], 0),
        (["checkpoint_00000004", "checkpoint_123456789", "checkpoint_5.tmp", "notes"], 123456789),
    ],
)
def test_the_last_step_is_that_of_the_newest_complete_checkpoint(names, newest, tmp_path):
    for name in names or ():
        (tmp_path / "checkpoints" / name).mkdir(parents=True)
    if names is not None:
        (tmp_path / "checkpoints").mkdir(exist_ok=True)
    assert checkpoints.last_step(tmp_path) == newest
    steps = [checkpoints.step_of(tmp_path / "checkpoints" / name) for name in names or ()]
    assert max((step for step in steps if step is not None), default=None) == newest
    rest = sorted(name for name, step in zip(names or (), steps, strict=True) if step is None)
    assert checkpoints.incomplete(tmp_path) == rest


def test_in_object_storage_a_commit_file_tells_which_are_complete(bucket, tmp_path):
    for step in (20, 30):
        checkpoints.path(tmp_path, step).mkdir(parents=True)
    assert checkpoints.last_step(bucket) is None
    (checkpoints.path(tmp_path, 20) / "commit_success.txt").write_text("done")
    assert checkpoints.last_step(bucket) == 20
    assert checkpoints.is_complete(checkpoints.path(bucket, 20))
    assert not checkpoints.is_complete(checkpoints.path(bucket, 30))


def test_an_incomplete_checkpoint_tells_its_job_and_its_name_to_be(tmp_path):
    complete = checkpoints.path(tmp_path, 4)
    for suffix in ("", ".orbax-checkpoint-tmp-17"):
        checkpoint = complete.with_name(complete.name + suffix)
        assert checkpoints.complete_path(checkpoint) == complete
        assert checkpoints.job_of(checkpoint) == complete.parents[1]
        assert checkpoints.is_below_job(checkpoint)
    assert not checkpoints.is_below_job(tmp_path / "elsewhere" / "checkpoint_00000004")


def test_the_shapes_of_weights_are_those_of_the_metadata(tmp_path):
    checkpoint = small_jobs.write_checkpoint(checkpoints.path(tmp_path, 4))
    assert checkpoints.weight_shapes(checkpoint) == small_jobs.WEIGHTS
    metadata = checkpoint / "metadata" / "metadata"
    for content in ("{", "[]", json.dumps({"train_state_metadata": {"mdl_vars": {"a": 3}}})):
        metadata.write_text(content)
        with pytest.raises(ValueError, match="metadata/metadata is damaged"):
            checkpoints.weight_shapes(checkpoint)
    metadata.unlink()
    with pytest.raises(FileNotFoundError, match="metadata/metadata is missing"):
        checkpoints.weight_shapes(checkpoint)


def test_the_check_of_a_directory_does_not_make_it(tmp_path):
    checkpoints.check_writable(tmp_path / "not" / "yet")
    assert list(tmp_path.iterdir()) == []
    checkpoints.check_writable("gs://bucket/job")  # not asked


@pytest.mark.parametrize("job", ["file", "file/job", "file/a/b"])
def test_a_file_in_the_way_is_named(job, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=f"{tmp_path}/file is not a directory"):
        checkpoints.check_writable(tmp_path / job)


def test_a_directory_that_is_not_writable_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may do anything
    with pytest.raises(ValueError, match="may not write to"):
        checkpoints.check_writable(tmp_path / "job")


@pytest.mark.parametrize(
    ("newest", "steps", "interval", "count"),
    [
        (None, 4, 4, 2),  # 0 and 4
        (None, 20, 10, 3),  # 0, 10, 20
        (None, 25, 10, 4),  # 0, 10, 20, 25
        (10, 25, 10, 2),  # 20, 25
        (13, 25, 10, 2),  # a polite stop is at any step
        (0, 20, 10, 2),  # an import
        (25, 25, 10, 0),
        (30, 25, 10, 0),
    ],
)
def test_num_remaining(newest, steps, interval, count):
    assert checkpoints.num_remaining(newest, steps, interval) == count


def room(free, monkeypatch, job, *there, **changed):
    """A run of 500 steps that saves every ten, in a folder with checkpoints of these steps."""
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**12, 0, free))
    for step in there:
        checkpoints.path(job, step).mkdir(parents=True, exist_ok=True)
    plan = {"parameters": 1_000_000, "steps": 500, "interval": 10, "max_to_keep": 10}
    return checkpoints.check_room(job, **plan | changed)


@pytest.mark.parametrize(
    ("there", "changed", "needed"),
    [
        ([], {}, 4 + 11 * 12),  # the first without moments; ten, and one that is being written
        ([], {"steps": 10}, 4 + 12),
        ([0], {}, 11 * 12),  # one of twelve is there
        ([0, 480], {}, 2 * 12),  # two are to come
        ([0, *range(100, 200, 10)], {}, 12),
        (range(0, 300, 10), {}, 12),  # one is written before one is removed
    ],
)
def test_a_disk_has_just_enough_or_not(there, changed, needed, monkeypatch, tmp_path):
    assert "enough" in room(needed * 10**6, monkeypatch, tmp_path, *there, **changed)
    with pytest.raises(ValueError, match=f"expected {needed / 1_000:.2f} GB"):
        room(needed * 10**6 - 1, monkeypatch, tmp_path, *there, **changed)


def test_the_needed_room_is_reported(monkeypatch, tmp_path):
    job = tmp_path / "job"
    with pytest.raises(ValueError) as error:
        room(20 * 10**9, monkeypatch, job, parameters=356_713_472)
    assert f"{job}: the disk has 20.00 GB free; expected 48.51 GB, for 12 more" in str(error.value)
    assert "4.28 GB each (356,713,472 parameters of 12 bytes)" in str(error.value)


def test_a_run_that_saves_nothing_or_elsewhere_needs_no_room(monkeypatch, tmp_path):
    assert room(0, monkeypatch, tmp_path, 500) == ""
    plan = {"parameters": 10**12, "steps": 2, "interval": 1, "max_to_keep": 10}
    assert checkpoints.check_room("gs://bucket/job", **plan) == ""
