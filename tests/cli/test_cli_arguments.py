"""A run's folder is data: whatever it names, nothing of it runs but what `--module` names."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from codegen_pax.cli.core.arguments import open_job
from codegen_pax.cli.core.main import main
from codegen_pax.errors import UsageError
from codegen_pax.runs import lineage

ROOT = Path(__file__).parents[2]
RECEIPT = {
    "format": 1,
    "kind": "training",
    "experiment": "CodeGenNanoMono",
    "class": "payload.Mine",
    "recipe": "jaxformer",
    "mesh": "1x1x1",
    "mixture": "codegen_nano_mono",
    "steps": 180,
    "batch_tokens": 1024,
    "data": [],
    "parents": [],
    "versions": {},
}
# Names that the project, or what it stands on, imports while it works.
PAYLOADS = ("payload", "codegen", "experiments", "tasks", "rich", "jax", "tensorflow", "helper")
MODULE = """
import dataclasses
from paxml import experiment_registry
from experiments import registry
from experiments.declaration import find_declaration
registry.register_all()
@experiment_registry.register
class {name}(registry.experiment_class("CodeGenNanoMono")):
    DECLARATION = dataclasses.replace(find_declaration("CodeGenNanoMono"), steps=7)
"""


@pytest.fixture
def run(tmp_path, monkeypatch):
    """The folder of a run, and working directory, full of modules that leave a mark if they run."""
    folder = tmp_path / "somewhere"
    lineage.write(folder, RECEIPT)
    (folder / "checkpoints" / "checkpoint_00000007").mkdir(parents=True)
    for name in PAYLOADS:
        (folder / f"{name}.py").write_text(
            f"open({str(tmp_path / 'ran')!r}, 'a').write('{name}')\n"
        )
    monkeypatch.chdir(folder)
    yield folder
    assert not (tmp_path / "ran").exists(), (tmp_path / "ran").read_text()


@pytest.mark.parametrize(
    "command",
    [("export", "hf", ".", "../out"), ("export", "gptj", ".", "../out"), ("sample", ".", "x")],
    ids=lambda command: command[0],
)
def test_what_a_lineage_names_is_not_imported(command, run, capsys):
    assert main(list(command)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == (
        "codegen-pax: . is a run of 'Mine' of the module 'payload', as its lineage.json says: give "
        "--module payload if you trust it, since its code will run"
    )


def test_nothing_of_the_folder_runs_when_it_is_shown(run, capsys):
    assert main(["show", "."]) == 0
    assert "payload.Mine" in capsys.readouterr().out


def test_what_is_named_runs_and_nothing_else_of_the_folder(run, tmp_path, capsys):
    """It imports two others, of which the folder has its own."""
    (run / "payload.py").write_text("import rich\nimport tasks\n" + MODULE.format(name="Mine"))
    assert main(["export", "hf", ".", "../out", "--module", "payload"]) == 1
    assert "holds no weights" in capsys.readouterr().err
    assert str(run) not in sys.path
    sys.modules.pop("payload")


def test_nor_when_python_puts_the_folder_first_on_its_path(run):
    """As `python -m` does, which a person runs who has not installed the command."""
    done = subprocess.run(
        [sys.executable, "-m", "codegen_pax.cli.core.main", "show", ".", "--json"],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)[0]["class"] == "payload.Mine"


@pytest.mark.parametrize("message", ["..x.Mine", "pay load.Mine", "-c.Mine", "a\x1b[2J.Mine"])
def test_what_is_no_name_of_a_module_is_not_to_be_given(message, run, capsys):
    lineage.write(run, RECEIPT | {"class": message})
    assert main(["export", "hf", ".", "../out"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "which is in no --module given" in line and "\x1b" not in line


@pytest.fixture
def modules(tmp_path, monkeypatch):
    """Two modules of a person's own, of other names than the lineage knows."""
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "renamed_module.py").write_text(MODULE.format(name="Mine"))
    (folder / "same_name.py").write_text(MODULE.format(name="CodeGenNanoMono"))
    monkeypatch.syspath_prepend(folder)


def test_a_module_that_was_renamed_is_the_runs_and_the_one_of_the_tables_is_not(run, modules):
    declaration = open_job(".", None, ["renamed_module"]).declaration
    assert (declaration.module, declaration.name) == ("renamed_module", "Mine")
    assert declaration.steps == 7
    # A class that is called as one of the tables is not that one.
    lineage.write(run, RECEIPT | {"class": "same_name.CodeGenNanoMono"})
    with pytest.raises(UsageError, match="--module same_name"):
        open_job(".", None, [])
    assert open_job(".", None, ["same_name"]).declaration.steps == 7
    lineage.write(run, RECEIPT | {"class": "codegen.CodeGenNanoMono"})
    assert open_job(".", None, ["same_name"]).declaration.module == "codegen"


def test_a_recipe_of_the_environment_is_not_the_runs(run, monkeypatch):
    lineage.write(run, RECEIPT | {"class": "codegen.CodeGenNanoMono", "recipe": "paper"})
    monkeypatch.setenv("CODEGEN_RECIPE", "jaxformer")
    assert open_job(".", None, []).declaration.recipe.name == "paper"


def declared(vocab_size, vocabulary="codegen"):
    """The receipt of a run of the tables, two layers of 128 dims."""
    size = {"name": "Nano", "layers": 2, "model_dims": 128, "heads": 4, "vocab_size": vocab_size}
    phase = {"name": "Mono", "vocabulary": vocabulary}
    return RECEIPT | {
        "class": "codegen.CodeGenNanoMono",
        "declared": {"size": size, "phase": phase, "by_hand": {}},
    }


@pytest.mark.parametrize("name", [None, "CodeGenMicroMono"])
def test_a_run_of_an_older_table_is_of_the_experiment_with_its_network(run, name):
    """Nano had the full vocabulary once; Micro has that network now."""
    lineage.write(run, declared(51_200))
    assert open_job(".", name, []).declaration.name == "CodeGenMicroMono"
    lineage.write(run, declared(2_048, "codegen_2048"))
    assert open_job(".", None, []).declaration.name == "CodeGenNanoMono"


def test_a_network_that_no_experiment_has_is_named(run):
    lineage.write(run, declared(4_096))
    with pytest.raises(UsageError, match=r"CodeGenNanoMono has: vocab_size 4096 \(now 2048\)"):
        open_job(".", None, [])
