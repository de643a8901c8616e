"""`list` and `show`: the JSON against `experiments`, the printed tables against the JSON."""

import functools
import json

import pytest
from rich.console import Console

from codegen_pax.cli.core import terminal
from codegen_pax.cli.core.description import format_cell
from codegen_pax.cli.core.main import main
from experiments.declaration import declarations, find_declaration
from experiments.report import report

NAMES = [declaration.name for declaration in declarations()]


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch):
    for name in ("CODEGEN_MESH", "CODEGEN_RECIPE", "CODEGEN_START_FROM"):
        monkeypatch.delenv(name, raising=False)


def output(capsys, *arguments):
    assert main(list(arguments)) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out


def test_list_has_every_experiment_and_its_numbers(capsys):
    rows = {row["name"]: row for row in json.loads(output(capsys, "list", "--json"))}
    assert list(rows) == NAMES
    assert rows["CodeGen16BMono"] == {
        "name": "CodeGen16BMono",
        "size": "16B",
        "phase": "Mono",
        "parameters": 16_032_155_648 + 6_144,
        "tokens": 150_000 * 1_024 * 2_048,
        "batch_tokens": 2_097_152,
        "steps": 150_000,
        "learning_rate": 0.5e-4,
        "mesh": "1x64x4",
        "hardware": "TPU v4-512",
        "start": "CodeGen16BMulti",
        "data": "codegen_bigpython",
        "recipe": "jaxformer",
        "unverified": ["learning_rate", "steps"],
        "command": "python -m paxml.main --exp=codegen.CodeGen16BMono --job_log_dir=DIR",
    }
    assert rows["CodeGen350MNL"]["start"] is None


def test_the_table_shows_the_same(capsys):
    rows = json.loads(output(capsys, "list", "--json"))
    header, *lines = output(capsys, "list").splitlines()
    assert header.split()[:4] == ["experiment", "size", "phase", "parameters"]
    assert len(lines) == len(rows)
    for row, line in zip(rows, lines, strict=True):
        cells = [
            row["name"],
            row["size"],
            row["phase"],
            f"{row['parameters']:,}",
            f"{row['tokens']:,}",
            f"{row['batch_tokens']:,}",
            f"{row['steps']:,}",
            repr(row["learning_rate"]),
            row["mesh"],
            *row["hardware"].split(),
            row["start"] or "-",
            row["data"],
            *(", ".join(row["unverified"]) or "-").split(),
            *row["command"].split(),
        ]
        assert line.split() == cells


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--size", "2B"], [n for n in NAMES if "2B" in n]),
        (["--phase", "Multi"], [n for n in NAMES if n.endswith("Multi")]),
        (["--size", "6B", "--size", "16B", "--phase", "NL"], ["CodeGen6BNL", "CodeGen16BNL"]),
    ],
)
def test_filters(arguments, expected, capsys):
    rows = json.loads(output(capsys, "list", "--json", *arguments))
    assert [row["name"] for row in rows] == expected


@pytest.mark.parametrize("width", [40, 80, 120, 200, 300])
def test_a_terminal_gets_the_columns_that_fit(width, monkeypatch, capsys):
    monkeypatch.setattr(
        terminal,
        "Terminal",
        functools.partial(Console, force_terminal=True, width=width, color_system=None),
    )
    lines = output(capsys, "list").splitlines()
    table = lines[: len(NAMES) + 1]
    assert [line.split()[0] for line in table[1:]] == NAMES
    assert max(map(len, table)) <= width
    assert "parameters" in table[0]
    assert ("python -m" in table[1]) == (width == 300)
    left_out = " ".join(lines[len(NAMES) + 1 :])
    assert ("command" in left_out) == (width < 300)
    assert ("data" in left_out) == (width < 100)


