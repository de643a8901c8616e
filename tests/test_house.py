"""Rules of the repository: imports run one way, and no file names a machine."""

import ast
import re
import subprocess
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1]
# From top to bottom: a package may import those after it, and itself.
LAYERS = ("codegen", "experiments", "tasks", "codegen_pax")
INDEPENDENT = {"model", "training", "text"}  # packages of codegen_pax that import no sibling
SHARED = {
    "devices",
    "errors",
    "floats",
    "git_lfs",
    "decoding_limits",
    "messages",
    "silent_imports",
}  # modules of codegen_pax that any of its packages may import
COMMAND = "cli"  # the only package of codegen_pax that may import experiments and tasks


def sources() -> list[Path]:
    packages = [path for floor in LAYERS[1:] for path in (PROJECT / floor).rglob("*.py")]
    return [PROJECT / "codegen.py", *sorted(packages)]


def imported(path: Path) -> set[str]:
    """The modules a file imports anywhere in it, by their full names."""
    actual = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            actual |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            actual |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return actual


def tracked() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=True,
    )
    return [PROJECT / name for name in listed.stdout.splitlines()]


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(PROJECT)))
def test_imports_run_one_way(path):
    place = path.relative_to(PROJECT).with_suffix("").parts
    layer = LAYERS.index(place[0])
    for name in imported(path):
        module = name.split(".")
        if module[0] not in LAYERS:
            continue
        if place[:2] != ("codegen_pax", COMMAND):
            assert LAYERS.index(module[0]) >= layer, f"{path} imports {name}, of a higher layer"
            assert module[:2] != ["codegen_pax", COMMAND], f"{path} imports the command"
        if place[0] == "codegen_pax" and place[1] in INDEPENDENT and len(module) > 1:
            assert module[1] in {place[1], *SHARED}, f"{path} imports {name}, a sibling"


@pytest.mark.parametrize("name", ["experiments/sizes.py", "experiments/phases.py"])
def test_the_two_tables_import_little(name):
    actual = imported(PROJECT / name) - {"codegen_pax", "codegen_pax.messages"}
    actual -= {name for name in actual if name.startswith("codegen_pax.errors")}
    roots = {module.split(".")[0] for module in actual}
    assert roots <= {
        "__future__",
        "collections",
        "dataclasses",
        "enum",
        "types",
        "typing",
        "experiments",
    }


def test_nothing_names_a_machine():
    machine = re.compile(r"(^|[^\w./-])/(root|work|home)/")
    for path in tracked():
        if path.suffix in {".py", ".md", ".txt", ".sh", ".toml", ""} and path.is_file():
            for number, line in enumerate(path.read_text().splitlines(), 1):
                where = f"{path.relative_to(PROJECT)}:{number}"
                assert path == Path(__file__) or not machine.search(line), where
