"""A manifest that anybody may have written: read with care, and of files of its corpus alone."""

import json
import os

import pytest
from etils import epath

from codegen_pax.data.format import manifest
from codegen_pax.data.format.manifest import Manifest, Shard

SHARD = Shard("python/train-00000-of-00001.tfrecord", 3, "ab" * 32)
CODE = {"sha256": "cd" * 32, "commit": "ef" * 20, "dirty": False}


@pytest.fixture
def folder(tmp_path):
    """A corpus of one shard."""
    made = Manifest("mine", "codegen", 16, False, {"python": {"train": (SHARD,)}}, code=CODE)
    made.save(epath.Path(tmp_path))
    return epath.Path(tmp_path)


def changed(folder, **fields):
    path = folder / manifest.FILE
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def test_what_is_saved_is_loaded_and_says_which_code_it_was(folder):
    actual = manifest.load(folder)
    assert actual.shards("train", "python") == (SHARD,) and actual.code == CODE
    before = actual.fingerprint("train", "python")
    changed(folder, code={"sha256": "00" * 32}, of_a_later_version=1)
    actual = manifest.load(folder)
    # Rows that another version has made are the same rows.
    assert actual.fingerprint("train", "python") == before and actual.code["sha256"] == "00" * 32


def test_a_manifest_of_an_older_version_says_nothing_of_the_code(folder):
    path = folder / manifest.FILE
    message = json.loads(path.read_text())
    del message["code"]
    path.write_text(json.dumps(message))
    assert manifest.load(folder).code == {}


def shard(**changes):
    message = {"name": SHARD.name, "rows": 3, "sha256": "ab"} | changes
    return {"parts": {"python": {"train": [message]}}}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (shard(name="../other/train-00000-of-00001.tfrecord"), "expected a file of the corpus"),
        (shard(name="/etc/passwd"), "a shard is '/etc/passwd' of 3 rows; expected a file of the"),
        (shard(name="python/../../x"), "expected a file of the corpus"),
        (shard(rows=-1), "of -1 rows; expected a file of the corpus"),
        (shard(rows=True), "rows' is True; expected int"),
        (shard(rows="3"), "its 'parts.python.train[0].rows' is '3'; expected int"),
        ({"parts": []}, "its 'parts' is []; expected dict"),
        ({"row_length": 0}, "its 'row_length' is 0; expected at least 1"),
        ({"row_length": 2.5}, "its 'row_length' is 2.5; expected int"),
        ({"answers": 1}, "its 'answers' is 1; expected bool"),
        ({"counts": {"documents": {"python": 7}}}, "'counts.documents.python' is 7; expected dict"),
        ({"format": "\x1b[2J"}, "has format '\\x1b[2J'; expected 1"),
    ],
)
def test_what_it_should_not_say_is_told_in_one_line(fields, message, folder):
    changed(folder, **fields)
    with pytest.raises(manifest.ManifestError) as error:
        manifest.load(folder)
    assert message in str(error.value) and str(folder / manifest.FILE) in str(error.value)


def test_a_pipe_is_no_manifest(folder):
    path = folder / manifest.FILE
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(manifest.ManifestError, match="is no regular file"):
        manifest.load(folder)
