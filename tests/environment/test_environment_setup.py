"""`make setup` in a copy of the project: where it stops, and that it happens once."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = ("setup.sh", "docs.txt", "test.txt", "torch.txt")

# Builds an empty package by the standard library alone: the setuptools that builds the real one
# comes with the lock, and the lock is empty here.
BACKEND = """
import zipfile

INFO = "codegen_pax-0.0.dist-info"
FILES = {
    "METADATA": ["Metadata-Version: 2.1", "Name: codegen-pax", "Version: 0.0"],
    "WHEEL": ["Wheel-Version: 1.0", "Root-Is-Purelib: true", "Tag: py3-none-any"],
    "RECORD": [],
}


def build_editable(wheel_directory, config_settings=None, metadata_directory=None):
    name = "codegen_pax-0.0-py3-none-any.whl"
    with zipfile.ZipFile(f"{wheel_directory}/{name}", "w") as wheel:
        for file, lines in FILES.items():
            wheel.writestr(f"{INFO}/{file}", "".join(f"{line}\\n" for line in lines))
    return name
"""


@pytest.fixture
def project(tmp_path):
    """A copy of what the set-up consists of, with nothing yet in the lock."""
    (tmp_path / "requirements").mkdir()
    for name in FILES:
        shutil.copy(ROOT / "requirements" / name, tmp_path / "requirements")
    (tmp_path / "requirements" / "base.txt").write_text("# nothing\n")
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "setup.py").touch()
    (tmp_path / "backend.py").write_text(BACKEND)
    (tmp_path / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    )
    return tmp_path


def fake_python(path, body):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


def make(project, *words):
    """Runs make as a person would, whatever make these tests themselves run under."""
    ours = ("MAKEFLAGS", "MAKELEVEL", "MFLAGS", "MAKEOVERRIDES", "PYTHON")
    environment = {name: value for name, value in os.environ.items() if name not in ours}
    return subprocess.run(
        ["make", *words], cwd=project, env=environment, capture_output=True, text=True
    )


def reported(answer):
    """Returns the lines of standard error that are the project's, not make's own."""
    return [line for line in answer.stderr.splitlines() if not line.startswith("make")]


@pytest.mark.parametrize("target", ["setup", "run", "test", "ladder"])
def test_another_python_is_refused_in_one_line(project, target):
    python = fake_python(project / "python3.12", "echo 3.12.1")
    answer = make(project, target, f"PYTHON={python}")
    assert answer.returncode != 0
    (line,) = reported(answer)
    assert "Python 3.11 is needed" in line
    assert f"{python} is Python 3.12.1" in line
    assert "PYTHON=/path/to/python3.11" in line
    assert not (project / ".venv").exists()


def test_what_is_no_python_is_refused_in_one_line(project):
    answer = make(project, "setup", "PYTHON=/no/such/python")
    assert answer.returncode != 0
    (line,) = reported(answer)
    assert "/no/such/python is no Python that starts" in line


def test_a_venv_of_another_python_is_refused_in_one_line(project):
    fake_python(project / ".venv" / "bin" / "python", "echo 3.10.13")
    (project / ".venv" / "pyvenv.cfg").write_text("version = 3.10.13\n")
    answer = make(project, "setup", f"PYTHON={sys.executable}")
    assert answer.returncode != 0
    (line,) = reported(answer)
    assert ".venv needs Python 3.11; it was made by Python 3.10.13" in line
    assert "make clean" in line


def test_a_python_without_venv_is_refused_in_one_line(project):
    # Debian's python3 without python3-venv: it starts, and has no ensurepip.
    python = fake_python(
        project / "python3.11", 'case "$2" in *ensurepip*) exit 1;; *) echo 3.11.2;; esac'
    )
    answer = make(project, "setup", f"PYTHON={python}")
    assert answer.returncode != 0
    (line,) = reported(answer)
    assert "cannot make virtual environments" in line
    assert "apt install python3.11-venv" in line


def test_it_is_done_once_and_again_only_after_a_change_or_a_kill(project):
    setup = ("setup", f"PYTHON={sys.executable}")
    first = make(project, *setup)
    assert first.returncode == 0, first.stderr
    assert "installing codegen-pax itself" in first.stdout
    # A person who chose a Python once need not choose it again.
    assert "set-up:" not in make(project, "setup").stdout

    made = (project / ".venv" / "pyvenv.cfg").stat().st_mtime_ns
    (project / "requirements" / "base.txt").write_text("# another\n")
    changed = make(project, *setup)
    assert "installing requirements/base.txt" in changed.stdout
    assert (project / ".venv" / "pyvenv.cfg").stat().st_mtime_ns == made

    # What a kill in the middle of an installation leaves behind.
    (project / ".venv" / ".package").unlink()
    (project / ".venv" / ".busy").touch()
    (project / ".venv" / "half-a-package").touch()
    again = make(project, *setup)
    assert again.returncode == 0, again.stderr
    assert "starting again" in again.stdout
    assert not (project / ".venv" / "half-a-package").exists()
    assert "set-up:" not in make(project, *setup).stdout


def test_uv_is_used_where_it_is(project, monkeypatch):
    """For the locks, into .venv, and with no resolver; the package itself is pip's."""
    uv = fake_python(project / "bin" / "uv", 'echo "$@" >> uv.txt')
    monkeypatch.setenv("PATH", f"{uv.parent}{os.pathsep}{os.environ['PATH']}")
    answer = make(project, "setup", f"PYTHON={sys.executable}")
    assert answer.returncode == 0, answer.stderr
    (line,) = (project / "uv.txt").read_text().splitlines()
    expected = "pip install --quiet --python .venv/bin/python --no-deps -r requirements/base.txt"
    assert line == expected


def test_a_venv_that_was_moved_is_refused_in_one_line(project):
    (project / ".venv" / "bin").mkdir(parents=True)
    (project / ".venv" / "bin" / "python").symlink_to(sys.executable)
    (project / ".venv" / "pyvenv.cfg").write_text("version = 3.11\n")
    (project / ".venv" / ".made").write_text("/where/it/was\n")
    answer = make(project, "setup")
    assert answer.returncode != 0
    (line,) = reported(answer)
    assert "/where/it/was" in line
    assert "make clean" in line
