"""The commands on the pages: those labelled `run` are run, and the names in all of them exist."""

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest

from docs import generate
from experiments.settings import VARIABLES
from tests import pax_process
from tests.docs.pages import PAGES, PROJECT, SITE, blocks, code

LABELS = {"run", "long", "tpu", "form"}
TARGETS = set(re.findall(r"^([a-z]+):", (PROJECT / "Makefile").read_text(), re.MULTILINE))
# Runs commands one after the other in one process, which imports Pax once for all of them.
DRIVER = """
import json, sys, traceback
from codegen_pax.cli.core.main import main

if __name__ == "__main__":
    for words in json.loads(sys.argv[1]):
        status = main(words)
        if status:
            sys.exit(f"status {status}: codegen-pax {' '.join(words)}")
"""


@pytest.fixture(scope="module")
def experiments():
    return {row["name"] for row in json.loads(generate.command("list", "--json"))}


@pytest.fixture(scope="module")
def helps():
    return {verb: generate.command(verb, "--help") for verb in generate.verbs()}


def test_every_block_of_commands_says_who_runs_it():
    for block in blocks(SITE):
        if block.language == "bash":
            assert block.label in LABELS, f"{block.page}: {block.text}"


def test_commands_that_are_labelled_run_do(tmp_path):
    shared = tmp_path / "our" / "repositories" / "tools"
    shared.mkdir(parents=True)
    library = Path(json.__file__).parents[1]
    for name in ("argparse", "textwrap", "dataclasses", "ast", "shlex", "heapq"):
        shutil.copy(library / f"{name}.py", shared)
    commands = []
    for block in blocks(SITE):
        if block.label == "run" and block.language == "python":
            name, _, _ = block.text.partition("\n")
            assert re.fullmatch(r"# \w+\.py", name), f"{block.page}: the first line names the file"
            (tmp_path / name.removeprefix("# ")).write_text(block.text)
        elif block.label == "run":
            commands += map(shlex.split, block.commands())
    assert len(commands) > 5
    assert {words[0] for words in commands} == {"codegen-pax"}
    (tmp_path / "run_commands.py").write_text(DRIVER)
    words = json.dumps([words[1:] for words in commands])
    done = pax_process.run("run_commands", [words], tmp_path)
    assert done.returncode == 0, done.stderr[-4000:]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_verbs_options_targets_variables_and_experiments_exist(path, experiments, helps):
    variables = {variable.name for variable in VARIABLES.values()}
    for text in code(path):
        ours, _, _ = text.partition(" -- ")  # what follows belongs to a runner
        for actual in re.finditer(r"codegen-pax ([a-z]\S*)([^`&|]*)", ours):
            assert actual[1] in helps, f"{path.name}: {text}"
            for option in re.findall(r"--[\w-]+", actual[2]):
                assert option in helps[actual[1]], f"{path.name}: {text} has no {option}"
        for actual in re.finditer(r"(?:^|&& )make ([a-z]+)", text):
            assert actual[1] in TARGETS, f"{path.name}: {text}"
        for name in re.findall(r"\bCODEGEN_[A-Z_]*[A-Z]\b", text):
            assert name in variables, f"{path.name}: {text}"
        for name in re.findall(r"\bCodeGen(?:Nano|\d+[MB])\w+", text):
            assert name in experiments or name.endswith(("Rust", "Ours")), f"{path.name}: {text}"
