"""`compare`: its JSON against `experiments`, its table against its JSON; a module of one's own."""

import json
import os
from pathlib import Path

import pytest

from codegen_pax.cli.core.description import format_cell
from codegen_pax.cli.core.main import main
from codegen_pax.compare import GROUPS
from experiments.declaration import find_declaration
from tests import pax_process

ROOT = Path(__file__).parents[2]
ONE, OTHER = "CodeGen350MNL", "CodeGen2BMono"


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch):
    for name in [key for key in os.environ if key.startswith("CODEGEN_")]:
        monkeypatch.delenv(name)


def output(capsys, *arguments):
    assert main(list(arguments)) == 0
    return capsys.readouterr().out


def rows(capsys, *names):
    actual = json.loads(output(capsys, "compare", *names, "--json"))
    return {(row["group"], row["path"]): row["values"] for row in actual}


def test_what_differs_is_told_under_its_group(capsys):
    actual = rows(capsys, ONE, OTHER)
    groups = list(dict.fromkeys(group for group, _ in actual))
    assert groups == ["network", "recipe", "data", "hardware", "derived"]
    assert {group for group in groups if group != "derived"} <= set(GROUPS)
    stack = "task.model.lm_tpl.stacked_transformer_tpl"
    optimizer = "task.train.learner.optimizer"
    for key, values in {
        ("network", f"{stack}.x_times"): (20, 32),
        ("network", "task.model.lm_tpl.model_dims"): (1024, 2560),
        ("recipe", f"{optimizer}.learning_rate"): (3e-4, 0.8e-4),
        ("recipe", "task.train.num_train_steps"): (350_000, 150_000),
        ("recipe", "datasets[0].batch_size"): (256, 512),
        ("data", "datasets[0].mixture_name"): ("codegen_pile", "codegen_bigpython"),
        ("hardware", "task.model.ici_mesh_shape"): ("[1, 8, 1]", "[1, 32, 1]"),
    }.items():
        assert actual[key] == dict(zip((ONE, OTHER), values, strict=True))
    # Equal in both, so not told.
    assert ("recipe", f"{optimizer}.beta1") not in actual
    assert ("network", "task.model.lm_tpl.vocab_size") not in actual


def test_derived_rows_follow_from_the_tables(capsys):
    actual = rows(capsys, ONE, OTHER)
    for name in (ONE, OTHER):
        declaration = find_declaration(name)
        derived = {
            path: values[name] for (group, path), values in actual.items() if group == "derived"
        }
        assert derived["parameters"] == declaration.parameters
        assert derived["tokens"] == declaration.steps * declaration.batch_tokens
        assert derived["tokens_per_parameter"] == pytest.approx(
            declaration.tokens / declaration.parameters, abs=0.01
        )
        assert derived["flops"] == derived["flops_per_token"] * derived["tokens"]
        assert derived["start"] == declaration.start


@pytest.mark.parametrize("names", [(ONE, OTHER), ("CodeGenNanoMono", ONE, "CodeGen16BInstruct")])
def test_the_table_shows_what_the_json_has(names, capsys):
    actual = rows(capsys, *names)
    header, *lines = output(capsys, "compare", *names).splitlines()
    assert header.split() == ["what", "differs", *names]
    body = [line for line in lines if line.startswith("  ")]
    assert len(body) == len(actual)
    for ((group, path), values), line in zip(actual.items(), body, strict=True):
        label, *cells = [cell for cell in line.strip().split("  ") if cell]
        assert path.endswith(label)
        for name, cell in zip(names, cells, strict=True):
            if name not in values:
                assert cell.strip() == "absent"
            elif group == "derived":
                assert cell.strip() == format_cell(values[name])
            else:
                assert cell.strip() in (repr(values[name]), values[name])
    assert [line for line in lines if line not in body] == list(
        dict.fromkeys(group for group, _ in actual)
    )


def test_an_experiment_and_itself(capsys):
    assert output(capsys, "compare", ONE, ONE) == f"Nothing differs between {ONE} and {ONE}.\n"
    assert json.loads(output(capsys, "compare", ONE, ONE, "--json")) == []


def test_the_environments_mesh_is_in_both_and_its_start_weights_in_none(monkeypatch, capsys):
    monkeypatch.setenv("CODEGEN_MESH", "1x8x1")
    monkeypatch.setenv("CODEGEN_START_FROM", "/nowhere")
    actual = rows(capsys, ONE, "CodeGen350MMono")
    assert os.environ["CODEGEN_START_FROM"] == "/nowhere"
    assert not [path for _, path in actual if "init_from" in path]
    assert not [key for key in actual if key[0] == "hardware"]
    assert actual["derived", "devices"] == {ONE: 8, "CodeGen350MMono": 8}


