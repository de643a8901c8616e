"""The CODEGEN_* variables: what they may be, and that they are read in one place."""

import ast
from dataclasses import fields
from pathlib import Path

import pytest

from experiments.meshes import Mesh
from experiments.recipes import RECIPES
from experiments.settings import VARIABLES, Schedule, Settings, from_environment

PROJECT = Path(__file__).parents[2]
ENVIRONMENT = {
    "CODEGEN_DATA": "gs://bucket/corpora",
    "CODEGEN_EVALUATE": "codegen_pile,codegen_bigquery",
    "CODEGEN_MESH": "1x16x2",
    "CODEGEN_PROMPTS": "prompts.jsonl",
    "CODEGEN_RECIPE": "paper",
    "CODEGEN_SCHEDULE": "receipt",
    "CODEGEN_START_FROM": "scratch",
}


def test_every_variable_is_read_and_written():
    settings = from_environment(ENVIRONMENT | {"HOME": "/home", "codegen_data": "not ours"})
    assert settings == Settings(
        data="gs://bucket/corpora",
        evaluate=("codegen_pile", "codegen_bigquery"),
        mesh=Mesh((1, 16, 2)),
        prompts="prompts.jsonl",
        recipe=RECIPES["paper"],
        schedule=Schedule.RECEIPT,
        start_from="scratch",
    )
    assert settings.to_environment() == ENVIRONMENT
    assert {variable.name for variable in VARIABLES.values()} == set(ENVIRONMENT)
    assert [*VARIABLES] == [field.name for field in fields(Settings)]


def test_what_is_unset_or_empty_is_not_there():
    assert from_environment({}) == from_environment(dict.fromkeys(ENVIRONMENT, " ")) == Settings()
    assert Settings().to_environment() == {}


def test_every_variable_is_described():
    for variable in VARIABLES.values():
        for text in (variable.values, variable.default, variable.description):
            assert text and "\n" not in text
        assert variable.description.endswith(".")


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"CODEGEN_MESH": "1x8"}, "CODEGEN_MESH=1x8: mesh '1x8': expected replica x data x mdl"),
        ({"CODEGEN_MESH": "8"}, "CODEGEN_MESH=8: mesh '8': expected replica x data x mdl"),
        ({"CODEGEN_RECIPE": "papr"}, "CODEGEN_RECIPE: no recipe is called 'papr'; nearest: paper"),
        (
            {"CODEGEN_SCHEDULE": "reciept"},
            "CODEGEN_SCHEDULE: no schedule is called 'reciept'; nearest: receipt",
        ),
        # Silently ignored, it would be a run on what was not meant.
        ({"CODEGEN_MESHES": "1x8x1"}, "is called 'CODEGEN_MESHES'; nearest: CODEGEN_MESH"),
        ({"CODEGEN_START": "job"}, "is called 'CODEGEN_START'; nearest: CODEGEN_START_FROM"),
    ],
)
def test_a_wrong_value_or_name_is_one_line(environment, message):
    with pytest.raises((ValueError, KeyError)) as error:
        from_environment(environment)
    assert message in str(error.value) and "\n" not in str(error.value)


def reads_of_the_environment(path: Path) -> set[str]:
    """Names of variables that a file may read: of constants, in `os.environ` or `os.getenv`."""
    actual = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv"):
            actual.add(node.attr)
    return actual


def test_they_are_read_in_one_place():
    """Elsewhere their names stand in prose and messages alone, and nothing reads the whole."""
    files = [PROJECT / "codegen.py"]
    files += [
        path
        for room in ("experiments", "tasks", "codegen_pax")
        for path in (PROJECT / room).rglob("*.py")
    ]
    for path in files:
        if path == PROJECT / "experiments" / "settings.py":
            continue
        place = path.relative_to(PROJECT).parts
        if place[0] != "codegen_pax":
            assert not reads_of_the_environment(path), path
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            # os.environ.get(NAME), os.environ[NAME], os.environ.pop(NAME), os.getenv(NAME)
            if isinstance(node, ast.Call) and "environ" in ast.unparse(node.func):
                names = map(ast.unparse, node.args)
            elif isinstance(node, ast.Subscript) and "environ" in ast.unparse(node.value):
                names = [ast.unparse(node.slice)]
            else:
                continue
            for name in names:
                assert "CODEGEN" not in name and "_VARIABLE" not in name, f"{path}: {name}"
