"""The package, built as for someone who has no checkout."""

import re
import shutil
import subprocess
import sys
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LOCKS = ("base.txt", "docs.txt", "gpu.txt", "test.txt", "torch.txt", "tpu.txt")
# Build from what git would hold, in another place: a build writes beside its sources.
SOURCES = ("codegen_pax", "experiments", "requirements", "tasks", "codegen.py", "setup.py")
SOURCES += ("pyproject.toml", "MANIFEST.in", "README.md", "CHANGELOG.md", "LICENSE")


def pins(name):
    text = (ROOT / "requirements" / name).read_text()
    return set(re.findall(r"^([\w.-]+==\S+)", text, re.MULTILINE))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    home = tmp_path_factory.mktemp("package")
    ignore = shutil.ignore_patterns("__pycache__")
    for name in SOURCES:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, home / name, symlinks=True, ignore=ignore)
        else:
            shutil.copy(source, home)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps"]
    command += ["--no-build-isolation", "--wheel-dir", str(home / "dist"), str(home)]
    subprocess.run(command, check=True)
    (path,) = (home / "dist").glob("*.whl")
    with zipfile.ZipFile(path) as opened:
        yield opened


@pytest.fixture(scope="module")
def metadata(wheel):
    (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    return Parser().parsestr(wheel.read(name).decode())


@pytest.mark.parametrize("name", LOCKS)
def test_the_lock_travels_with_the_package(wheel, name):
    packed = wheel.read(f"codegen_pax/environment/requirements/{name}")
    assert packed == (ROOT / "requirements" / name).read_bytes()


def test_every_module_is_in_the_package_and_no_test(wheel):
    packed = {name for name in wheel.namelist() if name.endswith(".py")}
    sources = {"codegen.py"}
    for top in ("codegen_pax", "experiments", "tasks"):
        sources |= {str(path.relative_to(ROOT)) for path in (ROOT / top).rglob("*.py")}
    assert packed == sources


def test_it_is_for_python_3_11_and_brings_its_command(wheel, metadata):
    assert set(metadata["Requires-Python"].split(",")) == {">=3.11", "<3.12"}
    (name,) = (name for name in wheel.namelist() if name.endswith("entry_points.txt"))
    assert "codegen-pax = codegen_pax.cli.core.main:main" in wheel.read(name).decode()


@pytest.mark.parametrize("name", ["codegen_pax", "experiments", "tasks"])
def test_type_checkers_are_told_that_it_is_typed(wheel, name):
    assert f"{name}/py.typed" in wheel.namelist()


def test_its_licence_and_description_travel_with_it(wheel, metadata):
    assert metadata["License"] == "Apache-2.0" or metadata["License-Expression"] == "Apache-2.0"
    (name,) = (name for name in wheel.namelist() if name.endswith("/LICENSE"))
    assert wheel.read(name) == (ROOT / "LICENSE").read_bytes()
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert metadata.get_payload().strip() == (ROOT / "README.md").read_text().strip()


def test_what_it_requires_is_as_locked(metadata):
    base = {value for value in metadata.get_all("Requires-Dist") if ";" not in value}
    assert {"jax==0.5.3", "paxml==1.4.0", "numpy==1.26.4"} <= base <= pins("base.txt")


@pytest.mark.parametrize(
    ("extra", "files"),
    [
        ("tpu", ["tpu.txt"]),
        ("gpu", ["gpu.txt"]),
        ("hf", ["test.txt", "torch.txt"]),
        ("docs", ["docs.txt"]),
        ("dev", ["docs.txt", "test.txt", "torch.txt"]),
    ],
)
def test_an_extra_is_as_locked(metadata, extra, files):
    assert extra in metadata.get_all("Provides-Extra")
    expected = {
        value.split(";")[0].strip()
        for value in metadata.get_all("Requires-Dist")
        if f'extra == "{extra}"' in value
    }
    assert expected
    assert expected <= set().union(*(pins(name) for name in files))
