"""Which files of a tree are read, what is known about each, and a hostile tree."""

import os
import socket
import subprocess

import pytest

from codegen_pax.data.format.documents import Document
from codegen_pax.data.sources import discovery, tree
from tests.data.read_inputs import read_all, rules


@pytest.fixture
def company(tmp_path):
    root = tmp_path / "company"
    files = {
        ".gitignore": "*.gen.py\n/build/\n!kept.gen.py\n",
        "a.py": "a = 1\n",
        "x.gen.py": "",
        "kept.gen.py": "k = 1\n",
        "build/b.py": "",
        "sub/build/c.py": "c = 1\n",
        "sub/.gitignore": "!x.gen.py\nsecret/\n",
        "sub/x.gen.py": "s = 1\n",
        "sub/secret/d.py": "",
        "sub/secret/.gitignore": "!d.py\n",
        "node_modules/e.js": "",
        ".hidden/f.py": "",
        "vendor/g.go": "",
        "bin.py": "\0\1",
        "latin.py": "",
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    (root / "latin.py").write_bytes(b"# \xe9t\xe9\n")
    (root / "link.py").symlink_to(root / "a.py")
    return root


def test_a_tree_is_what_git_would_keep(company):
    actual = read_all("tree", company)
    kept = {d.path for d in actual if isinstance(d, Document)}
    assert kept == {"a.py", "kept.gen.py", "sub/build/c.py", "sub/x.gen.py"}
    assert sorted(rules(actual)) == ["binary", "invalid_utf8"]
    assert {d.repository for d in actual if isinstance(d, Document)} == {"company"}

    git = ["git", "-C", str(company)]
    subprocess.run([*git, "init", "-q"], check=True)
    listed = subprocess.run(
        [*git, "ls-files", "-o", "--exclude-standard"], check=True, capture_output=True, text=True
    ).stdout.split()
    others = {"node_modules/e.js", ".hidden/f.py", "vendor/g.go", "link.py"}
    git_files = {name for name in listed if not name.endswith(".gitignore")} - others
    assert git_files == kept | {"bin.py", "latin.py"}


def test_repositories_in_a_tree(tmp_path):
    for name in ("one", "two/inner"):
        (tmp_path / "all" / name / ".git").mkdir(parents=True)
        (tmp_path / "all" / name / ".git" / "HEAD").write_text("ref")
        (tmp_path / "all" / name / "x.py").write_text("x = 1\n")
    actual = read_all("tree", tmp_path / "all", max_bytes=1)
    assert [(d.repository, d.path) for d in actual] == [
        ("one", "x.py"),
        ("two/inner", "x.py"),
    ]


def write(root, files):
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


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
        (actual,) = documents(tmp_path / "all" / place)
        assert (actual.repository, actual.path) == (repository, "src/deep/a.py")
    (tmp_path / "link").symlink_to(tmp_path / "all/owner/name/src")  # the tree itself may be one
    assert documents(tmp_path / "link")[0].repository == "name"
    (actual,) = documents(tmp_path / "all/loose")
    assert (actual.repository, actual.path) == ("loose", "b.py")


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
    actual = tree.list_files(str(root))
    assert actual.left_out == {"link": 4, "special_file": 2}
    digest = tree.sha256(str(root), actual.files)
    (root / "gone.py").unlink()  # since it was listed
    (root / "other.py").unlink()
    (root / "other.py").symlink_to("/dev/zero")
    (root / "c.py").unlink()
    os.mkfifo(root / "c.py")
    read = list(tree.read_documents(str(root), actual.files))
    assert [one.path if isinstance(one, Document) else one.rule for one in read] == [
        "a.py",
        *["unreadable"] * 3,
        "sub/b.py",
    ]
    assert tree.sha256(str(root), actual.files) != digest
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
    actual = tree.list_files(str(tmp_path))
    assert actual.left_out == {"unreadable": 1}
    rules = [getattr(one, "rule", None) for one in tree.read_documents(str(tmp_path), actual.files)]
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
    actual = tree.list_files(str(tmp_path))
    assert [file.path for file in actual.files] == ["a.py"]
    assert actual.left_out == {"unreadable": 1}
    subprocess.run(["rm", "-rf", "d"], cwd=tmp_path, check=True)
