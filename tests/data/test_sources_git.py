"""Which files git ignores and tracks, compared with git itself, and a hostile repository."""

import os
import random
import shutil
import subprocess
import tempfile
import time

import pytest

from codegen_pax.data.sources import git, tree
from tests.data.random_trees import write_random_tree

TREES, REPOSITORIES = 2_000, 8


def run_git(top, *arguments, given=None):
    """What git prints, with no configuration but the repository's own."""
    done = subprocess.run(
        ["git", "-C", top, "-c", "user.name=a", "-c", "user.email=a@b", *arguments],
        env={
            "PATH": os.environ["PATH"],
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_LITERAL_PATHSPECS": "1",
        },
        input=given,
        capture_output=True,
        check=True,
    )
    return done.stdout


def files_of_git(top):
    """What git has and is there, in bytes; no `.gitignore`, since a tree has no hidden file."""
    listed = run_git(top, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    names = {name for name in listed.split(b"\0") if name and not name.endswith(b".gitignore")}
    return {name for name in names if os.path.isfile(os.fsencode(top) + b"/" + name)}


def files_of(root):
    return {os.fsencode(file.path) for file in tree.list_files(str(root)).files}


@pytest.fixture
def memory_folder():
    """A folder in memory where the system has one: disks take minutes for so many small files."""
    memory = "/dev/shm"
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as folder:
        yield folder


def test_two_thousand_random_trees_are_as_git_has_them(memory_folder):
    kept = total = 0
    for number in range(REPOSITORIES):
        rng = random.Random(number)
        top = os.fsencode(f"{memory_folder}/{number}")
        for place in range(TREES // REPOSITORIES):
            write_random_tree(rng, top + b"/t%d" % place)
        run_git(top, "init", "-q", *(["--object-format=sha256"] if number == 0 else []))
        with open(top + b"/.git/info/exclude", "wb") as file:
            file.write(b"/t1*/[[:upper:]]*\nc\n!t*/A\n")
        paths = [
            os.path.join(folder, name)[len(top) + 1 :]
            for folder, _, names in os.walk(top)
            for name in sorted(names)
            if b"/.git/" not in folder + b"/" and not name.startswith(b".")
        ]
        tracked = rng.sample(paths, len(paths) // 10)
        options = ("--pathspec-from-file=-", "--pathspec-file-nul")
        run_git(top, "config", "index.version", str(2 + 2 * (number % 2)))
        run_git(top, "add", "-f", *options, given=b"\0".join(tracked))
        for name in rng.sample(tracked, 20):
            os.unlink(top + b"/" + name)
        actual, expected = files_of(os.fsdecode(top)), files_of_git(top)
        assert actual == expected
        kept, total = kept + len(expected), total + len(paths)
    assert 0.4 * total < kept < 0.9 * total  # neither all nor none is ignored


@pytest.mark.parametrize(
    ("patterns", "ignored", "others"),
    [
        (b"!\n\\\n*.log\n", b"a.log", b"a.py|!|\\"),  # lines that are no patterns
        (b"\xef\xbb\xbfsecret.py\n", b"secret.py", b"a.py"),
        (b"*.py\t\n*.js  \n*.c\\ \n", b"a.py\t|a.js|a.c ", b"a.py|a.c"),
        (b"foo**/bar\n", b"foobar|foo/bar|foox/y/bar", b"xfoobar"),
        (b"[\n[!]\na[^b]c\n[[:digit:]]\n", b"axc|7", b"[|[!]|abc"),
        (b"*\n!*/\n!*.py\n", b"a.js|x/a.js", b"a.py|x/a.py"),
        (b"build\n!build/kept.py\n", b"build/kept.py", b"a.py"),  # nothing of a folder comes back
        (b"a\\/b\n/c\\\n\xff.py\n", b"a/b|\xff.py", b"c\\|x/a/b"),
    ],
)
def test_lines_that_are_easily_read_otherwise(tmp_path, patterns, ignored, others):
    # Each in a folder of its own: one would be a folder in another's way.
    for number, name in enumerate((ignored + b"|" + others).split(b"|")):
        top = os.fsencode(tmp_path) + b"/%d/" % number
        os.makedirs(os.path.dirname(top + name))
        open(top + name, "wb").close()
        with open(top + b".gitignore", "wb") as file:
            file.write(patterns)
    assert {name.partition(b"/")[2] for name in files_of(tmp_path)} == set(others.split(b"|"))
    run_git(tmp_path, "init", "-q")
    assert files_of(tmp_path) == files_of_git(tmp_path)


def test_no_pattern_takes_time_that_explodes():
    began = time.process_time()
    for pattern, path in (
        (b"*a" * 40 + b"b", b"a" * 255),
        (b"/" + b"**/a/" * 20 + b"b", b"a/" * 2_000 + b"c"),
        (b"x/" + b"*?" * 50 + b"b", b"x/" + b"a" * 255),
        (b"**\\/" * 20 + b"b", b"a/" * 2_000 + b"c"),
    ):
        assert git.IgnorePatterns(pattern).match(path, False) is None
    assert time.process_time() - began < 5  # seconds; tried one by one they would take years


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
