"""Which code is running: by git where it is there, by a hash of the sources in any case."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from codegen_pax.environment import code

ROOT = Path(__file__).parents[2]


def git(folder, *arguments):
    done = subprocess.run(
        ["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """A project of three files, taken for this one; what is asked is asked anew."""
    root = tmp_path / "project"
    for name, text in {"codegen.py": "a\n", "tasks/b.py": "b\n", "README.md": "c\n"}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    monkeypatch.setattr(code, "ROOT", root)
    return root


def asked():
    code.of_project.cache_clear()
    return code.of_project()


@pytest.fixture(autouse=True)
def nothing_is_remembered():
    yield
    code.of_project.cache_clear()
    code.of_module.cache_clear()


def test_without_git_it_is_the_hash_of_the_sources_by_hand(tree):
    lines = "".join(
        f"{name} {hashlib.sha256(text).hexdigest()}\n"
        for name, text in (("codegen.py", b"a\n"), ("tasks/b.py", b"b\n"))
    )
    expected = {"sha256": hashlib.sha256(lines.encode()).hexdigest()}
    assert asked() == expected
    (tree / "README.md").write_text("other\n")
    assert asked() == expected
    (tree / "tasks" / "b.py").write_text("B\n")
    assert asked()["sha256"] != expected["sha256"]


def test_with_git_it_is_the_commit_and_whether_a_source_differs(tree, monkeypatch):
    git(tree, "init", "-q")
    assert "commit" not in asked()  # there is none
    git(tree, "add", ".")
    git(tree, "commit", "-qm", "one")
    head = git(tree, "rev-parse", "HEAD")
    actual = asked()
    assert (actual["commit"], actual["dirty"]) == (head, False)
    (tree / "README.md").write_text("other\n")
    assert asked() == actual
    for change in (
        lambda: (tree / "tasks" / "b.py").write_text("B\n"),
        lambda: (tree / "tasks" / "new.py").write_text("n\n"),
        lambda: (tree / "codegen.py").unlink(),
    ):
        git(tree, "checkout", "-q", ".")
        change()
        (tree / "codegen.py").exists() or (tree / "codegen.py").write_text("")
        actual = asked()
        assert (actual["commit"], actual["dirty"]) == (head, True)
        git(tree, "clean", "-qfd")
    monkeypatch.setenv("PATH", "")
    assert set(asked()) == {"sha256"}


def test_a_repository_that_it_lies_in_by_chance_is_not_its_own(tree):
    """As an environment of packages in somebody's own project, whose files git does not have."""
    (tree.parent / "own.py").write_text("")
    git(tree.parent, "init", "-q")
    git(tree.parent, "add", "own.py")
    git(tree.parent, "commit", "-qm", "one")
    assert set(asked()) == {"sha256"}


def test_nothing_that_a_repository_configures_is_run(tree):
    """Each of these programs runs where git is asked for a status."""
    git(tree, "init", "-q")
    (tree / ".gitattributes").write_text("*.py filter=mark\n")
    git(tree, "add", ".")
    git(tree, "commit", "-qm", "one")
    mark = tree.parent / "ran"
    program = tree / "mark.sh"
    program.write_text(f"#!/bin/sh\ntouch {mark}\ncat\n")
    program.chmod(0o755)
    hooks = tree / "hooks"
    hooks.mkdir()
    for name in ("post-index-change", "reference-transaction", "post-checkout"):
        (hooks / name).symlink_to(program)
    for name, value in {
        "core.fsmonitor": program,
        "core.hooksPath": hooks,
        "filter.mark.clean": program,
        "core.pager": program,
        "core.sshCommand": program,
    }.items():
        git(tree, "config", name, str(value))
    os.utime(tree / "codegen.py", (1, 1))
    assert asked()["dirty"] is False
    assert not mark.exists()
    git(tree, "status")
    assert mark.exists()


def test_of_a_module_of_ones_own(tmp_path, monkeypatch):
    (tmp_path / "own_module.py").write_text("x = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    import own_module  # noqa: F401

    actual = code.of_module("own_module")
    line = f"own_module.py {hashlib.sha256(b'x = 1' + os.linesep.encode()).hexdigest()}\n"
    expected = {"file": "own_module.py", "sha256": hashlib.sha256(line.encode()).hexdigest()}
    assert actual == expected
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", "own_module.py")
    git(tmp_path, "commit", "-qm", "one")
    (tmp_path / "other.py").write_text("")
    code.of_module.cache_clear()
    head = git(tmp_path, "rev-parse", "HEAD")
    assert code.of_module("own_module") == expected | {"commit": head, "dirty": False}
    assert code.of_module("codegen_pax.environment.code") is None
    assert code.of_module("sys") is None and code.of_module("no_such_module") is None


def test_it_imports_nothing_heavy_and_tells_of_this_tree():
    command = (
        "import sys\nfrom codegen_pax.environment import code\nprint(code.of_project()['sha256'])\n"
        "assert not {'jax', 'numpy', 'tensorflow'} & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", command], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == code.of_project()["sha256"]


def test_in_words():
    sha256 = "0123456789abcdef" * 4
    assert code.describe({"sha256": sha256}) == "sources 0123456789ab"
    with_git = {"sha256": sha256, "commit": "fedcba9876543210" * 2, "dirty": False}
    assert code.describe(with_git) == "commit fedcba987654, sources 0123456789ab"
    changed = "commit fedcba987654, changed since, sources 0123456789ab"
    assert code.describe(with_git | {"dirty": True}) == changed
    assert code.describe(None) == "not recorded"
