"""Receipts: written atomically, read with care, and followed back to where weights began."""

import json
import os

import jax
import pytest

from codegen_pax import json_files
from codegen_pax.errors import InvalidValueError
from codegen_pax.runs import lineage


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


def test_object_storage_has_the_same_receipts(bucket, tmp_path):
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
