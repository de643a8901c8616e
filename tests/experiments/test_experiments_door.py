"""Importing the experiments: what it prints, what it may not need, what a table's row brings."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
MARK = "--- imported"

# One process for all that needs a fresh import of Pax: a phase stays for as long as a process does.
SCRIPT = f"""
from experiments import phases
from experiments.phases import Phase

phases.PHASES["Cuda"] = Phase("Cuda", languages=("cuda",), start="Mono", tokens=10**9)

import codegen
codegen.CodeGen16BMono
print("{MARK}")
from codegen_pax.data import seqio_sources
print(seqio_sources.PreparedCorpus("pile", raw="").folder())
from experiments import registry

for size in ("Nano", "16B"):
    datasets = registry.experiment_class(f"CodeGen{{size}}Cuda")().datasets()
    print(datasets[0].mixture_name, registry.experiment_class(f"CodeGen{{size}}Cuda").__module__)
try:
    registry.declare_phase(Phase("Klingon", languages=("klingon",), start="Mono", tokens=1))
except ValueError as error:
    print(error)
print("Klingon" in phases.PHASES)
"""


def python(code, **environment):
    unset = ("TF_CPP_MIN_LOG_LEVEL", "PYTHONPATH")
    kept = {name: text for name, text in os.environ.items() if name not in unset}
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
    done = python(SCRIPT, CODEGEN_DATA="/corpora")
    assert done.returncode == 0, done.stderr[-4000:]
    return done


def test_importing_says_nothing_and_holds_nothing_back(imported):
    """What paxml and TensorFlow write to standard error is theirs, and reaches whoever reads it."""
    assert imported.stdout.startswith(MARK)
    assert "Registered experiment `codegen.CodeGen16BMono`" in imported.stderr
    assert "Traceback" not in imported.stderr and "codegen-pax" not in imported.stderr


def test_importing_tells_the_tasks_where_corpora_are(imported):
    assert imported.stdout.splitlines()[1] == "/corpora/pile"


def test_one_entry_of_the_table_is_all_a_language_phase_needs(imported):
    nano, large, refused, kept = imported.stdout.splitlines()[2:]
    assert nano == "codegen_nano_cuda codegen"
    assert large == "codegen_cuda codegen"
    assert "klingon" in refused and kept == "False"


def test_what_is_checked_before_a_run_needs_no_tensorflow():
    """Nor Pax: a folder, a disk or a start that is refused is refused at once."""
    actual = python(
        "import sys, codegen_pax.cli.core.training\n"
        "print({*sys.modules} & {'tensorflow', 'praxis'})"
    )
    assert (actual.stdout, actual.stderr) == ("set()\n", "")


def test_an_unknown_name_is_answered_with_the_nearest():
    import codegen

    with pytest.raises(AttributeError, match=r"nearest: .*CodeGen16BMono"):
        codegen.CodeGen16BMonno  # noqa: B018  (the attribute is looked up)


def test_the_tables_need_the_standard_library_alone():
    """`-I -S`: no site-packages at all."""
    code = (
        f"import sys; sys.path.insert(0, {str(PROJECT)!r})\n"
        "import experiments.report\n"
        "from experiments.declaration import declarations\n"
        "print(len(list(declarations())))"
    )
    actual = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=False
    )
    assert (actual.stdout.strip(), actual.stderr) == ("24", "")
