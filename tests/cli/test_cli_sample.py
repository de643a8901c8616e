"""`codegen-pax sample`: what it asks the model, what it prints, and what it refuses."""

import io
import os
import subprocess
import sys

import numpy as np
import pytest

from codegen_pax.cli.core.main import main
from codegen_pax.runs import completions
from codegen_pax.text.instruction_format import instruction_prompt
from codegen_pax.text.vocabulary import vocabulary

WORDS = vocabulary("codegen")


@pytest.fixture
def sample(tmp_path, monkeypatch):
    """Runs the verb on a run of an experiment, whose model answers with the same texts always."""
    asked = []

    def run(experiment, prompt, *options, answers=("    return 1\n",)):
        def continue_prompts(checkpoint, shapes, head_dims, rotary_dims, prompts, decoding, dtype):
            assert str(checkpoint) == str(tmp_path / "checkpoints" / "checkpoint_00000003")
            asked.extend(prompts)
            return [[np.array([*WORDS.encode(text), WORDS.eos_id]) for text in answers]]

        (tmp_path / "checkpoints" / "checkpoint_00000003").mkdir(parents=True, exist_ok=True)
        monkeypatch.setattr(completions, "continue_prompts", continue_prompts)
        status = main(
            ["sample", str(tmp_path), prompt, f"--experiment=CodeGenMicro{experiment}", *options]
        )
        return status, asked

    return run


def test_a_run_on_all_tokens_goes_on_with_the_text(sample, capsys):
    prompt = "def one():\n"
    assert sample("Mono", prompt) == (0, [WORDS.encode(prompt)])
    assert capsys.readouterr().out == "def one():\n    return 1\n\n"
    # The run's own recipe and mesh are no setting of what this process does next.
    assert not [name for name in os.environ if name.startswith("CODEGEN_")]


def test_a_run_that_answers_is_asked_as_it_was_trained(sample, capsys):
    prompt = "Return 1.\n\n### Input:\ndef one():\n"
    assert sample("Instruct", prompt) == (0, [WORDS.encode(instruction_prompt(prompt))])
    assert capsys.readouterr().out == ("Return 1.\n\n### Input:\ndef one():\n\n    return 1\n\n")


def test_an_end_of_text_in_an_instruction_is_text(sample):
    _, (ids,) = sample("Instruct", "What is <|endoftext|>?")
    assert WORDS.eos_id not in ids
    assert WORDS.decode(ids) == instruction_prompt("What is <|endoftext|>?")


def test_every_answer_is_numbered(sample, capsys):
    sample("Instruct", "Count.", "--samples=2", answers=("one\n", "two\n"))
    assert capsys.readouterr().out == (
        "--- sample 1 of 2\nCount.\n\none\n\n--- sample 2 of 2\nCount.\n\ntwo\n\n"
    )


@pytest.mark.parametrize(
    ("experiment", "prompt", "options", "message"),
    [
        ("Mono", "x", ["--samples=0"], "--samples: samples must be from 1 to 10,000; found 0"),
        (
            "Mono",
            "x",
            ["--samples=10001"],
            "--samples: samples must be from 1 to 10,000; found 10001",
        ),
        ("Mono", "x", ["--length=0"], "--length: length must be at least 1 new token; found 0"),
        ("Mono", "x", ["--temperature=0", "--samples=2"], "--samples 2 at --temperature 0 would"),
        *(
            ("Mono", "x", [f"--temperature={t}"], "--temperature: temperature must be from 1e-05")
            for t in ("-1", "nan", "inf", "-inf", "1e-40", "9e-6", "101")
        ),
        *(
            ("Mono", "x", [f"--top-p={p}"], "--top-p: top_p must be above 0 and at most 1, found")
            for p in ("0", "nan", "1.01", "-0.5", "inf")
        ),
        *(
            ("Mono", "x", [f"--seed={seed}"], "--seed: seed must be from 0 to 4,294,967,295; found")
            for seed in ("-1", "4294967296", "18446744073709551615")
        ),
        ("Mono", "x " * 3_000, [], "the prompt has 3,001 tokens; expected at most 255"),
        ("Mono", "a\udcff", [], "the prompt is not UTF-8: found byte 0xff at 1"),
        ("Instruct", " \n", [], "the prompt is empty; expected an instruction to answer"),
    ],
)
def test_bad_use_is_told(experiment, prompt, options, message, sample, capsys):
    assert sample(experiment, prompt, *options) == (2, [])
    assert capsys.readouterr().err.startswith(f"codegen-pax: {message}")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the prompt on standard input is empty; expected text"),
        (b"def \xc3(", "the prompt on standard input is not UTF-8: found byte 0xc3 at 4"),
        ("def f():".encode("utf-16"), "the prompt on standard input is not UTF-8: found byte 0xff"),
        (b"a\0b", "the prompt on standard input is not text: found a NUL at 1"),
        (b"x" * (2 << 20), "the prompt on standard input has over 1,048,576 bytes"),
        (b"x " * 3_000, "the prompt has 3,001 tokens; expected at most 255"),
    ],
)
def test_what_is_no_prompt_on_standard_input(content, message, sample, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))
    assert sample("Mono", "-") == (2, [])
    assert capsys.readouterr().err.startswith(f"codegen-pax: {message}")


def test_a_prompt_on_standard_input(sample, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO("é = 1\n".encode()), "ascii"))
    assert sample("Mono", "-") == (0, [WORDS.encode("é = 1\n")])
    monkeypatch.setattr("sys.stdin", None)
    assert sample("Mono", "-")[0] == 2
    assert "standard input is closed" in capsys.readouterr().err


def test_letters_that_the_output_does_not_spell(sample, monkeypatch):
    """As in a locale of ISO-8859-1."""
    written = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(written, "iso-8859-1"))
    assert sample("Mono", "é = 1\n", answers=("ł = 2\n",))[0] == 0
    assert written.getvalue() == b"\xe9 = 1\n\\u0142 = 2\n\n"


def test_the_seeds_and_temperatures_at_the_ends_are_taken(sample):
    assert sample("Mono", "x", "--seed=4294967295", "--temperature=1e-5")[0] == 0
    assert sample("Mono", "x", "--seed=0", "--temperature=100", "--top-p=1e-9")[0] == 0


def test_a_folder_that_is_not_there_is_told_before_anything_is_imported(tmp_path):
    """TensorFlow, JAX and Pax take half a minute to import."""
    program = (
        "import sys; from codegen_pax.cli.core.main import main; "
        f"status = main(['sample', {str(tmp_path / 'nowhere')!r}, 'x']); "
        "sys.exit(status if not {'jax', 'tensorflow', 'paxml'} & set(sys.modules) else 99)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.endswith("nowhere is not a directory; expected a run's folder\n")
