"""What Nano trains on and is evaluated on, read from this machine."""

import numpy as np
import pytest
import seqio

import tasks  # noqa: F401  (registers them)
from codegen_pax.data import installed
from codegen_pax.data.stream import inputs
from codegen_pax.text.vocabulary import vocabulary

B, T = 8, 256


# Both read the held-out tenth of the files: to tokenise the others takes ten times as long.
def training_batch(mixture):
    config = inputs.training_input(mixture, batch_size=B, row_length=T, seed=1, split="validation")
    return config.Instantiate().get_next_padded()


def evaluation_batch(mixture):
    return inputs.evaluation_input(mixture, batch_size=B, row_length=T).Instantiate().get_next()


@pytest.mark.parametrize("read", [training_batch, evaluation_batch])
def test_the_standard_library_is_read_in_full_rows(read):
    batch = read("codegen_nano_mono")
    assert batch.ids.shape == batch.labels.shape == (B, T)
    np.testing.assert_array_equal(batch.labels[:, :-1], batch.ids[:, 1:])
    assert np.all(batch.weights[:, :-1] == 1) and np.all(batch.weights[:, -1] == 0)
    assert np.all(batch.paddings == 0)
    source = seqio.TaskRegistry.get("codegen_nano_mono").source
    documents = [installed.text_document(file.path)[0] for file in source.files("validation")]
    text = vocabulary("codegen_2048").decode(batch.ids[0].tolist())
    third = len(text) // 3  # a row may go on in another file: some third of it is in one
    thirds = [text[n * third : (n + 1) * third] for n in range(3)]
    assert any(part in document for part in thirds for document in documents)


@pytest.mark.parametrize("read", [training_batch, evaluation_batch])
def test_an_instruction_row_is_predicted_in_its_answer_alone(read):
    """The labels with a weight are the answer and the end of text, word for word."""
    words = vocabulary("codegen_2048")
    task = seqio.TaskRegistry.get("codegen_nano_instruct")
    examples = task.get_dataset({"inputs": T, "targets": T}, "validation", shuffle=False)
    answers = {
        tuple(example["inputs"]): example["targets"].tolist()
        for example in examples.as_numpy_iterator()
    }
    batch = read("codegen_nano_instruct")
    for ids, labels, weights in zip(batch.ids, batch.labels, batch.weights, strict=True):
        predicted = np.flatnonzero(weights)
        prompt = tuple(ids[: predicted[0] + 1].tolist())
        assert labels[predicted].tolist() == answers[prompt]
        assert labels[predicted[-1]] == words.eos_id
        assert 0 < len(predicted) == predicted[-1] - predicted[0] + 1 < T - 1