def test_show_has_what_list_has_and_more(capsys):
    names = ["CodeGen350MNL", "codegen.CodeGen6BInstruct"]
    listed = {row["name"]: row for row in json.loads(output(capsys, "list", "--json"))}
    shown = json.loads(output(capsys, "show", *names, "--json"))
    assert [one["name"] for one in shown] == ["CodeGen350MNL", "CodeGen6BInstruct"]
    for one in shown:
        assert listed[one["name"]].items() <= one.items()
        declaration = find_declaration(one["name"])
        assert one["report"] == report(declaration)
        network, recipe = one["details"]["network"], one["details"]["recipe"]
        assert network["layers"] == declaration.size.layers
        assert network["released_parameters"] == declaration.size.parameters
        assert recipe["anneal_steps"] == declaration.anneal_steps
        assert recipe["weight_decay"] == declaration.recipe.weight_decay
        derived = one["details"]["derived"]
        assert derived["flops"] == one["tokens"] * derived["flops_per_token"]
    nl, instruct = shown
    assert nl["chain"] == ["CodeGen350MNL"]
    assert instruct["chain"] == [f"CodeGen6B{p}" for p in ("Instruct", "Mono", "Multi", "NL")]
    assert nl["details"]["recipe"]["anneal_steps"] == 300_000
    assert instruct["details"]["commands"]["train"] == (
        "CODEGEN_START_FROM=DIR_OF_CodeGen6BMono "
        "python -m paxml.main --exp=codegen.CodeGen6BInstruct --job_log_dir=DIR"
    )


@pytest.mark.parametrize("width", [80, 120])
def test_show_on_a_terminal_keeps_names_whole_and_folds_values(width, monkeypatch, capsys):
    monkeypatch.setattr(
        terminal,
        "Terminal",
        functools.partial(Console, force_terminal=True, width=width, color_system=None),
    )
    (one,) = json.loads(output(capsys, "show", "CodeGen16BMono", "--json"))
    table = output(capsys, "show", "CodeGen16BMono").removesuffix(one["report"] + "\n")
    assert max(map(len, table.splitlines())) <= width
    names = [line.split()[0] for line in table.splitlines() if line.strip()]
    assert {"parameters", "tokens_per_parameter", "accumulation_dtype", "train"} <= set(names)
    # Folded, not cut: what is left without the spaces is the whole command.
    command = one["details"]["commands"]["train"]
    assert "train" + command.replace(" ", "") in "".join(table.split())


def test_published_results_are_shown(capsys):
    (one,) = json.loads(output(capsys, "show", "CodeGen2BMono", "--json"))
    assert one["details"]["published"] == {"humaneval_pass_at_1": 23.70, "released_step": 100_000}


@pytest.mark.parametrize("name", NAMES)
def test_the_text_of_show_has_every_value(name, capsys):
    (one,) = json.loads(output(capsys, "show", name, "--json"))
    text = output(capsys, "show", name)
    lines = [" ".join(line.split()) for line in text.splitlines()]
    details = [pair for section in one["details"].values() for pair in section.items()]
    scalars = [(key, one[key]) for key in one if key not in ("name", "chain", "details", "report")]
    for key, value in scalars + details:
        assert f"{key} {format_cell(value)}" in lines
    assert f"chain {' <- '.join(one['chain'])}" in lines
    assert text.endswith(one["report"] + "\n")


def test_show_is_of_this_environment(monkeypatch, capsys):
    monkeypatch.setenv("CODEGEN_RECIPE", "paper")
    monkeypatch.setenv("CODEGEN_MESH", "2x16x2")
    (one,) = json.loads(output(capsys, "show", "CodeGen6BNL", "--json"))
    assert (one["recipe"], one["mesh"], one["batch_tokens"]) == ("paper", "2x16x2", 2_097_152)
    assert one["parameters"] == 7_064_213_504
    assert one["details"]["recipe"]["decay"] == "matrices"


def test_an_environment_that_does_not_fit_is_one_line(monkeypatch, capsys):
    monkeypatch.setenv("CODEGEN_MESH", "1x8")
    assert main(["show", "CodeGen6BNL"]) == 1
    err = capsys.readouterr().err
    assert (
        err.startswith("codegen-pax: CODEGEN_MESH=1x8: mesh '1x8': expected")
        and err.count("\n") == 1
    )


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        ([], "-"),
        (True, "yes"),
        (1_234_567, "1,234,567"),
        (427_376_733_742_694_400_000, "4.274e+20"),
        (0.1 * 3, "0.3"),
        (1.8e-4, "0.00018"),
        (5e-06, "5e-06"),
        (["a", 1_000], "a, 1,000"),
    ],
)
def test_values_as_tables_show_them(value, text):
    assert format_cell(value) == text
