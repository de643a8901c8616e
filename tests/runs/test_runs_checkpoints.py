"""Checksums of checkpoints: written when they are whole, and what they find."""

import json
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from etils import epath

from codegen_pax.runs import checkpoints, checksums, lineage
from codegen_pax.runs.checkpoint_arrays import Variables, read_variables
from tests.runs import small_jobs

A = "state/mdl_vars.params.lm.a"
M = "state/opt_states_0.no_prefix_2.m.params.lm.a"


@pytest.fixture
def checkpoint(tmp_path):
    (found,) = small_jobs.write_job(tmp_path / "job", [3])
    return Path(found)


def test_checksums_are_of_every_file(checkpoint):
    # The check value of CRC-32C (RFC 3720, B.4): 32 bytes of zeros, and of ones.
    for content, wanted in ((bytes(32), 0x8A9136AA), (b"\xff" * 32, 0x62A8AB43)):
        (checkpoint / "zeros").write_bytes(content)
        assert checksums.checksum(epath.Path(checkpoint / "zeros")) == (32, wanted)
    checksums.write(checkpoint)
    found = checksums.read(checkpoint)
    there = [path for path in checkpoint.rglob("*") if path.is_file()]
    names = {path.relative_to(checkpoint).as_posix(): path.stat().st_size for path in there}
    del names["checksums-00000-of-00001.json"]
    assert {name: size for name, (size, _) in found.files.items()} == names
    assert {f"{A}/{chunk}" for chunk in ("0.0", "0.1", "1.0", "1.1", ".zarray")} <= set(names)
    assert not found.missing and not found.later
    assert checksums.problems(checkpoint, contents=True) == []


def cut(path):
    path.write_bytes(path.read_bytes()[:-1])


def flip(path):
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(bytes(content))


def zero(path):
    path.write_bytes(bytes(len(path.read_bytes())))


DAMAGES = {
    "missing chunk": (Path.unlink, f"{A}/1.0", "is missing", True),
    "missing chunk of a moment": (Path.unlink, f"{M}/0.1", "is missing", True),
    "missing step": (Path.unlink, "state/step/0", "is missing", True),
    "missing metadata": (Path.unlink, f"{A}/.zarray", "is missing", True),
    "cut": (cut, f"{A}/0.0", r"has \d+ bytes; \d+ were saved", False),
    "emptied": (lambda path: path.write_bytes(b""), f"{A}/0.0", "has 0 bytes", False),
    "flipped": (flip, f"{A}/0.1", "has other bytes than were saved", False),
    "zeroed": (zero, "state/mdl_vars.params.lm.b/2", "has other bytes than were saved", False),
}


@pytest.mark.parametrize("known", [True, False], ids=["with checksums", "without"])
@pytest.mark.parametrize(("damage", "name", "said", "shows"), DAMAGES.values(), ids=DAMAGES)
def test_what_is_damaged_is_named(known, damage, name, said, shows, checkpoint):
    if known:
        checksums.write(checkpoint)
    damage(checkpoint / name)
    found = checksums.problems(checkpoint, contents=True)
    if not known and not shows:  # its metadata does not tell
        assert found == []
        return
    assert len(found) == 1, found
    with pytest.raises(checksums.DamagedCheckpointError) as caught:
        checksums.check(checkpoint, contents=True)
    assert re.match(f"{checkpoint} is damaged: {name} {said}", str(caught.value))
    if not name.startswith("state/mdl_vars."):
        read_variables(checkpoint)  # needs the weights alone
        return
    readers = [read_variables]
    readers += [Variables] if "bytes than" not in said else []  # which looks at sizes
    readers += [lineage.fingerprint] if "missing" not in said else []  # which reads what is there
    for reader in readers:
        with pytest.raises(checksums.DamagedCheckpointError, match=name):
            reader(checkpoint)


def test_a_whole_array_or_all_of_them_may_be_missing(checkpoint):
    checksums.write(checkpoint)
    for path in (checkpoint / A).iterdir():
        path.unlink()
    (checkpoint / A).rmdir()
    assert f"{A}/0.0 is missing" in checksums.problems(checkpoint)
    (checkpoint / "state").rename(checkpoint / "elsewhere")
    assert "state is missing" in checksums.problems(checkpoint)


