"""Receipts: written atomically, read with care; and the hash of the weights that they name."""

import hashlib
import json
import os
import shutil
from pathlib import Path

import jax
import pytest

from codegen_pax import json_files
from codegen_pax.errors import InvalidValueError
from codegen_pax.runs import checkpoints, lineage

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


def training(parents, name="CodeGenNanoMono"):
    texts = {"class": f"codegen.{name}", "recipe": "paper", "mesh": "1x1x1", "mixture": "codegen"}
    numbers = {"format": 1, "steps": 180, "batch_tokens": 4096}
    rest = {"data": [], "parents": parents, "versions": {}}
    return {"kind": "training", "experiment": name, **texts, **numbers, **rest}


def pax(receipt, step=20):
    weights = {"job": "runs/parent", "step": step, "sha256": "ab" * 32, "bytes": 7}
    return {"kind": "pax", "experiment": "CodeGenNanoNL", **weights, "lineage": receipt}


def test_what_is_written_is_read_and_nothing_else_is_left(tmp_path):
    job = tmp_path / "new" / "job"
    assert lineage.read(job) is None
    for receipt in (training([]), training([pax(training([]))])):
        lineage.write(job, receipt)
        assert lineage.read(job) == receipt
    assert [path.name for path in job.iterdir()] == [lineage.FILE]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", ": expected JSON, found "),
        ("[]", "is a receipt of format None; expected 1"),
        ('{"format": 2}', "is a receipt of format 2; expected 1"),
        ("[" * 100_000, ": expected JSON, found "),
        ("[" * 700 + "]" * 700, "is nested too deeply; expected 650 levels"),
        (json.dumps(training([]) | {"steps": 10**400}), "is damaged: its 'steps' is 1000"),
        ('{"format": 1}', "is damaged: its 'kind' is missing"),
        (json.dumps(training([{"step": 3}])), r"is damaged: its 'parents\[0\].kind' is missing"),
        (json.dumps(training([]) | {"recipe": 3}), "is damaged: its 'recipe' is 3; expected str"),
        (
            json.dumps(training([]) | {"steps": True}),
            "is damaged: its 'steps' is True; expected int",
        ),
        (
            json.dumps(training([]) | {"data": [{"task": "x"}]}),
            r"is damaged: its 'data\[0\].corpus' is missing",
        ),
        (
            json.dumps(training([{"kind": "pax", "step": 1}])),
            r"is damaged: its 'parents\[0\].experiment' is missing",
        ),
        (
            json.dumps(training([{"kind": "hugging face", "directory": 7}])),
            r"is damaged: its 'parents\[0\].directory' is 7; expected str",
        ),
        (
            json.dumps(training([]) | {"resumed": [{"step": "x" * 99, "versions": {}}]}),
            r"is damaged: its 'resumed\[0\].step' is 'x{59}…; expected int",
        ),
        (
            json.dumps(training([]) | {"history": [{"step": 1, "changes": [[]]}]}),
            r"is damaged: its 'history\[0\].changes\[0\]' is \[\]; expected dict",
        ),
        (
            json.dumps(training([pax(training([]) | {"steps": "many"})])),
            "is damaged: its 'steps' is 'many'",
        ),
    ],
)
def test_another_file_is_refused(text, message, tmp_path):
    (tmp_path / lineage.FILE).write_text(text)
    with pytest.raises(ValueError, match=message) as error:
        lineage.read(tmp_path)
    assert str(tmp_path / lineage.FILE) in str(error.value)


def test_a_pipe_or_a_flood_is_no_lineage(tmp_path, monkeypatch):
    """A pipe would be waited for, for ever."""
    os.mkfifo(tmp_path / lineage.FILE)
    with pytest.raises(InvalidValueError, match="is no regular file"):
        lineage.read(tmp_path)
    (tmp_path / lineage.FILE).unlink()
    (tmp_path / lineage.FILE).write_text(json.dumps(training([])))
    monkeypatch.setattr(json_files, "MOST_BYTES", 100)
    with pytest.raises(InvalidValueError, match="too large; expected at most 100 bytes"):
        lineage.read(tmp_path)


def test_what_is_written_follows_no_link(tmp_path):
    (tmp_path / "mine").write_text("mine")
    job = tmp_path / "job"
    job.mkdir()
    (job / f"{lineage.FILE}.unfinished").symlink_to(tmp_path / "mine")
    (job / lineage.FILE).symlink_to(tmp_path / "mine")
    lineage.write(job, training([]))
    assert (tmp_path / "mine").read_text() == "mine"
    assert lineage.read(job) == training([]) and not (job / lineage.FILE).is_symlink()


def test_generations_are_counted(tmp_path):
    """As many as are written are read and followed back; more are refused, not a crash."""
    receipt = training([])
    for _ in range(199):
        receipt = training([pax(receipt)])
    lineage.write(tmp_path, receipt)
    chain = lineage.chain(lineage.read(tmp_path))
    assert len(chain) == 200 and chain[-1] == {"kind": "random weights"}
    lineage.write(tmp_path, training([pax(receipt)]))
    with pytest.raises(InvalidValueError, match="it has more than 200 generations of parents"):
        lineage.read(tmp_path)


def test_an_older_lineage_has_a_history_too():
    """Then only other software was noted: `versions` are those that the job began with."""
    receipt = training([]) | {
        "versions": {"jax": "1", "numpy": "1"},
        "resumed": [
            {"step": 4, "versions": {"jax": "2", "numpy": "1"}},
            {"step": 6, "versions": {"jax": "2", "orbax": "9"}},
        ],
    }
    assert lineage.history(receipt) == [
        {"step": 4, "changes": [{"name": "jax", "old": "1", "new": "2"}]},
        {
            "step": 6,
            "changes": [
                {"name": "numpy", "old": "1", "new": None},
                {"name": "orbax", "old": None, "new": "9"},
            ],
        },
    ]
    assert lineage.last_versions(receipt) == {"jax": "2", "orbax": "9"}


