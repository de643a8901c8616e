"""`codegen-pax sample`: what it asks the model, what it prints, and what it refuses."""

import numpy as np
import pytest

from codegen_pax.cli.main import main
from codegen_pax.runs import sampling
from codegen_pax.text.prompts import instruction_prompt
from codegen_pax.text.vocabulary import vocabulary

WORDS = vocabulary("codegen")


@pytest.fixture
def sample(tmp_path, monkeypatch):
    """Runs the verb on a run of an experiment, whose model answers with the same texts always."""
    asked = []

    def run(experiment, prompt, *options, answers=("    return 1\n",)):
        def continue_prompts(network, checkpoint, prompts, decoder, seed):
            assert str(checkpoint) == str(tmp_path / "checkpoints" / "checkpoint_00000003")
            asked.extend(prompts)
            return [[np.array([*WORDS.encode(text), WORDS.eos_id]) for text in answers]]

        (tmp_path / "checkpoints" / "checkpoint_00000003").mkdir(parents=True, exist_ok=True)
        monkeypatch.setattr(sampling, "continue_prompts", continue_prompts)
        status = main(
            ["sample", str(tmp_path), prompt, f"--experiment=CodeGenNano{experiment}", *options]
        )
        return status, asked

    return run


def test_a_run_on_all_tokens_goes_on_with_the_text(sample, capsys):
    prompt = "def one():\n"
    assert sample("Mono", prompt) == (0, [WORDS.encode(prompt)])
    assert capsys.readouterr().out == "def one():\n    return 1\n\n"


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
    ("experiment", "prompt", "options", "said"),
    [
        ("Mono", "x", ["--samples=0"], "--samples 0, --length 128: wanted at least 1 of each"),
        ("Mono", "x", ["--length=0"], "--samples 1, --length 0: wanted at least 1 of each"),
        ("Mono", "x", ["--temperature=0", "--samples=2"], "--samples 2 at --temperature 0 would"),
        ("Mono", "x", ["--temperature=-1"], "temperature must be above 0, found -1.0"),
        ("Mono", "x", ["--top-p=0"], "top_p must be above 0 and at most 1, found 0.0"),
        ("Mono", "x " * 3_000, [], "the prompt has 3001 tokens; wanted at most 255"),
        ("Instruct", " \n", [], "the prompt is empty; wanted an instruction to answer"),
    ],
)
def test_bad_use_is_told(experiment, prompt, options, said, sample, capsys):
    assert sample(experiment, prompt, *options) == (2, [])
    assert capsys.readouterr().err.startswith(f"codegen-pax: {said}")
