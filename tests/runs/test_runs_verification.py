"""Checksums are written when a checkpoint is complete, and compared before it is restored."""

import json
import os
import subprocess
import sys
import textwrap
import types
from pathlib import Path

import jax
import numpy as np
import pytest
from etils import epath
from jax.experimental import multihost_utils

from codegen_pax.data.stream import training
from codegen_pax.runs import checkpoints, checksums, lineage, verification
from tests.runs import small_jobs

A = "state/mdl_vars.params.lm.a"


@pytest.fixture
def checkpoint(tmp_path):
    (checkpoint,) = small_jobs.write_job(tmp_path / "job", [3])
    return Path(checkpoint)


@pytest.fixture
def be_host(monkeypatch):
    """A function that makes this process one of several hosts."""

    def be(host, hosts):
        monkeypatch.setattr(jax, "process_index", lambda: host)
        monkeypatch.setattr(jax, "process_count", lambda: hosts)

    return be


@pytest.fixture
def write():
    """Writes checksums by a writer: calls one of its methods, and waits until all is written."""

    def write(method, path, meanwhile=lambda: None):
        writer = verification.ChecksumWriter()
        try:
            method(writer, path)
            meanwhile()
        finally:
            writer.finish()

    return write


add_saved = verification.ChecksumWriter.add_saved
add_missing = verification.ChecksumWriter.add_missing


def make_incomplete(checkpoint):
    """Gives a checkpoint the name that it has while it is being saved."""
    return checkpoint.rename(checkpoint.with_name(f"{checkpoint.name}.orbax-checkpoint-tmp-17"))


def test_each_host_writes_its_share_when_the_checkpoint_is_complete(checkpoint, be_host, write):
    incomplete = make_incomplete(checkpoint)

    def complete():
        assert checksums.read(incomplete) is None
        (incomplete / A / "9.9").write_bytes(b"the last chunk")
        incomplete.rename(checkpoint)

    for host in range(3):
        be_host(host, 3)
        write(add_saved, incomplete, meanwhile=complete if host == 0 else lambda: None)
        missing = tuple((other, 3) for other in range(host + 1, 3))
        assert checksums.read(checkpoint).missing == missing
    saved = checksums.read(checkpoint)
    assert not saved.missing and not saved.later
    assert saved.files[f"{A}/9.9"][0] == 14
    shares = [json.loads(path.read_text())["files"] for path in checkpoint.glob("checksums-*")]
    assert sum(map(len, shares)) == len(saved.files) and all(shares)


def test_a_step_goes_before_the_checksums(checkpoint, write, monkeypatch):
    """However nice the run itself is."""
    priorities = []

    def note_priority(*_, **__):
        priorities.append(os.getpriority(os.PRIO_PROCESS, 0))
        return 0

    monkeypatch.setattr(checksums, "write", note_priority)
    write(add_saved, checkpoint)
    own = os.getpriority(os.PRIO_PROCESS, 0)
    assert priorities == [min(own + 10, 19)]


def test_a_checkpoint_that_is_never_complete_is_given_up(tmp_path, write):
    write(add_saved, tmp_path / "checkpoints" / "checkpoint_00000004.orbax-checkpoint-tmp-1")
    assert not (tmp_path / "checkpoints").exists()


def test_what_a_killed_run_left_undone_is_done_later(checkpoint, be_host, write, tmp_path):
    checksums.write(checkpoint, 1, 4)
    for host in range(2):  # the next run has two hosts
        be_host(host, 2)
        write(add_missing, tmp_path / "job")
    saved = checksums.read(checkpoint)
    assert not saved.missing and saved.later
    assert checksums.find_problems(checkpoint, contents=True) == []


