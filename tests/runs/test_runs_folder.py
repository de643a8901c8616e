"""A run's folder: whether it can be written to, and has room until the run's end."""

import collections
import os
import shutil

import pytest

from codegen_pax.runs import folder, lineage

Usage = collections.namedtuple("Usage", "total used free")


def test_a_folder_that_is_to_be_made_is_not_made(tmp_path):
    folder.check_writable(tmp_path / "not" / "yet")
    assert list(tmp_path.iterdir()) == []
    folder.check_writable("gs://bucket/job")  # not asked


@pytest.mark.parametrize("job", ["file", "file/job", "file/a/b"])
def test_a_file_in_the_way_is_named(job, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=f"{tmp_path}/file is no folder"):
        folder.check_writable(tmp_path / job)


def test_a_folder_of_somebody_else_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may do anything
    with pytest.raises(ValueError, match="closed to this user"):
        folder.check_writable(tmp_path / "job")


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
def test_checkpoints_to_come(newest, steps, interval, count):
    assert folder.checkpoints_to_come(newest, steps, interval) == count


def room(free, monkeypatch, job, *there, **changed):
    """A run of 500 steps that saves every ten, in a folder with checkpoints of these steps."""
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**12, 0, free))
    for step in there:
        lineage.checkpoint(job, step).mkdir(parents=True, exist_ok=True)
    plan = {"parameters": 1_000_000, "steps": 500, "interval": 10, "kept": 10}
    return folder.check_room(job, **plan | changed)


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
    with pytest.raises(ValueError, match=f"wanted {needed / 1_000:.2f} GB"):
        room(needed * 10**6 - 1, monkeypatch, tmp_path, *there, **changed)


def test_what_is_wanted_is_told(monkeypatch, tmp_path):
    job = tmp_path / "job"
    with pytest.raises(ValueError) as error:
        room(20 * 10**9, monkeypatch, job, parameters=356_713_472)
    assert f"{job}: the disk has 20.00 GB free; wanted 48.51 GB, for 12 more" in str(error.value)
    assert "4.28 GB each (356,713,472 parameters of 12 bytes)" in str(error.value)


def test_a_run_that_saves_nothing_or_elsewhere_needs_no_room(monkeypatch, tmp_path):
    assert room(0, monkeypatch, tmp_path, 500) == ""
    plan = {"parameters": 10**12, "steps": 2, "interval": 1, "kept": 10}
    assert folder.check_room("gs://bucket/job", **plan) == ""
