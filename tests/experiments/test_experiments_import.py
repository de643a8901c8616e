"""Importing the experiments: what it prints, and what it may not need."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]


def python(code, **environment):
    kept = {k: v for k, v in os.environ.items() if k not in ("TF_CPP_MIN_LOG_LEVEL", "PYTHONPATH")}
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=PROJECT,
        env=kept | environment,
        check=False,
    )


@pytest.fixture(scope="module")
def imported():
    return python("import codegen; codegen.CodeGen16BMono")


def test_importing_says_nothing_and_holds_nothing_back(imported):
    """What paxml and TensorFlow write to standard error is theirs, and reaches whoever reads it."""
    assert imported.returncode == 0
    assert imported.stdout == ""
    assert "Registered experiment `codegen.CodeGen16BMono`" in imported.stderr
    assert "Traceback" not in imported.stderr and "codegen-pax" not in imported.stderr


def test_an_unknown_name_is_answered_with_the_nearest():
    found = python("import codegen; codegen.CodeGen16BMonno")
    assert found.returncode == 1
    last = found.stderr.strip().splitlines()[-1]
    assert last.startswith("AttributeError") and "CodeGen16BMono" in last


def test_the_tables_need_the_standard_library_alone():
    """`-I -S`: no site-packages at all."""
    code = (
        f"import sys; sys.path.insert(0, {str(PROJECT)!r})\n"
        "import experiments.report\n"
        "from experiments.declaration import declarations\n"
        "print(len(list(declarations())))"
    )
    found = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=False
    )
    assert (found.stdout.strip(), found.stderr) == ("20", "")