def test_a_checkpoint_gets_the_receipt_of_its_job_from_the_first_host(
    tmp_path, be_host, monkeypatch
):
    saved = []
    monkeypatch.setattr(training, "on_save", [])
    monkeypatch.setattr(
        verification, "background_writer", lambda: types.SimpleNamespace(add_saved=saved.append)
    )
    verification.watch_saves()
    receipt = {"format": 1, "of": "the job"}
    lineage.write(tmp_path / "job", receipt)
    for host in (0, 1):
        be_host(host, 2)
        checkpoint = epath.Path(
            tmp_path / f"job/checkpoints/checkpoint_{host}.orbax-checkpoint-tmp-1"
        )
        checkpoint.mkdir(parents=True)
        for hook in training.on_save:
            hook(checkpoint)
        file = checkpoint / lineage.FILE
        assert (json.loads(file.read_text()) if file.exists() else None) == (
            None if host else receipt
        )
        assert saved[-1] == checkpoint


def test_a_job_without_a_checkpoint_lacks_no_checksums(tmp_path, write):
    write(add_missing, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_in_object_storage_a_commit_file_makes_a_checkpoint_complete(checkpoint, bucket, write):
    url = checkpoints.path(f"{bucket}/job", 3)

    def complete():
        assert checksums.read(checkpoint) is None
        (checkpoint / checkpoints.COMMIT_FILE).write_text("complete")

    write(add_saved, url, meanwhile=complete)
    assert not checksums.read(url).missing
    assert checksums.find_problems(url, contents=True) == []


def test_a_run_that_ends_at_once_has_written_them(checkpoint):
    """Python waits for the threads that save, and then for the checksums."""
    incomplete = make_incomplete(checkpoint)
    code = f"""
        import threading, time
        from pathlib import Path
        from codegen_pax.runs import verification
        verification.background_writer().add_saved({str(incomplete)!r})
        def save():
            time.sleep(0.3)
            Path({str(incomplete)!r}).rename({str(checkpoint)!r})
        threading.Thread(target=save).start()
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True)
    assert not checksums.read(checkpoint).missing


def test_a_missing_receipt_does_not_stop_a_run(checkpoint):
    checksums.write(checkpoint)
    (checkpoint / lineage.FILE).unlink()
    verification.check_restored(checkpoint)
    (checkpoint / "train_input" / "process_0").unlink()
    with pytest.raises(checksums.DamagedCheckpointError, match="train_input/process_0 is missing"):
        verification.check_restored(checkpoint)
    verification.check_restored(checkpoint, verification.WEIGHT_FILES)
    verification.check_restored(None)  # there is none yet


def test_hosts_check_their_shares_and_each_reports_a_problem(checkpoint, be_host, monkeypatch):
    checksums.write(checkpoint)
    (checkpoint / A / "0.0").unlink()
    owner, messages = checksums.host_of(f"{A}/0.0", 3), {}
    for host in (owner, *({0, 1, 2} - {owner})):
        be_host(host, 3)
        sent = []

        def gather(own, sent=sent):
            sent.append(int(own))
            return np.array([host == owner for host in range(3)], np.int32)

        monkeypatch.setattr(multihost_utils, "process_allgather", gather)
        with pytest.raises(checksums.DamagedCheckpointError) as caught:
            verification.check_restored(checkpoint)
        assert sent == [host == owner]
        messages[host] = str(caught.value)
    assert f"{A}/0.0 is missing" in messages.pop(owner)
    assert all(f"host {owner} has found problems" in text for text in messages.values())


def test_a_host_that_cannot_read_tells_the_others_first(checkpoint, be_host, monkeypatch):
    def unreadable(*_, **__):
        raise PermissionError("no permission to read")

    sent = []
    monkeypatch.setattr(checksums, "find_problems", unreadable)
    monkeypatch.setattr(
        multihost_utils, "process_allgather", lambda own: sent.append(int(own)) or np.array([1, 0])
    )
    be_host(0, 2)
    with pytest.raises(PermissionError):
        verification.check_restored(checkpoint)
    assert sent == [1]


def test_a_checkpoint_without_any_weights_is_no_good_one(checkpoint):
    """Without checksums, Pax' metadata alone says that there were weights."""
    for path in (checkpoint / "state").glob("mdl_vars.*"):
        path.rename(checkpoint / path.name)
    report = verification.verify(checkpoints.job_of(checkpoint))
    assert not report.is_good and report.good_step is None
    assert f"{A} is missing" in report.checkpoints[0].problems
