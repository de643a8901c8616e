"""A folder is there whole or not at all, and what was begun is gone on with."""

import pytest

from codegen_pax.weights import workspace
from codegen_pax.weights.workspace import Workspace


def test_a_folder_gets_its_name_when_all_of_it_is_there(tmp_path):
    output = tmp_path / "deep" / "output"
    with Workspace(output, {"of": 1}) as space:
        (space.folder / "sub").mkdir()
        (space.folder / "sub" / "file").write_text("whole")
        (space.folder / "sub" / "0.0.__lock").touch()
        assert not output.exists()
        space.finish()
    assert [path.relative_to(output).as_posix() for path in output.rglob("*")] == [
        "sub",
        "sub/file",
    ]
    assert [path.name for path in output.parent.iterdir()] == ["output"]


def test_an_empty_folder_may_be_there(tmp_path):
    with Workspace(tmp_path, {}) as space:
        (space.folder / "file").touch()
        space.finish()
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("make", ["file", "folder"])
def test_what_is_there_is_kept(make, tmp_path):
    output = tmp_path / "output"
    if make == "file":
        output.write_text("mine")
    else:
        output.mkdir()
        (output / "mine").touch()
    with pytest.raises(FileExistsError, match="output is there already; wanted a new folder"):
        Workspace(output, {})
    assert [path.name for path in tmp_path.iterdir()] == ["output"]


def begin(output, *pieces, purpose=None):
    with Workspace(output, purpose or {"of": 1}) as space:
        done = space.done
        for piece in pieces:
            (space.folder / piece).touch()
            space.mark(piece)
    return done


def test_what_is_done_is_known_again(tmp_path):
    output = tmp_path / "output"
    assert begin(output, "a", "b") == set()
    assert begin(output, "c") == {"a", "b"}
    assert begin(output) == {"a", "b", "c"}


def test_another_purpose_begins_again(tmp_path):
    output = tmp_path / "output"
    begin(output, "a")
    (tmp_path / "output.unfinished" / "sub").mkdir()
    assert begin(output, "b", purpose={"of": 2}) == set()
    assert {path.name for path in (tmp_path / "output.unfinished").iterdir()} == {"b", "journal"}
    assert begin(output, purpose={"of": 2}) == {"b"}


@pytest.mark.parametrize("text", ["", "{", '{"for": {"of": 0}, "format": 1}\na\n'])
def test_a_journal_of_nothing_that_is_known_begins_again(text, tmp_path):
    (tmp_path / "output.unfinished").mkdir()
    (tmp_path / "output.unfinished" / "journal").write_text(text)
    assert begin(tmp_path / "output", "a") == set()
    assert begin(tmp_path / "output") == {"a"}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("precious", "mine\n"),
        ("journal", "mine\n"),
        ("journal", '{"mine": 1}'),
        ("journal", "\xff"),
    ],
)
def test_a_folder_that_is_none_of_ours_is_kept(name, text, tmp_path):
    folder = tmp_path / "output.unfinished"
    folder.mkdir()
    (folder / name).write_text(text, encoding="latin-1")
    with pytest.raises(FileExistsError, match="remove"):
        Workspace(tmp_path / "output", {})
    assert (folder / name).read_text(encoding="latin-1") == text
    assert [path.name for path in folder.iterdir()] == [name]


def test_nothing_is_left_where_nothing_is_done(tmp_path):
    begin(tmp_path / "output")
    assert not list(tmp_path.iterdir())


def test_what_was_begun_before_the_machine_started_is_begun_again(tmp_path, monkeypatch):
    """What had not reached the disk is gone then, and the journal does not know."""
    begin(tmp_path / "output", "a")
    (tmp_path / "boot").write_text("another")
    monkeypatch.setattr(workspace, "_BOOT", tmp_path / "boot")
    assert begin(tmp_path / "output", "b") == set()


def test_a_line_that_was_being_written_is_not_done(tmp_path):
    output = tmp_path / "output"
    begin(output, "a", "b")
    journal = tmp_path / "output.unfinished" / "journal"
    journal.write_text(journal.read_text()[:-1])
    assert begin(output) == {"a"}


def test_two_at_once_are_refused(tmp_path):
    output = tmp_path / "output"
    with Workspace(output, {"of": 1}) as space:
        space.mark("a")
        with pytest.raises(BlockingIOError, match="another process is writing"):
            Workspace(output, {"of": 2})
    assert begin(output) == {"a"}


@pytest.mark.parametrize("ended", ["nothing done", "finished"])
def test_a_folder_that_ended_while_it_was_waited_for_is_not_taken_up(ended, tmp_path, monkeypatch):
    """Its journal was opened before the other process let go of it, and is nowhere any more."""
    output = tmp_path / "output"
    first = Workspace(output, {"of": 1})
    lock = workspace.fcntl.flock

    def ending(journal, how):
        monkeypatch.setattr(workspace.fcntl, "flock", lock)
        if ended == "finished":
            (first.folder / "whole").touch()
            first.finish()
        first.close()
        lock(journal, how)

    monkeypatch.setattr(workspace.fcntl, "flock", ending)
    if ended == "finished":
        with pytest.raises(FileExistsError, match="is there already"):
            Workspace(output, {"of": 2})
        assert [path.name for path in tmp_path.iterdir()] == ["output"]
        return
    with Workspace(output, {"of": 2}) as space:
        space.mark("a")
        with pytest.raises(BlockingIOError, match="another process is writing"):
            Workspace(output, {"of": 2})
    assert begin(output, purpose={"of": 2}) == {"a"}


def test_another_format_of_the_journal_begins_again(tmp_path, monkeypatch):
    purpose = {"format": 1, "since": "ever"}  # of what is written, and for nothing of the journal's
    begin(tmp_path / "output", "a", purpose=purpose)
    assert begin(tmp_path / "output", purpose=purpose) == {"a"}
    monkeypatch.setattr(workspace, "_FORMAT", workspace._FORMAT + 1)
    assert begin(tmp_path / "output", "b", purpose=purpose) == set()


def test_room_is_wanted_for_what_is_not_there_yet(tmp_path, monkeypatch):
    usage = workspace.shutil.disk_usage(tmp_path)._replace(free=50_000)
    monkeypatch.setattr(workspace.shutil, "disk_usage", lambda path: usage)
    output = tmp_path / "not" / "there"
    workspace.check_room(output, 50_000)
    with pytest.raises(OSError, match=r"no room for .*there: 0\.00 GB are wanted, 0\.00 GB are"):
        workspace.check_room(output, 90_000)
    with Workspace(output, {}) as space:
        space.mark("file")
        (space.folder / "file").write_bytes(b"x" * 81_920)
        with open(space.folder / "sparse", "wb") as file:
            file.truncate(10**9)
    workspace.check_room(output, 90_000)
