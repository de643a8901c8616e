"""The hash of the weights that receipts name: of names, sizes and contents, and nothing else."""

import hashlib
import os
import shutil
from pathlib import Path

import pytest

from codegen_pax.errors import InvalidValueError
from codegen_pax.runs import checkpoints, fingerprints

ARRAYS = {
    "mdl_vars.params.bias": {".zarray": b"{}", "0": b"\0" * 8},
    "mdl_vars.params.weight": {".zarray": b"[]", "0.0": b"one", "0.1": b"", "1/0": b"deep"},
}


def write_checkpoint(job, step=20, arrays=ARRAYS):
    """A checkpoint of stored arrays, with an optimizer's beside them."""
    checkpoint = Path(checkpoints.path(job, step))
    for name, files in {**arrays, "opt_states.m": {"0": b"moment"}}.items():
        for file, content in files.items():
            path = checkpoint / "state" / name / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    return checkpoint


def test_the_fingerprint_is_of_names_sizes_and_contents(tmp_path):
    """By hand: a line for each file below state/mdl_vars.*, in order."""
    checkpoint = write_checkpoint(tmp_path / "job")
    lines = sorted(
        f"{name}/{file} {len(content)} {hashlib.sha256(content).hexdigest()}\n"
        for name, files in ARRAYS.items()
        for file, content in files.items()
    )
    expected = hashlib.sha256("".join(lines).encode()).hexdigest()
    assert fingerprints.fingerprint(checkpoint) == {"sha256": expected, "bytes": 19}
    # Neither the optimizer nor a lock that tensorstore has left is of the weights.
    state = checkpoint / "state"
    (state / "opt_states.m" / "0").write_bytes(b"another")
    (state / "mdl_vars.params.bias" / "0.__lock").write_bytes(b"")
    assert fingerprints.fingerprint(checkpoint)["sha256"] == expected
    shutil.copytree(tmp_path / "job", tmp_path / "[else]where")
    elsewhere = checkpoints.path(tmp_path / "[else]where", 20)
    assert fingerprints.fingerprint(elsewhere)["sha256"] == expected


@pytest.mark.parametrize("change", ["content", "name", "split"])
def test_other_weights_have_another_fingerprint(change, tmp_path):
    before = fingerprints.fingerprint(write_checkpoint(tmp_path))["sha256"]
    array = checkpoints.path(tmp_path, 20) / "state" / "mdl_vars.params.bias"
    if change == "content":
        (array / "0").write_bytes(b"\0" * 7 + b"\1")
    elif change == "name":
        array.rename(array.with_name("mdl_vars.params.b"))
    else:
        (array / "0").write_bytes(b"\0" * 4)
        (array / "1").write_bytes(b"\0" * 4)
    assert fingerprints.fingerprint(array.parents[1])["sha256"] != before


def test_large_files_are_hashed_to_their_end(tmp_path):
    """They are read in blocks of 4 MiB."""
    content = os.urandom(9 << 20)
    (tmp_path / "large").write_bytes(content)
    (actual,) = fingerprints.hash_files([tmp_path / "large"])
    digest = hashlib.sha256(content).hexdigest()
    assert actual == {"name": "large", "bytes": 9 << 20, "sha256": digest}


def test_a_pipe_among_the_weights_is_not_waited_for(tmp_path):
    checkpoint = write_checkpoint(tmp_path)
    os.mkfifo(checkpoint / "state" / "mdl_vars.params.bias" / "1")
    with pytest.raises(InvalidValueError, match=r"bias/1 is not a regular file"):
        fingerprints.fingerprint(checkpoint)


def test_a_folder_without_weights_has_no_fingerprint(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"holds no weights: expected .* state/mdl_vars\."):
        fingerprints.fingerprint(write_checkpoint(tmp_path, arrays={}))


def test_object_storage_has_the_same_weights(bucket, tmp_path):
    expected = fingerprints.fingerprint(write_checkpoint(tmp_path))
    assert fingerprints.fingerprint(checkpoints.path(bucket, 20)) == expected
