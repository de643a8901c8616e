"""The command itself: verbs, exit statuses, what is said and what is not imported."""

import importlib
import json
import os
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

from codegen_pax import cli
from codegen_pax.cli.core.main import VERBS, Verb, main
from codegen_pax.errors import (
    InvalidValueError,
    MissingFileError,
    UnknownNameError,
    UsageError,
    UserError,
)
from codegen_pax.runs import checkpoints

ROOT = Path(__file__).parents[2]
# Each takes seconds to import, or imports one that does.
HEAVY = ("jax", "jaxlib", "tensorflow", "paxml", "praxis", "numpy", "seqio", "fiddle", "flax")


def child(*arguments, **options):
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        **options,
    )


def lines_of(capsys):
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err.splitlines()


def test_the_table_of_verbs_is_complete():
    """Every module of the package is a verb, but for what the verbs share."""
    modules = {module.name for module in pkgutil.iter_modules(cli.__path__)}
    assert modules - {"core"} == VERBS.keys()
    for verb in VERBS:
        module = importlib.import_module(f"codegen_pax.cli.{verb}")
        assert callable(module.add_arguments) and callable(module.run)


def test_help_names_every_verb(capsys):
    assert main(["--help"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    for verb, row in VERBS.items():
        assert f" {verb} {row.help}" in out


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_each_verb(verb, capsys):
    assert main([verb, "--help"]) == 0
    assert capsys.readouterr().out.startswith(f"usage: codegen-pax {verb} ")


def test_version(monkeypatch, capsys):
    monkeypatch.setattr("importlib.metadata.version", {"codegen-pax": "1.2.3"}.__getitem__)
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == "codegen-pax 1.2.3\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["lst"], "no verb is called 'lst'; nearest: list"),
        (["shwo", "CodeGen2BNL"], "no verb is called 'shwo'; nearest: show"),
        ([], "expected a verb: "),
        (["--colour"], "--colour"),
        (["list", "--colour"], "--colour"),
        (["list", "--size"], "argument --size: expected one argument"),
        (["list", "--size", "3B"], "no size is called '3B'; nearest: "),
        (["list", "--phase", "mono"], "no phase is called 'mono'; nearest: Mono"),
        (["list", "--module", "no_such_module"], "no module is called 'no_such_module'"),
        (["show"], "the following arguments are required: name"),
        (["show", "CodeGen16BMon"], "no experiment is called 'CodeGen16BMon'; nearest: CodeGen16"),
        (["compare", "CodeGen2BNL"], "expected at least two to compare"),
        (["compare", "CodeGen2BNL", "CodeGen2BML"], "'CodeGen2BML'; nearest: CodeGen2BNL"),
    ],
    ids=" ".join,
)
def test_bad_use_is_status_2_and_one_line(arguments, message, capsys):
    if "--module" in arguments:
        import codegen  # noqa: F401  (paxml says what it registers, past pytest's own capture)

        capsys.readouterr()
    assert main(arguments) == 2
    (line,) = lines_of(capsys)
    assert line.startswith("codegen-pax: ") and message in line


def raising(monkeypatch, error):
    def run(args):
        raise error

    monkeypatch.setattr("codegen_pax.cli.list.run", run)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (InvalidValueError("mesh '3': expected three"), "mesh '3': expected three"),
        (UnknownNameError("no recipe is called 'x'"), "no recipe is called 'x'"),
        (UserError("the binary\nexited"), "the binary exited"),
        (MissingFileError("a.txt is not there"), "a.txt is not there"),
        (FileNotFoundError(2, "No such file", "a.txt"), "[Errno 2] No such file: 'a.txt'"),
        (
            PermissionError(13, "Permission denied", "b.txt"),
            "[Errno 13] Permission denied: 'b.txt'",
        ),
        (OSError(28, "No space left on device"), "[Errno 28] No space left on device"),
    ],
    ids=repr,
)
def test_what_is_meant_for_the_user_is_status_1_and_one_line(error, message, monkeypatch, capsys):
    raising(monkeypatch, error)
    assert main(["list"]) == 1
    assert lines_of(capsys) == [f"codegen-pax: {message}"]


@pytest.mark.parametrize(
    "error",
    [ValueError("x"), KeyError("x"), RuntimeError("x"), OSError(9, "Bad file descriptor")],
    ids=repr,
)
def test_everything_else_is_a_defect_and_keeps_its_traceback(error, monkeypatch):
    raising(monkeypatch, error)
    with pytest.raises(type(error)):
        main(["list"])


@pytest.mark.parametrize(
    "arguments",
    [["--traceback", "list"], ["list", "--traceback"], ["list", "--sise", "--traceback"]],
)
def test_the_traceback_of_any_error_can_be_had(arguments, monkeypatch, capsys):
    raising(monkeypatch, InvalidValueError("mesh '3': expected three"))
    assert main(arguments) == (2 if "--sise" in arguments else 1)
    shown = lines_of(capsys)
    assert shown[0] == "Traceback (most recent call last):"
    assert shown[-1].startswith("codegen-pax: ")


def test_a_word_for_the_runner_is_no_option_of_ours(monkeypatch, capsys):
    raising(monkeypatch, InvalidValueError("x"))
    monkeypatch.setitem(VERBS, "list", Verb("list", forwards_options=True))
    assert main(["list", "--", "--traceback"]) == 1
    assert lines_of(capsys) == ["codegen-pax: x"]


def test_usage_errors_and_interrupts_of_a_verb(monkeypatch, capsys):
    raising(monkeypatch, UsageError("so it is called"))
    assert main(["list"]) == 2
    raising(monkeypatch, KeyboardInterrupt())
    assert main(["list"]) == 130
    assert lines_of(capsys) == ["codegen-pax: so it is called", "codegen-pax: interrupted"]


def test_listing_showing_and_what_is_refused_at_once_import_nothing_heavy():
    done = child(
        "-c",
        "import sys\n"
        "from codegen_pax.cli.core.main import main\n"
        "for words in ('list', 'list --json', 'show CodeGen16BMono', '--help', 'lst',\n"
        "              'run NoExperiment', 'sample no_folder x'):\n"
        "    main(words.split())\n"
        "print('imported', *sorted(sys.modules))",
    )
    assert done.returncode == 0, done.stderr
    imported = done.stdout.splitlines()[-1].split()
    assert imported[0] == "imported" and "codegen_pax.cli.show" in imported
    assert not {"codegen", "tasks", *HEAVY} & set(imported)


def test_the_start_is_refused_before_the_disk(monkeypatch, tmp_path, capsys):
    """What the user forgot to say, not how large the disk would have to be."""
    monkeypatch.setattr(checkpoints, "check_room", lambda *_, **__: pytest.fail("it was asked for"))
    assert main(["run", "CodeGen16BMono", "--output", str(tmp_path / "job")]) == 1
    assert "CODEGEN_START_FROM" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_importing_prints_nothing():
    done = child(
        "-c", "import codegen_pax.cli.core.main, codegen_pax.cli.list, codegen_pax.cli.compare"
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_as_a_program():
    done = child("-m", "codegen_pax.cli.core.main", "list", "--size", "2B", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert [row["size"] for row in json.loads(done.stdout)] == ["2B"] * 4
    done = child("-m", "codegen_pax.cli.core.main", "show", "CodeGen3BNL")
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)


def test_a_reader_that_has_gone_is_no_error():
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer) as gone:
        done = subprocess.run(
            [sys.executable, "-m", "codegen_pax.cli.core.main", "list"],
            stdout=gone,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            cwd=ROOT,
        )
    assert (done.returncode, done.stderr) == (141, "")
