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


def test_what_is_checked_before_a_run_needs_no_tensorflow():
    """Nor Pax: a folder, a disk or a start that is refused is refused at once."""
    found = python(
        "import codegen_pax.cli.core.training, sys; print({*sys.modules} & {'tensorflow', 'praxis'})"
    )
    assert (found.stdout, found.stderr) == ("set()\n", "")


def test_an_unknown_name_is_answered_with_the_nearest():
    import codegen

    with pytest.raises(AttributeError, match=r"nearest: .*CodeGen16BMono"):
        codegen.CodeGen16BMonno  # noqa: B018


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