def test_an_older_lineage_goes_by_the_name_of_its_class_too():
    receipt = training([]) | {"class": "mine.Short"}
    assert lineage.experiment_names(receipt) == {"CodeGenNanoMono", "Short"}
    assert lineage.experiment_names(receipt | {"declared": {}}) == {"CodeGenNanoMono"}


def test_the_fingerprint_is_of_names_sizes_and_contents(tmp_path):
    """By hand: a line for each file below state/mdl_vars.*, in order."""
    checkpoint = write_checkpoint(tmp_path / "job")
    lines = sorted(
        f"{name}/{file} {len(content)} {hashlib.sha256(content).hexdigest()}\n"
        for name, files in ARRAYS.items()
        for file, content in files.items()
    )
    expected = hashlib.sha256("".join(lines).encode()).hexdigest()
    assert lineage.fingerprint(checkpoint) == {"sha256": expected, "bytes": 19}
    # Neither the optimizer nor a lock that tensorstore has left is of the weights.
    state = checkpoint / "state"
    (state / "opt_states.m" / "0").write_bytes(b"another")
    (state / "mdl_vars.params.bias" / "0.__lock").write_bytes(b"")
    assert lineage.fingerprint(checkpoint)["sha256"] == expected
    shutil.copytree(tmp_path / "job", tmp_path / "[else]where")
    elsewhere = checkpoints.path(tmp_path / "[else]where", 20)
    assert lineage.fingerprint(elsewhere)["sha256"] == expected


@pytest.mark.parametrize("change", ["content", "name", "split"])
def test_other_weights_have_another_fingerprint(change, tmp_path):
    before = lineage.fingerprint(write_checkpoint(tmp_path))["sha256"]
    array = checkpoints.path(tmp_path, 20) / "state" / "mdl_vars.params.bias"
    if change == "content":
        (array / "0").write_bytes(b"\0" * 7 + b"\1")
    elif change == "name":
        array.rename(array.with_name("mdl_vars.params.b"))
    else:
        (array / "0").write_bytes(b"\0" * 4)
        (array / "1").write_bytes(b"\0" * 4)
    assert lineage.fingerprint(array.parents[1])["sha256"] != before


def test_large_files_are_hashed_to_their_end(tmp_path):
    """They are read in blocks of 4 MiB."""
    content = os.urandom(9 << 20)
    (tmp_path / "large").write_bytes(content)
    (actual,) = lineage.hash_files([tmp_path / "large"])
    digest = hashlib.sha256(content).hexdigest()
    assert actual == {"name": "large", "bytes": 9 << 20, "sha256": digest}


def test_a_pipe_among_the_weights_is_not_waited_for(tmp_path):
    checkpoint = write_checkpoint(tmp_path)
    os.mkfifo(checkpoint / "state" / "mdl_vars.params.bias" / "1")
    with pytest.raises(InvalidValueError, match=r"bias/1 is not a regular file"):
        lineage.fingerprint(checkpoint)


def test_a_folder_without_weights_has_no_fingerprint(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"holds no weights: expected .* state/mdl_vars\."):
        lineage.fingerprint(write_checkpoint(tmp_path, arrays={}))


def test_a_checkpoint_takes_its_jobs_lineage_along(tmp_path):
    unfinished = tmp_path / "checkpoints" / "checkpoint_00000004.orbax-checkpoint-tmp-17"
    unfinished.mkdir(parents=True)
    lineage.copy_to(unfinished)
    assert not list(unfinished.iterdir())  # the job has none
    lineage.write(tmp_path, training([]))
    lineage.copy_to(unfinished)
    assert lineage.read(unfinished) == training([])
    # An input that is saved elsewhere than in a checkpoint of a job leaves nothing.
    (tmp_path / "other" / "place").mkdir(parents=True)
    lineage.copy_to(tmp_path / "other" / "place")
    assert not list((tmp_path / "other" / "place").iterdir())


def test_object_storage_has_the_same_weights_and_receipts(bucket, tmp_path):
    checkpoint = write_checkpoint(tmp_path)
    assert lineage.fingerprint(checkpoints.path(bucket, 20)) == lineage.fingerprint(checkpoint)
    lineage.write(tmp_path, training([]))
    assert lineage.read(bucket) == training([])


def without(parent):
    return {key: value for key, value in parent.items() if key != "lineage"}


def test_the_chain_goes_back_to_its_root():
    files = [{"name": "pytorch_model.bin", "bytes": 3, "sha256": "cd" * 32}]
    imported = {"kind": "hugging face", "directory": "codegen-350M-nl", "files": files}
    roots = [
        (training([]), {"kind": "random weights"}),
        (None, {"kind": "unknown"}),
        (training([imported]), imported),
    ]
    for root, expected in roots:
        first = pax(root, step=10)
        second = pax(training([first]))
        actual = lineage.chain(json.loads(json.dumps(training([second]))))
        assert actual == [without(second), without(first), expected]
    assert lineage.chain(training([])) == [{"kind": "random weights"}]
    assert lineage.chain(training([imported])) == [imported]


def test_versions_of_what_is_installed_and_what_is_not(monkeypatch):
    actual = lineage.versions()
    assert actual["jax"] == jax.__version__
    assert set(actual) == {"python", *lineage.PACKAGES} and "not installed" not in actual.values()
    monkeypatch.setattr(lineage, "PACKAGES", ("no-such-package",))
    assert lineage.versions()["no-such-package"] == "not installed"
