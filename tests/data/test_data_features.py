"""Rows and their fields, against what the batch contract says, written out."""

import numpy as np
import pytest
import seqio
import tensorflow as tf

from codegen_pax.data.format import rows
from codegen_pax.data.stream import batches, features
from codegen_pax.text.vocabulary import vocabulary

END = 50256


def fields(ids, length, predicted=None, apart=None):
    """The fields of one row, each [T]."""
    padded = np.full((1, length), 7, np.int32)  # anything may stand behind the end of a row
    padded[0, : len(ids)] = ids
    predicted = None if predicted is None else np.array([predicted])
    found = batches.fields(padded, np.array([len(ids)]), predicted, apart)
    return {name: values[0] for name, values in found.items()}


def convert(examples, length):
    """The converted prompts, as dicts of arrays."""
    signature = {name: tf.TensorSpec([None], tf.int32) for name in examples[0]}
    dataset = tf.data.Dataset.from_generator(lambda: iter(examples), output_signature=signature)
    return list(features.Prompts()(dataset, {"inputs": length}).as_numpy_iterator())


def assert_row(row, **wanted):
    for name, values in wanted.items():
        np.testing.assert_array_equal(row[name], values, err_msg=name)


def test_a_whole_row_predicts_all_but_its_first_token():
    row = fields([5, 6, END, 7], 4)
    assert_row(
        row,
        ids=[5, 6, END, 7],
        labels=[6, END, 7, 0],
        weights=[1, 1, 1, 0],
        paddings=[0, 0, 0, 0],
        segment_ids=[1, 1, 1, 1],
        segment_pos=[0, 1, 2, 3],
    )
    kinds = {name: values.dtype for name, values in row.items()}
    whole = dict.fromkeys(("ids", "labels", "segment_ids", "segment_pos"), np.int32)
    assert kinds == whole | dict.fromkeys(("weights", "paddings"), np.float32)
    assert kinds == batches.FIELDS


def test_id_zero_is_text():
    assert vocabulary("codegen").encode("!!") == [3228]
    ids = vocabulary("codegen").encode("! ! !")[:1] * 3
    assert ids == [0, 0, 0]
    assert_row(
        fields(ids, 5),
        ids=[0, 0, 0, 0, 0],
        labels=[0, 0, 0, 0, 0],
        weights=[1, 1, 0, 0, 0],
        paddings=[0, 0, 0, 1, 1],
        segment_ids=[1, 1, 1, 0, 0],
        segment_pos=[0, 1, 2, 0, 0],
    )


@pytest.mark.parametrize(
    ("ids", "weights", "segment_ids", "segment_pos"),
    [
        ([5, END, 6, 7, END, 8], [1, 0, 1, 1, 0, 0], [1, 1, 2, 2, 2, 3], [0, 1, 0, 1, 2, 0]),
        ([5, 6, 7, 8, 9, END], [1, 1, 1, 1, 1, 0], [1, 1, 1, 1, 1, 1], [0, 1, 2, 3, 4, 5]),
        ([END, END, 5, 6, 7, 8], [0, 0, 1, 1, 1, 0], [1, 2, 3, 3, 3, 3], [0, 0, 0, 1, 2, 3]),
        ([5, END, 6], [1, 0, 0, 0, 0, 0], [1, 1, 2, 0, 0, 0], [0, 1, 0, 0, 0, 0]),
    ],
)
def test_packed_documents_are_segments(ids, weights, segment_ids, segment_pos):
    row, together = fields(ids, 6, apart=END), fields(ids, 6)
    assert_row(row, weights=weights, segment_ids=segment_ids, segment_pos=segment_pos)
    for name in ("ids", "labels", "paddings"):
        np.testing.assert_array_equal(row[name], together[name])


def test_loss_is_on_the_answer_alone():
    prompt, answer = [5, 0, 6], [7, 8, END]
    row = fields([*prompt, *answer], 8, predicted=[False] * 3 + [True] * 5)
    assert_row(
        row,
        ids=[5, 0, 6, 7, 8, END, 0, 0],
        labels=[0, 6, 7, 8, END, 0, 0, 0],
        weights=[0, 0, 1, 1, 1, 0, 0, 0],
        paddings=[0, 0, 0, 0, 0, 0, 1, 1],
        segment_ids=[1, 1, 1, 1, 1, 1, 0, 0],
        segment_pos=[0, 1, 2, 3, 4, 5, 0, 0],
    )
    assert row["labels"][row["weights"] > 0].tolist() == answer


def test_prompts_are_padded_on_the_right_and_keep_their_length():
    short, full = convert([{"inputs": [5, 0]}, {"inputs": [0, 0, 0, 0]}], 4)
    assert_row(short, ids=[5, 0, 0, 0], paddings=[0, 0, 1, 1], prefix_lengths=2)
    assert_row(full, ids=[0, 0, 0, 0], paddings=[0, 0, 0, 0], prefix_lengths=4)
    assert short["prefix_lengths"].dtype == np.int32


def test_a_prompt_that_is_too_long_is_an_error():
    with pytest.raises(tf.errors.InvalidArgumentError, match="inputs"):
        convert([{"inputs": [1, 2, 3, 4, 5]}], 4)


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
    found = [row["targets"].tolist() for row in dataset.as_numpy_iterator()]
    assert all(len(row) == length for row in found)
    joined = [i for row in found for i in row]
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
