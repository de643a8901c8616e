"""Which files of a tree are read, compared with git itself, and of a hostile tree."""

import os
import random
import shutil
import socket
import subprocess
import time

import pytest

from codegen_pax.data.format.documents import Document
from codegen_pax.data.sources import discovery, git, tree
from tests.data.random_trees import a_tree

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


def test_two_thousand_random_trees_are_as_git_has_them(tmp_path):
    kept = total = 0
    for number in range(REPOSITORIES):
        chance = random.Random(number)
        top = os.fsencode(tmp_path / str(number))
        for place in range(TREES // REPOSITORIES):
            a_tree(chance, top + b"/t%d" % place)
        run_git(top, "init", "-q", *(["--object-format=sha256"] if number == 0 else []))
        with open(top + b"/.git/info/exclude", "wb") as file:
            file.write(b"/t1*/[[:upper:]]*\nc\n!t*/A\n")
        there = [
            os.path.join(folder, name)[len(top) + 1 :]
            for folder, _, names in os.walk(top)
            for name in sorted(names)
            if b"/.git/" not in folder + b"/" and not name.startswith(b".")
        ]
        tracked = chance.sample(there, len(there) // 10)
        paths = ("--pathspec-from-file=-", "--pathspec-file-nul")
        run_git(top, "config", "index.version", str(2 + 2 * (number % 2)))
        run_git(top, "add", "-f", *paths, given=b"\0".join(tracked))
        for name in chance.sample(tracked, 20):
            os.unlink(top + b"/" + name)
        found, wanted = files_of(os.fsdecode(top)), files_of_git(top)
        assert found == wanted
        kept, total = kept + len(wanted), total + len(there)
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
        wanted = TRACKED - {b"out/deep/7.py", b"out/deep/30.py"} | {b"out/new.py"}
    else:
        write(shop, {"out/later.py": ""})
        run_git(shop, "add", "-f", "-N", "out/later.py")  # such an entry needs version 3
        run_git(shop, "update-index", "--index-version", form)
        assert (shop / ".git/index").read_bytes()[7] == max(3, int(form))
        wanted = TRACKED | {b"out/later.py"}
    assert files_of(shop) == files_of_git(shop) == wanted
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
    found = tree.list_files(str(tmp_path / "repositories"))
    assert [(file.repository, file.path) for file in found.files] == [
        ("dist", "dist/c.py"),
        ("one", "one/src/a.py"),
        ("one/two", "one/two/b.gen.py"),
        ("one/two", "one/two/build/private.py"),
        ("vendor", "vendor/c.py"),
    ]
    assert found.left_out == {"git_ignored": 3, "hidden": 1, "vendored": 3}
    assert files_of(tmp_path / "repositories/vendor") == {b"c.py"}
    for part in ("one/src", "one/build"):  # what is asked for is not left out
        assert files_of(tmp_path / "repositories" / part)
    (only,) = tree.list_files(str(tmp_path / "repositories/one/src")).files
    assert only == tree.TreeFile("a.py", "..", 0)


def documents(root):
    return list(tree.read_documents(str(root), tree.list_files(str(root)).files))


def test_a_document_names_the_repository_that_it_is_in(tmp_path):
    write(
        tmp_path / "all",
        {
            "owner/name/.git/HEAD": "",
            "owner/name/src/deep/a.py": "a = 1\n",
            "unpacked/@scope/package/package.json": "{}\n",
            "unpacked/@scope/package/lib/package.json": "{}\n",
            "loose/b.py": "b = 1\n",
        },
    )
    assert {(one.repository, one.path) for one in documents(tmp_path / "all")} == {
        ("owner/name", "src/deep/a.py"),
        ("unpacked/@scope/package", "package.json"),
        ("unpacked/@scope/package", "lib/package.json"),
        ("loose", "b.py"),
    }
    places = {"owner/name": "name", "owner/name/src": "name", "owner/name/src/deep": "name"}
    for place, repository in places.items():
        (found,) = documents(tmp_path / "all" / place)
        assert (found.repository, found.path) == (repository, "src/deep/a.py")
    (tmp_path / "link").symlink_to(tmp_path / "all/owner/name/src")  # the tree itself may be one
    assert documents(tmp_path / "link")[0].repository == "name"
    (found,) = documents(tmp_path / "all/loose")
    assert (found.repository, found.path) == ("loose", "b.py")


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


def test_what_is_no_file_is_counted_and_never_opened(tmp_path):
    root = tmp_path / "root"
    files = {"a.py": "a = 1\n", "sub/b.py": "b = 1\n", "gone.py": "", "other.py": "", "c.py": ""}
    write(root, files)
    links = {"self.py": "self.py", "up": "..", "zero.py": "/dev/zero", "dangling.py": "nowhere"}
    for name, target in links.items():
        (root / name).symlink_to(target)
    os.mkfifo(root / "pipe.py")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(root / "socket.py"))
    found = tree.list_files(str(root))
    assert found.left_out == {"link": 4, "special_file": 2}
    digest = tree.sha256(str(root), found.files)
    (root / "gone.py").unlink()  # since it was listed
    (root / "other.py").unlink()
    (root / "other.py").symlink_to("/dev/zero")
    (root / "c.py").unlink()
    os.mkfifo(root / "c.py")
    read = list(tree.read_documents(str(root), found.files))
    assert [one.path if isinstance(one, Document) else one.rule for one in read] == [
        "a.py",
        *["unreadable"] * 3,
        "sub/b.py",
    ]
    assert tree.sha256(str(root), found.files) != digest
    with pytest.raises(ValueError, match=r"found nothing to read at .*\(left out: 1 link\)"):
        (tmp_path / "links").mkdir()
        (tmp_path / "links" / "x.py").symlink_to(root / "a.py")
        discovery.find("tree", [str(tmp_path / "links")])


def test_what_may_not_be_read_is_counted(tmp_path, monkeypatch):
    write(tmp_path, {"a.py": "a = 1\n", "closed/b.py": "", "c.py": "c = 1\n"})
    scan, open_regular_file = os.scandir, tree.storage.open_regular_file

    def refused(real, name):
        def opened(path, *arguments):
            if str(path).endswith(name):  # for root no permission is missing
                raise PermissionError(13, "Permission denied", path)
            return real(path, *arguments)

        return opened

    monkeypatch.setattr(os, "scandir", refused(scan, "closed"))
    monkeypatch.setattr(tree.storage, "open_regular_file", refused(open_regular_file, "c.py"))
    found = tree.list_files(str(tmp_path))
    assert found.left_out == {"unreadable": 1}
    rules = [getattr(one, "rule", None) for one in tree.read_documents(str(tmp_path), found.files)]
    assert rules == [None, "unreadable"]


def test_a_tree_may_be_deep(tmp_path):
    top = os.open(tmp_path, os.O_RDONLY)
    folder = os.dup(top)
    # Deeper than Python recurses, and in the end than a path may be long.
    for name in (*["d"] * 1_100, *["long" * 60] * 10):
        os.mkdir(name, dir_fd=folder)
        below = os.open(name, os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = below
    os.close(folder)
    write(tmp_path, {"a.py": ""})
    found = tree.list_files(str(tmp_path))
    assert [file.path for file in found.files] == ["a.py"]
    assert found.left_out == {"unreadable": 1}
    subprocess.run(["rm", "-rf", "d"], cwd=tmp_path, check=True)


def test_a_repository_that_is_none_knows_nothing(tmp_path):
    assert git.git_dir(str(tmp_path)) is None
    assert git.read_repository(str(tmp_path)) == git.Repository("")
