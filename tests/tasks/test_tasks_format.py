"""One format of prompts: what is decoded begins as a training row of the same turn."""

import json

import numpy as np
import pytest
import seqio
import tensorflow as tf

import tasks  # noqa: F401  registers them
from codegen_pax.data.prepare.settings import Settings
from codegen_pax.data.seqio_sources import set_corpora_folder
from codegen_pax.data.stream import inputs as pax_inputs
from codegen_pax.text.instruction_format import instruction_answer, instruction_prompt
from tasks import definition
from tasks.prompt_texts import NANO_INSTRUCTIONS
from tests.data.prepared_corpora import prepare_corpus

T = 96
ANSWERS = [f"    return {number}" for number in range(len(NANO_INSTRUCTIONS))]


@pytest.fixture
def conversations(tmp_path, monkeypatch):
    """The task over a corpus prepared from the instructions, in the form that people have."""
    names = ("instruction", "input", "output")
    turns = [(*turn, answer) for turn, answer in zip(NANO_INSTRUCTIONS, ANSWERS, strict=True)]
    raw = tmp_path / "instructions.jsonl"
    raw.write_text("".join(json.dumps(dict(zip(names, t, strict=True))) + "\n" for t in turns))
    output = str(tmp_path / "data" / "instruction")
    prepare_corpus(Settings("instruction", output, row_length=T, validation=0.0), raw)
    set_corpora_folder(tmp_path / "data")
    return "codegen_instruction"


@pytest.fixture
def pairs():
    """A task over pairs, as Nano's, of the same instructions."""

    def read(split, shuffle_files, seed=None):
        prompts = [instruction_prompt(*turn) for turn in NANO_INSTRUCTIONS]
        answers = [instruction_answer(answer) for answer in ANSWERS]
        return tf.data.Dataset.from_tensor_slices({"inputs": prompts, "targets": answers})

    source = seqio.FunctionDataSource(read, splits=["train"])
    yield definition.pair_task("test_format_pairs", source, "codegen").name
    seqio.TaskRegistry.remove("test_format_pairs")


@pytest.mark.parametrize("trained_on", ["conversations", "pairs"])
def test_a_decoded_prompt_is_what_its_training_row_begins_with(trained_on, request):
    name, count = request.getfixturevalue(trained_on), len(NANO_INSTRUCTIONS)
    config = pax_inputs.training_input(name, batch_size=count, row_length=T, seed=0)
    rows = config.Instantiate().get_next_padded()
    # The label of the last token of a prompt is the first that counts.
    begins = [row[: np.argmax(w > 0) + 1] for row, w in zip(rows.ids, rows.weights, strict=True)]

    config = pax_inputs.decoding_input(
        "codegen_nano_prompts_instruct", batch_size=count, prompt_length=64
    )
    decoded = config.Instantiate().get_next_padded()
    prompts = [ids[:size] for ids, size in zip(decoded.ids, decoded.prefix_lengths, strict=True)]
    assert sorted(map(bytes, prompts)) == sorted(map(bytes, begins))
    words = seqio.TaskRegistry.get(name).output_features["targets"].vocabulary
    assert [words.decode(prompt) for prompt in prompts] == [
        instruction_prompt(*turn) for turn in NANO_INSTRUCTIONS
    ]
