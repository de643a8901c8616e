"""A reader of a pipe that has gone (`codegen-pax … | head`) ends every verb with status 141."""

import contextlib
import json
import os
import sys
from pathlib import Path

import pytest

from codegen_pax import cli
from codegen_pax.cli.core.main import main
from tests.cli.wide_networks import EXPERIMENT, WIDE, here, tell_apart

pytestmark = pytest.mark.usefixtures(here.__name__)


@contextlib.contextmanager
def reader_gone(*streams):
    """Lets streams of this process lead into a pipe that nobody reads."""
    with contextlib.ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        for name in streams:
            reader, writer = os.pipe()
            os.close(reader)
            patch.setattr(sys, name, stack.enter_context(os.fdopen(writer, "w")))
        yield


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """What the verbs read: a network of transformers, a job, raw files and a corpus."""
    folder = tmp_path_factory.mktemp("files")
    tell_apart(WIDE.hugging_face()).save_pretrained(folder / "source")
    record = {"text": "words " * 400, "meta": {"pile_set_name": "Books3"}}
    (folder / "raw.jsonl").write_text(f"{json.dumps(record)}\n")
    prepare = ["prepare", "pile", "--input", "raw.jsonl", "--output", "corpus"]
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(os.getcwd())
        patch.chdir(folder)
        assert main([*prepare, "--row-length=64", "--validation=0", "--workers=1"]) == 0
    return folder


VERBS = {
    "help": ["--help"],
    "list": ["list"],
    "list --json": ["list", "--json"],
    "show": ["show", "CodeGen16BMono"],
    "compare": ["compare", "CodeGenNanoNL", "CodeGenNanoMono"],
    "doctor": ["doctor"],
    "run": ["run", "CodeGenNanoMono", "--output", "{files}/run"],
    "prepare": [
        *("prepare", "pile", "--input", "{files}/raw.jsonl", "--output", "{files}/again"),
        *("--row-length=64", "--validation=0", "--workers=1"),
    ],
    "trace": ["trace", "{files}/corpus/train-00000-of-00001.tfrecord", "0"],
    "import": ["import", "hf", "{files}/source", *EXPERIMENT, "--output", "{files}/job"],
}


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_is_quiet(verb, files, capfd):
    with reader_gone("stdout"):
        assert main([word.format(files=files) for word in VERBS[verb]]) == 141
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("arguments", [["lst"], ["show", "no/such/run"]])
def test_an_error_that_nobody_reads_is_no_other_error(arguments):
    with reader_gone("stdout", "stderr"):
        assert main(arguments) == 141


def test_no_verb_prints_by_a_console_of_its_own():
    for path in Path(cli.__file__).parent.rglob("*.py"):
        assert path.name == "terminal.py" or "Console(" not in path.read_text(), path