MODULE = """
import dataclasses
from experiments import registry
from experiments.declaration import find_declaration
from experiments.phases import Phase
from paxml import experiment_registry
import codegen

registry.declare_phase(
    Phase("Zebra", languages=("python",), start="Mono", tokens=10**9)
)

@experiment_registry.register
class Short(registry.experiment_class("CodeGenNanoMono")):
    DECLARATION = dataclasses.replace(find_declaration("CodeGenNanoMono"), steps=20)
"""

# Another class of the same name.
ELSEWHERE = """
import dataclasses
from experiments import registry
from experiments.declaration import find_declaration
from paxml import experiment_registry

@experiment_registry.register
class Short(registry.experiment_class("CodeGenNanoMono")):
    DECLARATION = dataclasses.replace(find_declaration("CodeGenNanoMono"), steps=30)
"""

NOTHING = {"humaneval_pass_at_1": None, "released_step": None}

SCRIPT = """
import sys
from codegen_pax.cli.core.main import main
for words in (
    "list --json --module mine",
    "show CodeGen2BZebra mine.Short --json --module mine",
    "compare CodeGenNanoMono Short --json --module mine",
    "compare CodeGenNanoMono CodeGenNanoZebra --json --module mine",
    "show other.Short mine.Short --json --module mine --module other",
    "show Short --module mine --module other",
    "compare mine.Short other.Short --json --module mine --module other",
    "list --module json",
):
    print(main(words.split()), flush=True)
    print("====", flush=True)
"""


def test_experiments_of_a_module_of_ones_own(tmp_path):
    (tmp_path / "mine.py").write_text(MODULE)
    (tmp_path / "other.py").write_text(ELSEWHERE)
    (tmp_path / "commands.py").write_text(SCRIPT)
    done = pax_process.run("commands", (), tmp_path, {**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stderr[-2000:]
    texts, statuses = [], []
    for part in done.stdout.split("====\n")[:-1]:
        text, _, status = part.rstrip("\n").rpartition("\n")
        texts.append(text)
        statuses.append(int(status))
    assert statuses == [0, 0, 0, 0, 0, 2, 0, 2]
    *_, two, none = done.stderr.splitlines()
    assert two.endswith("several experiments are called Short: expected mine.Short or other.Short")
    assert none.startswith("codegen-pax: module 'json' registers no experiment; expected")

    listed = {row["name"]: row for row in json.loads(texts[0])}
    zebras = [f"CodeGen{size}Zebra" for size in ("Nano", "Micro", "350M", "2B", "6B", "16B")]
    assert {*zebras, "Short", "CodeGen16BMono"} <= listed.keys()
    assert len(listed) == 24 + 6 + 1
    assert listed["CodeGen2BZebra"]["start"] == "CodeGen2BMono"
    assert listed["CodeGen2BZebra"]["tokens"] >= 10**9

    zebra, short = json.loads(texts[1])
    assert zebra["chain"] == [f"CodeGen2B{p}" for p in ("Zebra", "Mono", "Multi", "NL")]
    assert "--exp=mine.CodeGen2BZebra " in zebra["command"]
    assert "--exp=mine.Short " in short["command"] and short["steps"] == 20

    compared = {row["path"]: row["values"] for row in json.loads(texts[2])}
    assert compared["task.train.num_train_steps"] == {"CodeGenNanoMono": 3_300, "Short": 20}
    assert "task.model.lm_tpl.model_dims" not in compared
    compared = {row["path"]: row["values"] for row in json.loads(texts[3])}
    assert compared["datasets[0].mixture_name"] == {
        "CodeGenNanoMono": "codegen_nano_mono",
        "CodeGenNanoZebra": "codegen_nano_zebra",
    }
    compared = {row["path"]: row["values"] for row in json.loads(texts[6])}
    assert compared["task.train.num_train_steps"] == {"mine.Short": 20, "other.Short": 30}
    for module, steps, one in zip(("other", "mine"), (30, 20), json.loads(texts[4]), strict=True):
        assert (one["name"], one["steps"], one["details"]["published"]) == ("Short", steps, NOTHING)
        assert one["report"].endswith(f"--exp={module}.Short --job_log_dir=DIR")
        assert one["chain"] == ["Short", "CodeGenNanoMulti", "CodeGenNanoNL"]
