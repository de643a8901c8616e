"""Checksums of checkpoints: what they are, and what they find."""

import re
from pathlib import Path

import numpy as np
import pytest
from etils import epath

from codegen_pax.runs import checkpoints, checksums, fingerprints
from codegen_pax.runs.checkpoint_arrays import Variables, read_variables
from tests.runs import small_jobs

A = "state/mdl_vars.params.lm.a"
M = f"state/{small_jobs.MOMENT}"


@pytest.fixture
def checkpoint(tmp_path):
    (checkpoint,) = small_jobs.write_job(tmp_path / "job", [3])
    return Path(checkpoint)


def test_checksums_are_of_every_file(checkpoint):
    # The check value of CRC-32C (RFC 3720, B.4): 32 bytes of zeros, and of ones.
    for content, crc in ((bytes(32), 0x8A9136AA), (b"\xff" * 32, 0x62A8AB43)):
        (checkpoint / "zeros").write_bytes(content)
        assert checksums.checksum(epath.Path(checkpoint / "zeros")) == (32, crc)
    checksums.write(checkpoint)
    saved = checksums.read(checkpoint)
    there = [path for path in checkpoint.rglob("*") if path.is_file()]
    names = {path.relative_to(checkpoint).as_posix(): path.stat().st_size for path in there}
    del names["checksums-00000-of-00001.json"]
    assert {name: size for name, (size, _) in saved.files.items()} == names
    assert {f"{A}/{chunk}" for chunk in ("0.0", "0.1", "1.0", "1.1", ".zarray")} <= set(names)
    assert not saved.missing and not saved.later
    assert checksums.find_problems(checkpoint, contents=True) == []


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
@pytest.mark.parametrize(("damage", "name", "message", "shows"), DAMAGES.values(), ids=DAMAGES)
def test_what_is_damaged_is_named(known, damage, name, message, shows, checkpoint):
    if known:
        checksums.write(checkpoint)
    damage(checkpoint / name)
    problems = checksums.find_problems(checkpoint, contents=True)
    if not known and not shows:  # its metadata does not tell
        assert problems == []
        return
    assert len(problems) == 1, problems
    with pytest.raises(checksums.DamagedCheckpointError) as caught:
        checksums.check(checkpoint, contents=True)
    assert re.match(f"{checkpoint} is damaged: {name} {message}", str(caught.value))
    if not name.startswith("state/mdl_vars."):
        read_variables(checkpoint)  # needs the weights alone
        return
    readers = [read_variables]
    readers += [Variables] if "bytes than" not in message else []  # which looks at sizes
    readers += (
        [fingerprints.fingerprint] if "missing" not in message else []
    )  # which reads what is there
    for reader in readers:
        with pytest.raises(checksums.DamagedCheckpointError, match=name):
            reader(checkpoint)


def test_a_whole_array_or_all_of_them_may_be_missing(checkpoint):
    checksums.write(checkpoint)
    for path in (checkpoint / A).iterdir():
        path.unlink()
    (checkpoint / A).rmdir()
    assert f"{A}/0.0 is missing" in checksums.find_problems(checkpoint)
    (checkpoint / "state").rename(checkpoint / "elsewhere")
    assert "state is missing" in checksums.find_problems(checkpoint)


def test_zeros_of_an_import_have_no_chunks_and_those_of_a_run_have(tmp_path):
    compressed = small_jobs.write_checkpoint(
        tmp_path / "run", **{A[6:]: np.zeros((4, 6), np.float32)}
    )
    assert (compressed / A / "1.1").exists()  # so one that is not there was lost
    plain = small_jobs.write_checkpoint(tmp_path / "import", compressed=False)
    for path in (plain / M).glob("[0-9]*"):
        path.unlink()
    assert checksums.find_problems(plain) == []
    (plain / A / "0.1").unlink()
    assert checksums.find_problems(plain) == [f"{A}/0.1 is missing"]
    (plain / A / "0.1").write_bytes(b"1")
    checksums.write(plain)  # from here on all is known
    (plain / A / "0.1").unlink()
    assert checksums.find_problems(plain) == [f"{A}/0.1 is missing"]


BROKEN = ["", "{", "[]", "[" * 10_000, '{"format": 7}', '{"format": 1, "files": 3}']


@pytest.mark.parametrize("content", BROKEN, ids=range(len(BROKEN)))
def test_checksums_that_are_damaged_are_named(content, checkpoint):
    checksums.write(checkpoint)
    path = checkpoint / "checksums-00000-of-00001.json"
    path.write_text(content)
    with pytest.raises(checksums.DamagedCheckpointError, match=str(path)):
        checksums.find_problems(checkpoint)


@pytest.mark.parametrize(
    "content", ["[" * 10_000, '{"shape": [1000000000, 9], "chunks": [1, 1], "compressor": null}']
)
def test_metadata_that_no_array_has_is_named(content, checkpoint):
    (checkpoint / A / ".zarray").write_text(content)
    (problem,) = checksums.find_problems(checkpoint)
    assert problem.startswith(f"{A}/.zarray is damaged")


def test_checkpoints_in_object_storage_are_checked(checkpoint, bucket):
    checksums.write(f"{bucket}/job/checkpoints/{checkpoint.name}")
    url = checkpoints.path(f"{bucket}/job", 3)
    assert checksums.find_problems(url, contents=True) == []
    flip(checkpoint / A / "0.0")
    (checkpoint / M / "0.0").unlink()
    assert checksums.find_problems(url, contents=True) == [
        f"{A}/0.0 has other bytes than were saved: its checksum differs",
        f"{M}/0.0 is missing",
    ]


def test_a_checkpoint_without_weights_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no weights"):
        read_variables(tmp_path)
