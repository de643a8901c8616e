"""What the pages say of files, tests and packages is so."""

import ast
import re
import tomllib
from urllib.parse import urldefrag

import pytest

from docs import generate
from tests.docs.pages import PAGES, PROJECT, code

FILE = re.compile(
    r"(codegen_pax|experiments|tasks|tests|benchmarks|docs|requirements)(/[\w.-]+)+/?"
    r"|[A-Z]+\.md|Dockerfile|Makefile|(setup|codegen)\.py"
)
MADE = {"docs/generated"}  # by a build


def pins(name):
    lines = (PROJECT / "requirements" / f"{name}.txt").read_text().splitlines()
    return {line.split("==")[0] for line in lines if "==" in line and not line.startswith("#")}


@pytest.fixture(scope="module")
def names_of_tests():
    texts = (path.read_text(encoding="utf-8") for path in (PROJECT / "tests").rglob("test_*.py"))
    return {name for text in texts for name in re.findall(r"^def (test_\w+)", text, re.MULTILINE)}


def test_the_readme_is_short():
    assert len((PROJECT / "README.md").read_text().splitlines()) <= 150


def test_the_readmes_table_is_that_of_the_experiments():
    """`python -m docs.generate` writes it anew."""
    text = (PROJECT / "README.md").read_text(encoding="utf-8")
    assert generate.README_TABLE.search(text)
    assert generate.with_readme_table(text) == text


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_files_that_are_named_exist(path):
    for name in code(path):
        if FILE.fullmatch(name) and name not in MADE:
            assert (PROJECT / name).exists() or (path.parent / name).exists(), name


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_tests_that_are_named_exist(path, names_of_tests):
    named = {name for name in code(path) if re.fullmatch(r"test_\w+", name)}
    assert named <= names_of_tests


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_links_of_files_outside_the_site_lead_somewhere(name):
    text = (PROJECT / name).read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)]+)\)", text):
        address, place = urldefrag(link)
        if "://" in address:
            continue
        target = PROJECT / address
        assert target.is_file(), link
        if place:
            titles = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.MULTILINE)
            anchors = {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}
            assert place in anchors, link


def test_every_chosen_package_has_a_reason():
    """A reason for each package of setup.py's list; none for a package that is not pinned."""
    reasons = tomllib.loads((PROJECT / "docs" / "dependencies.toml").read_text(encoding="utf-8"))
    named = {name for entries in reasons.values() for one in entries for name in one["packages"]}
    module = ast.parse((PROJECT / "setup.py").read_text())
    (direct,) = (
        ast.literal_eval(node.value)
        for node in module.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "DIRECT"
    )
    assert set(direct) <= named
    locked = set().union(*(pins(name) for name in ("base", "docs", "test", "torch")))
    assert named <= locked
    chosen = re.findall(
        r"^([\w-]+)==.*# chosen", (PROJECT / "requirements/docs.txt").read_text(), re.M
    )
    assert set(chosen) <= named


def test_the_image_is_what_make_setup_makes():
    text = (PROJECT / "Dockerfile").read_text()
    assert re.search(r"^RUN make setup PYTHON=\S*python3\.11$", text, re.MULTILINE)
    assert re.search(r"^FROM python:3\.11-slim-\w+ AS setup$", text, re.MULTILINE)
    beam = (PROJECT / "requirements" / "base.txt").read_text()
    version = re.search(r"^apache-beam==(\S+)$", beam, re.MULTILINE)[1]
    assert f"FROM apache/beam_python3.11_sdk:{version} AS boot" in text
    # No other step installs a Python package but the files of requirements/.
    installed = re.findall(r"pip install.*", text)
    assert installed
    assert all('-r "requirements/$EXTRA.txt"' in line for line in installed)
    ignored = (PROJECT / ".dockerignore").read_text().split()
    assert not {"requirements", "README.md", "LICENSE", "Makefile"} & set(ignored)
