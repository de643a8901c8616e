"""Documents to rows: the preprocessors of seqio's tasks."""

import pytest
import seqio
import tensorflow as tf

from codegen_pax.data.format import rows
from codegen_pax.text.vocabulary import vocabulary

END = 50256


def documents_dataset(texts):
    return tf.data.Dataset.from_tensor_slices({"targets": texts})


TEXT_FEATURES = {"targets": seqio.Feature(vocabulary("codegen"), add_eos=True)}


@pytest.mark.parametrize("length", [1, 3, 7, 16, 1000])
def test_rows_cover_the_documents_once_up_to_the_dropped_tail(length):
    texts = ["a b c d e f", "x", "def f(x):\n        return '<|endoftext|>'\n", "! " * 40, "end"]
    vocab = vocabulary("codegen")
    stream = [i for text in texts for i in [*vocab.encode_document(text), END]]
    dataset = rows.tokenize_documents(documents_dataset(texts), TEXT_FEATURES)
    dataset = rows.concatenate(dataset, {"targets": length})
    actual = [row["targets"].tolist() for row in dataset.as_numpy_iterator()]
    assert all(len(row) == length for row in actual)
    joined = [i for row in actual for i in row]
    assert joined == stream[: len(stream) // length * length]
    assert stream.count(END) == len(texts)  # the text that spells the end did not end a document


def test_without_a_length_documents_are_left_whole():
    dataset = rows.tokenize_documents(documents_dataset(["a", "b c"]), TEXT_FEATURES)
    whole = [row["targets"].tolist() for row in rows.concatenate(dataset, None).as_numpy_iterator()]
    assert whole == [[64, END], [65, 269, END]]


def test_pairs_that_do_not_fit_are_dropped():
    pairs = {
        "inputs": tf.ragged.constant([[1, 2], [1, 2, 3], [1]], dtype=tf.int32),
        "targets": tf.ragged.constant([[3, 4], [4, 5], [2, 3, 4, 5]], dtype=tf.int32),
    }
    dataset = tf.data.Dataset.from_tensor_slices(pairs)
    dataset = dataset.map(lambda x: {name: tf.identity(value) for name, value in x.items()})
    kept = list(rows.drop_longer(dataset, {"inputs": 4, "targets": 4}).as_numpy_iterator())
    assert [pair["targets"].tolist() for pair in kept] == [[3, 4]]
    assert len(list(rows.drop_longer(dataset, None))) == 3
