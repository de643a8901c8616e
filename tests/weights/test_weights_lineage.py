"""`lineage.json`: written whole, read with care, and the weights that it names told apart."""

import hashlib
import json
import os
import shutil

import jax
import pytest
import tensorflow as tf

from codegen_pax import json_files
from codegen_pax.errors import InvalidValueError
from codegen_pax.runs import lineage

ARRAYS = {
    "mdl_vars.params.bias": {".zarray": b"{}", "0": b"\0" * 8},
    "mdl_vars.params.weight": {".zarray": b"[]", "0.0": b"one", "0.1": b"", "1/0": b"deep"},
}


def write_checkpoint(job, step=20, arrays=ARRAYS):
    """A checkpoint of stored arrays, with an optimizer's beside them."""
    checkpoint = job / "checkpoints" / f"checkpoint_{step:08d}"
    for name, files in {**arrays, "opt_states.m": {"0": b"moment"}}.items():
        for file, content in files.items():
            path = checkpoint / "state" / name / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    return checkpoint


def training(parents, name="CodeGenNanoMono"):
    said = {"class": f"codegen.{name}", "recipe": "paper", "mesh": "1x1x1", "mixture": "codegen"}
    numbers = {"format": 1, "steps": 180, "batch_tokens": 4096}
    of_it = {"data": [], "parents": parents, "versions": {}}
    return {"kind": "training", "experiment": name, **said, **numbers, **of_it}


def pax(document, step=20):
    said = {"job": "runs/parent", "step": step, "sha256": "ab" * 32, "bytes": 7}
    return {"kind": "pax", "experiment": "CodeGenNanoNL", **said, "lineage": document}


def test_what_is_written_is_read_and_nothing_else_is_left(tmp_path):
    job = tmp_path / "new" / "job"
    assert lineage.read(job) is None
    for document in (training([]), training([pax(training([]))])):
        lineage.write(job, document)
        assert lineage.read(job) == document
    assert [path.name for path in job.iterdir()] == [lineage.FILE]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", ": wanted JSON, found "),
        ("[]", "is a lineage of format None; wanted 1"),
        ('{"format": 2}', "is a lineage of format 2; wanted 1"),
        ("[" * 100_000, ": wanted JSON, found "),
        ("[" * 700 + "]" * 700, "is nested too deeply; wanted 650 levels"),
        (json.dumps(training([]) | {"steps": 10**400}), "is damaged: its 'steps' is 1000"),
        ('{"format": 1}', "is damaged: its 'kind' is missing"),
        (json.dumps(training([{"step": 3}])), r"is damaged: its 'parents\[0\].kind' is missing"),
        (json.dumps(training([]) | {"recipe": 3}), "is damaged: its 'recipe' is 3; wanted str"),
        (json.dumps(training([]) | {"steps": True}), "is damaged: its 'steps' is True; wanted int"),
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
            r"is damaged: its 'parents\[0\].directory' is 7; wanted str",
        ),
        (
            json.dumps(training([]) | {"resumed": [{"step": "x" * 99, "versions": {}}]}),
            r"is damaged: its 'resumed\[0\].step' is 'x{59}…; wanted int",
        ),
        (
            json.dumps(training([]) | {"history": [{"step": 1, "changes": [[]]}]}),
            r"is damaged: its 'history\[0\].changes\[0\]' is \[\]; wanted dict",
        ),
        (
            json.dumps(training([pax(training([]) | {"steps": "many"})])),
            "is damaged: its 'steps' is 'many'",
        ),
    ],
)
def test_another_file_is_refused(text, said, tmp_path):
    (tmp_path / lineage.FILE).write_text(text)
    with pytest.raises(ValueError, match=said) as error:
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
    with pytest.raises(InvalidValueError, match="too large; wanted at most 100 bytes"):
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
    document = training([])
    for _ in range(199):
        document = training([pax(document)])
    lineage.write(tmp_path, document)
    chain = lineage.chain(lineage.read(tmp_path))
    assert len(chain) == 200 and chain[-1] == {"kind": "random weights"}
    lineage.write(tmp_path, training([pax(document)]))
    with pytest.raises(InvalidValueError, match="it has more than 200 generations of parents"):
        lineage.read(tmp_path)


def test_an_older_lineage_has_a_history_too():
    """Then only other software was noted: `versions` are those that the job began with."""
    document = training([]) | {
        "versions": {"jax": "1", "numpy": "1"},
        "resumed": [
            {"step": 4, "versions": {"jax": "2", "numpy": "1"}},
            {"step": 6, "versions": {"jax": "2", "orbax": "9"}},
        ],
    }
    assert lineage.history(document) == [
        {"step": 4, "changes": [{"name": "jax", "old": "1", "new": "2"}]},
        {
            "step": 6,
            "changes": [
                {"name": "numpy", "old": "1", "new": None},
                {"name": "orbax", "old": None, "new": "9"},
            ],
        },
    ]
    assert lineage.last_versions(document) == {"jax": "2", "orbax": "9"}


def test_an_older_lineage_goes_by_the_name_of_its_class_too():
    document = training([]) | {"class": "mine.Short"}
    assert lineage.names(document) == {"CodeGenNanoMono", "Short"}
    assert lineage.names(document | {"declared": {}}) == {"CodeGenNanoMono"}