def test_zeros_of_an_import_have_no_chunks_and_those_of_a_run_have(tmp_path):
    packed = small_jobs.write_checkpoint(tmp_path / "run", **{A[6:]: np.zeros((4, 6), np.float32)})
    assert (packed / A / "1.1").exists()  # so one that is not there was lost
    plain = small_jobs.write_checkpoint(tmp_path / "import", packed=False)
    for path in (plain / M).glob("[0-9]*"):
        path.unlink()
    assert checksums.problems(plain) == []
    (plain / A / "0.1").unlink()
    assert checksums.problems(plain) == [f"{A}/0.1 is missing"]
    (plain / A / "0.1").write_bytes(b"1")
    checksums.write(plain)  # from here on all is known
    (plain / A / "0.1").unlink()
    assert checksums.problems(plain) == [f"{A}/0.1 is missing"]


BROKEN = ["", "{", "[]", "[" * 10_000, '{"format": 7}', '{"format": 1, "files": 3}']


@pytest.mark.parametrize("content", BROKEN, ids=range(len(BROKEN)))
def test_checksums_that_are_damaged_are_named(content, checkpoint):
    checksums.write(checkpoint)
    path = checkpoint / "checksums-00000-of-00001.json"
    path.write_text(content)
    with pytest.raises(checksums.DamagedCheckpointError, match=str(path)):
        checksums.problems(checkpoint)


@pytest.mark.parametrize(
    "content", ["[" * 10_000, '{"shape": [1000000000, 9], "chunks": [1, 1], "compressor": null}']
)
def test_metadata_that_no_array_has_is_named(content, checkpoint):
    (checkpoint / A / ".zarray").write_text(content)
    (found,) = checksums.problems(checkpoint)
    assert found.startswith(f"{A}/.zarray is damaged")


@pytest.fixture
def hosts(monkeypatch):
    """Says which of how many hosts this is."""

    def say(host, count):
        monkeypatch.setattr(checkpoints.jax, "process_index", lambda: host)
        monkeypatch.setattr(checkpoints.jax, "process_count", lambda: count)

    return say


@pytest.fixture
def writer(monkeypatch):
    """A writer of its own, which is waited for by `finish`."""
    made = []
    monkeypatch.setattr(checkpoints, "_made", made)
    yield lambda: made.pop().finish()
    for one in made:
        one.finish()


def test_each_host_writes_its_part_when_the_checkpoint_is_whole(checkpoint, hosts, writer):
    unfinished = checkpoint.with_name(f"{checkpoint.name}.orbax-checkpoint-tmp-17")
    checkpoint.rename(unfinished)
    for host in range(3):
        hosts(host, 3)
        checkpoints.is_saved(unfinished)
        if host == 0:
            assert checksums.read(unfinished) is None
            (unfinished / A / "9.9").write_bytes(b"the last chunk")
            unfinished.rename(checkpoint)
        writer()
        missing = tuple((part, 3) for part in range(host + 1, 3))
        assert checksums.read(checkpoint).missing == missing
    found = checksums.read(checkpoint)
    assert not found.missing and not found.later
    assert found.files[f"{A}/9.9"][0] == 14
    each = [json.loads(path.read_text())["files"] for path in checkpoint.glob("checksums-*")]
    assert sum(map(len, each)) == len(found.files) and all(each)


def test_a_step_goes_before_the_checksums(checkpoint, writer, monkeypatch):
    """However nice the run itself is."""
    seen = []
    monkeypatch.setattr(
        checkpoints, "_write", lambda *arguments: seen.append(os.getpriority(os.PRIO_PROCESS, 0))
    )
    checkpoints.is_saved(checkpoint)
    writer()
    own = os.getpriority(os.PRIO_PROCESS, 0)
    assert seen == [min(own + 10, 19)]


def test_one_that_never_becomes_whole_is_given_up(tmp_path, writer):
    checkpoints.is_saved(tmp_path / "checkpoints" / "checkpoint_00000004.orbax-checkpoint-tmp-1")
    writer()
    assert not (tmp_path / "checkpoints").exists()


