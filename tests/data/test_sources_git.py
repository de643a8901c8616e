"""Which files git tracks, compared with git itself, and a hostile repository."""

import os
import shutil

import pytest

from codegen_pax.data.sources import git, tree
from tests.data.git_repositories import files_of, files_of_git, run_git


def write(root, files):
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


@pytest.fixture
def shop(tmp_path):
    """A repository with tracked files in an ignored folder."""
    files = {f"out/deep/{n}.py": "x = 1\n" for n in range(40)} | {"a.py": "a = 1\n"}
    write(tmp_path / "shop", files | {"out/log.py": "", ".gitignore": "out/\n"})
    run_git(tmp_path / "shop", "init", "-q")
    run_git(tmp_path / "shop", "add", "-f", "out/deep", "a.py", ".gitignore")
    run_git(tmp_path / "shop", "commit", "-qm", "first")
    return tmp_path / "shop"


TRACKED = {b"a.py", *(b"out/deep/%d.py" % n for n in range(40))}


@pytest.mark.parametrize("form", ["2", "3", "4", "split"])
def test_tracked_files_of_an_ignored_folder_are_kept(shop, form):
    if form == "split":
        run_git(shop, "update-index", "--split-index")
        run_git(shop, "rm", "-q", "--cached", "out/deep/7.py", "out/deep/30.py")
        write(shop, {"out/new.py": ""})
        run_git(shop, "add", "-f", "out/new.py")
        (shop / "out/deep/5.py").write_text("changed = 1\n")
        run_git(shop, "add", "-f", "out/deep/5.py")
        assert list((shop / ".git").glob("sharedindex.*"))
        expected = TRACKED - {b"out/deep/7.py", b"out/deep/30.py"} | {b"out/new.py"}
    else:
        write(shop, {"out/later.py": ""})
        run_git(shop, "add", "-f", "-N", "out/later.py")  # such an entry needs version 3
        run_git(shop, "update-index", "--index-version", form)
        assert (shop / ".git/index").read_bytes()[7] == max(3, int(form))
        expected = TRACKED | {b"out/later.py"}
    assert files_of(shop) == files_of_git(shop) == expected
    (shop / ".git/index").write_bytes(b"DIRC\0\0\0\2\0\0\xff\xffabc")  # damaged: as if not there
    assert files_of(shop) == {b"a.py"}


def test_work_trees_and_submodules_know_where_git_keeps_their_index(shop, tmp_path):
    run_git(shop, "worktree", "add", "-q", str(tmp_path / "second"))
    (shop / ".git/info/exclude").write_text("private.py\n")
    write(tmp_path / "second", {"private.py": "", "out/b.py": ""})
    assert files_of(tmp_path / "second") == files_of_git(tmp_path / "second") == TRACKED

    outer = tmp_path / "outer"
    write(outer, {".gitignore": "*.gen.py\nlib\n", "x.py": "", "lib/loose.py": ""})
    run_git(outer, "init", "-q")
    add = ("-c", "protocol.file.allow=always", "submodule", "add", "-q", "-f", str(shop))
    run_git(outer, *add, "lib/shop")
    write(outer, {"lib/shop/a.gen.py": ""})  # the rules of the repository around it do not count
    inside = {b"lib/shop/" + name for name in files_of_git(outer / "lib/shop")}
    assert b"lib/shop/a.gen.py" in inside and len(inside) == len(TRACKED) + 1
    assert files_of(outer) == {b"x.py"} | inside


def test_each_repository_has_its_own_rules(tmp_path):
    write(
        tmp_path / "repositories",
        {
            "one/.git/HEAD": "",
            "one/.gitignore": "*.gen.py\nbuild/\n",
            "one/.git/info/exclude": "private.py\n",
            "one/private.py": "",
            "one/src/a.py": "",
            "one/src/a.gen.py": "",
            "one/vendor/theirs/.git/HEAD": "",
            "one/vendor/theirs/b.py": "",
            "one/build/fetched/.git/HEAD": "",
            "one/build/fetched/b.py": "",
            "one/two/.git": "gitdir: nowhere\n",
            "one/two/b.gen.py": "",
            "one/two/build/private.py": "",
            "vendor/.git/HEAD": "",
            "vendor/c.py": "",
            "dist/.git/HEAD": "",
            "dist/dist/c.py": "",
            "dist/node_modules/c.js": "",
            "dist/c.py": "",
        },
    )
    actual = tree.list_files(str(tmp_path / "repositories"))
    assert [(file.repository, file.path) for file in actual.files] == [
        ("dist", "dist/c.py"),
        ("one", "one/src/a.py"),
        ("one/two", "one/two/b.gen.py"),
        ("one/two", "one/two/build/private.py"),
        ("vendor", "vendor/c.py"),
    ]
    assert actual.left_out == {"git_ignored": 3, "hidden": 1, "vendored": 3}
    assert files_of(tmp_path / "repositories/vendor") == {b"c.py"}
    for part in ("one/src", "one/build"):  # what is asked for is not left out
        assert files_of(tmp_path / "repositories" / part)
    (only,) = tree.list_files(str(tmp_path / "repositories/one/src")).files
    assert only == tree.TreeFile("a.py", "..", 0)


def test_a_hostile_repository_runs_nothing_and_hangs_nobody(shop, tmp_path, monkeypatch):
    mark = tmp_path / "executed"
    program = tmp_path / "bin" / "git"
    write(program.parent, {"git": f"#!/bin/sh\ntouch {mark}\n"})
    program.chmod(0o755)
    for key in (
        "core.fsmonitor",
        "core.hooksPath",
        "core.sshCommand",
        "core.pager",
        "core.editor",
        "core.gitProxy",
        "credential.helper",
        "filter.x.clean",
        "filter.x.smudge",
        "filter.x.process",
        "diff.external",
        "alias.ls-files",
    ):
        run_git(shop, "config", key, f"!{program}" if key.startswith("alias") else str(program))
    run_git(shop, "config", "core.worktree", "/etc")
    os.mkfifo(tmp_path / "pipe")
    for key in ("core.excludesFile", "core.attributesFile", "include.path"):
        with open(shop / ".git/config", "a") as file:
            section, _, name = key.partition(".")
            file.write(f"[{section}]\n\t{name} = {tmp_path / 'pipe'}\n")
    write(shop, {".gitattributes": "* filter=x diff=x\n"})
    (shop / ".git/hooks/post-index-change").symlink_to(program)
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")
    assert files_of(shop) == TRACKED
    monkeypatch.setenv("PATH", "")  # a machine without git
    assert files_of(shop) == TRACKED
    for name in (".gitignore", ".git/index", ".git/info/exclude"):
        (shop / name).unlink()
        os.mkfifo(shop / name)
    assert files_of(shop) == TRACKED | {b"out/log.py"}
    shutil.rmtree(shop / ".git")
    os.mkfifo(shop / ".git")
    assert files_of(shop) == TRACKED | {b"out/log.py"}
    for named in ("gitdir: " + "x" * 5_000, "gitdir: \0", "gitdir: .", "gitdir: /dev/zero", ""):
        (shop / ".git").unlink()
        (shop / ".git").write_text(named)
        assert files_of(shop) == TRACKED | {b"out/log.py"}
    assert not mark.exists()


def test_a_repository_that_is_none_knows_nothing(tmp_path):
    assert git.git_dir(str(tmp_path)) is None
    assert git.read_repository(str(tmp_path)) == git.Repository("")