def test_the_fingerprint_is_of_names_sizes_and_contents(tmp_path):
    """By hand: a line for each file below state/mdl_vars.*, in order."""
    checkpoint = write_checkpoint(tmp_path / "job")
    lines = sorted(
        f"{name}/{file} {len(content)} {hashlib.sha256(content).hexdigest()}\n"
        for name, files in ARRAYS.items()
        for file, content in files.items()
    )
    wanted = hashlib.sha256("".join(lines).encode()).hexdigest()
    assert lineage.fingerprint(checkpoint) == {"sha256": wanted, "bytes": 19}
    # Neither the optimizer nor a lock that tensorstore has left is of the weights.
    state = checkpoint / "state"
    (state / "opt_states.m" / "0").write_bytes(b"another")
    (state / "mdl_vars.params.bias" / "0.__lock").write_bytes(b"")
    assert lineage.fingerprint(checkpoint)["sha256"] == wanted
    shutil.copytree(tmp_path / "job", tmp_path / "[else]where")
    elsewhere = lineage.checkpoint(tmp_path / "[else]where", 20)
    assert lineage.fingerprint(elsewhere)["sha256"] == wanted


@pytest.mark.parametrize("change", ["content", "name", "split"])
def test_other_weights_have_another_fingerprint(change, tmp_path):
    before = lineage.fingerprint(write_checkpoint(tmp_path))["sha256"]
    array = tmp_path / "checkpoints" / "checkpoint_00000020" / "state" / "mdl_vars.params.bias"
    if change == "content":
        (array / "0").write_bytes(b"\0" * 7 + b"\1")
    elif change == "name":
        array.rename(array.with_name("mdl_vars.params.b"))
    else:
        (array / "0").write_bytes(b"\0" * 4)
        (array / "1").write_bytes(b"\0" * 4)
    assert lineage.fingerprint(array.parents[1])["sha256"] != before


def test_large_files_are_hashed_whole(tmp_path, monkeypatch):
    checkpoint = write_checkpoint(tmp_path)
    wanted = lineage.fingerprint(checkpoint)
    monkeypatch.setattr(lineage, "_PIECE", 3)
    assert lineage.fingerprint(checkpoint) == wanted


def test_a_pipe_among_the_weights_is_not_waited_for(tmp_path):
    checkpoint = write_checkpoint(tmp_path)
    os.mkfifo(checkpoint / "state" / "mdl_vars.params.bias" / "1")
    with pytest.raises(InvalidValueError, match=r"bias/1 is no regular file"):
        lineage.fingerprint(checkpoint)


def test_a_folder_without_weights_has_no_fingerprint(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"holds no weights: wanted .* state/mdl_vars\."):
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


@pytest.mark.parametrize(
    ("there", "newest"),
    [
        (None, None),
        ([], None),
        (["checkpoint_00000004.orbax-checkpoint-tmp-17"], None),
        (["checkpoint_00000000"], 0),
        (["checkpoint_00000004", "checkpoint_123456789", "checkpoint_5.tmp", "notes"], 123456789),
    ],
)
def test_the_last_step_is_that_of_the_newest_whole_checkpoint(there, newest, tmp_path):
    for name in there or ():
        (tmp_path / "checkpoints" / name).mkdir(parents=True)
    if there is not None:
        (tmp_path / "checkpoints").mkdir(exist_ok=True)
    assert lineage.last_step(tmp_path) == newest
    steps = [lineage.step_of(tmp_path / "checkpoints" / name) for name in there or ()]
    assert max((step for step in steps if step is not None), default=None) == newest


@pytest.fixture
def bucket(tmp_path, monkeypatch):
    """`gs://bucket/job`: what epath asks TensorFlow to do with it is done with the folder."""

    def here(path):
        return path.replace("gs://bucket/job", str(tmp_path))

    class File(tf.io.gfile.GFile):
        def __init__(self, path, *arguments):
            super().__init__(here(path), *arguments)

    def glob(path, call=tf.io.gfile.glob):
        return [found.replace(str(tmp_path), "gs://bucket/job") for found in call(here(path))]

    for name in ("exists", "isdir", "listdir"):
        function = getattr(tf.io.gfile, name)
        monkeypatch.setattr(tf.io.gfile, name, lambda path, call=function: call(here(path)))
    monkeypatch.setattr(tf.io.gfile, "glob", glob)
    monkeypatch.setattr(tf.io.gfile, "GFile", File)
    return "gs://bucket/job"


def test_a_bucket_has_the_same_weights_and_whole_checkpoints_alone(bucket, tmp_path):
    for step in (20, 30):
        write_checkpoint(tmp_path, step)
    whole = tmp_path / "checkpoints" / "checkpoint_00000020"
    assert lineage.last_step(bucket) is None
    (whole / "commit_success.txt").write_text("done")
    assert lineage.last_step(bucket) == 20
    there = f"{bucket}/checkpoints/{whole.name}"
    assert lineage.fingerprint(there) == lineage.fingerprint(whole)
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
    for root, wanted in roots:
        first = pax(root, step=10)
        second = pax(training([first]))
        found = lineage.chain(json.loads(json.dumps(training([second]))))
        assert found == [without(second), without(first), wanted]
    assert lineage.chain(training([])) == [{"kind": "random weights"}]
    assert lineage.chain(training([imported])) == [imported]


def test_versions_of_what_is_installed_and_what_is_not(monkeypatch):
    found = lineage.versions()
    assert found["jax"] == jax.__version__
    assert set(found) == {"python", *lineage.PACKAGES} and "not installed" not in found.values()
    monkeypatch.setattr(lineage, "PACKAGES", ("no-such-package",))
    assert lineage.versions()["no-such-package"] == "not installed"