def test_what_a_killed_run_left_undone_is_done_later(checkpoint, hosts, writer, tmp_path):
    checksums.write(checkpoint, 1, 4)
    for host in range(2):  # the next run has two hosts
        hosts(host, 2)
        checkpoints.complete(tmp_path / "job")
        writer()
    found = checksums.read(checkpoint)
    assert not found.missing and found.later
    assert checksums.problems(checkpoint, contents=True) == []


def test_a_receipt_that_is_missing_keeps_nobody_from_going_on(checkpoint):
    checksums.write(checkpoint)
    (checkpoint / lineage.FILE).unlink()
    checkpoints.check(checkpoint)
    (checkpoint / "train_input" / "process_0").unlink()
    with pytest.raises(checksums.DamagedCheckpointError, match="train_input/process_0 is missing"):
        checkpoints.check(checkpoint)
    checkpoints.check(checkpoint, checkpoints.WEIGHTS)
    checkpoints.check(None)  # there is none yet


def test_hosts_look_at_their_shares_and_all_are_told(checkpoint, hosts, monkeypatch):
    checksums.write(checkpoint)
    (checkpoint / A / "0.0").unlink()
    owner, said = checksums.part_of(f"{A}/0.0", 3), {}
    for host in (owner, *({0, 1, 2} - {owner})):
        hosts(host, 3)
        sent = []

        def gathered(own, sent=sent):
            sent.append(int(own))
            return np.array([host == owner for host in range(3)], np.int32)

        monkeypatch.setattr(checkpoints.multihost_utils, "process_allgather", gathered)
        with pytest.raises(checksums.DamagedCheckpointError) as caught:
            checkpoints.check(checkpoint)
        assert sent == [host == owner]
        said[host] = str(caught.value)
    assert f"{A}/0.0 is missing" in said.pop(owner)
    assert all(f"host {owner} found what is wrong" in line for line in said.values())


def test_a_run_that_ends_at_once_has_written_them(checkpoint):
    """Python waits for the threads that save, and then for the checksums."""
    unfinished = checkpoint.with_name(f"{checkpoint.name}.orbax-checkpoint-tmp-17")
    checkpoint.rename(unfinished)
    code = f"""
        import threading, time
        from pathlib import Path
        from codegen_pax.runs import checkpoints
        checkpoints.is_saved({str(unfinished)!r})
        def save():
            time.sleep(0.3)
            Path({str(unfinished)!r}).rename({str(checkpoint)!r})
        threading.Thread(target=save).start()
    """
    code = textwrap.dedent(code)
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ})
    assert not checksums.read(checkpoint).missing


@pytest.fixture
def bucket(tmp_path, monkeypatch):
    """What epath asks TensorFlow to do with a bucket is done with a folder."""

    def here(path):
        return str(path).replace("gs://bucket", str(tmp_path))

    for name in ("exists", "isdir", "listdir", "stat", "remove", "makedirs", "rename"):
        function = getattr(tf.io.gfile, name)

        def call(*paths, function=function, **more):
            return function(*[here(path) for path in paths if isinstance(path, str)], **more)

        monkeypatch.setattr(tf.io.gfile, name, call)

    class File(tf.io.gfile.GFile):
        def __init__(self, path, *arguments):
            super().__init__(here(path), *arguments)

    monkeypatch.setattr(tf.io.gfile, "GFile", File)
    return epath.Path("gs://bucket/job/checkpoints/checkpoint_00000003")


def test_in_a_bucket_a_checkpoint_is_whole_when_it_says_so(checkpoint, bucket, writer):
    checkpoints.is_saved(bucket)
    assert checksums.read(checkpoint) is None
    (checkpoint / lineage.COMMITTED).write_text("whole")
    writer()
    assert not checksums.read(bucket).missing
    assert checksums.problems(bucket, contents=True) == []
    flip(checkpoint / A / "0.0")
    (checkpoint / M / "0.0").unlink()
    assert checksums.problems(bucket, contents=True) == [
        f"{A}/0.0 has other bytes than were saved: its checksum does not fit",
        f"{M}/0.0 is missing",
    ]
