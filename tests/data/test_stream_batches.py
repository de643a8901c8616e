"""The fields of batches: worked out by hand, token by token, and for prompts through seqio."""

import jax
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from codegen_pax.data.stream import batches
from codegen_pax.text.vocabulary import vocabulary

END = 50256


def token_rows(rows, length, is_predicted=None):
    """Rows of any lengths as `TokenRows`, with arbitrary ids behind the end of each."""
    ids = np.full((len(rows), length), 7, np.int32)
    for number, row in enumerate(rows):
        ids[number, : len(row)] = row
    return batches.TokenRows(ids, np.array([len(row) for row in rows]), is_predicted)


def fields(ids, length, is_predicted=None, document_end_id=None):
    """The fields of one row, [T] each."""
    is_predicted = None if is_predicted is None else np.array([is_predicted])
    rows = token_rows([ids], length, is_predicted)
    return {name: values[0] for name, values in batches.fields(rows, document_end_id).items()}


def assert_row(row, **expected):
    for name, values in expected.items():
        np.testing.assert_array_equal(row[name], values, err_msg=name)


def test_a_full_row_predicts_all_but_its_first_token():
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
    dtypes = {name: values.dtype for name, values in row.items()}
    integers = dict.fromkeys(("ids", "labels", "segment_ids", "segment_pos"), np.int32)
    assert dtypes == integers | dict.fromkeys(("weights", "paddings"), np.float32)
    assert dtypes == batches.FIELD_DTYPES


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
    row, unpacked = fields(ids, 6, document_end_id=END), fields(ids, 6)
    assert_row(row, weights=weights, segment_ids=segment_ids, segment_pos=segment_pos)
    for name in ("ids", "labels", "paddings"):
        np.testing.assert_array_equal(row[name], unpacked[name])


def test_loss_is_on_the_answer_alone():
    prompt, answer = [5, 0, 6], [7, 8, END]
    row = fields([*prompt, *answer], 8, is_predicted=[False] * 3 + [True] * 5)
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


def fields_by_token(row, length, is_predicted, document_end_id):
    """The fields of one row, token by token."""
    made = {name: [] for name in batches.FIELD_DTYPES}
    segment, position = 1, 0
    for place in range(length):
        is_token = place < len(row)
        label = row[place + 1] if place + 1 < len(row) else 0
        has_label = place + 1 < len(row) and is_predicted[place + 1]
        is_end = is_token and row[place] == document_end_id
        values = (row[place] if is_token else 0, label, has_label and not is_end, not is_token)
        values += (segment, position) if is_token else (0, 0)
        for name, value in zip(batches.FIELD_DTYPES, values, strict=True):
            made[name].append(value)
        segment, position = (segment + 1, 0) if is_end else (segment, position + 1)
    return made


@st.composite
def rows_of_text(draw):
    """Rows of 1 to T tokens, T, and the generator that drew them."""
    length, random = draw(st.integers(1, 12)), np.random.default_rng(draw(st.integers(0, 2**32)))
    sizes = random.integers(1, length + 1, 20)
    return [random.choice([0, 1, 5, 50255, END, 65535], size) for size in sizes], length, random


def assert_as_by_token(rows, length, is_predicted, document_end_id=None):
    """All tokens are predicted if `is_predicted` is None."""
    actual = batches.fields(token_rows(rows, length, is_predicted), document_end_id)
    if is_predicted is None:
        is_predicted = np.ones((len(rows), length), bool)
    expected = [
        fields_by_token(row, length, one, document_end_id)
        for row, one in zip(rows, is_predicted, strict=True)
    ]
    assert {name: values.dtype for name, values in actual.items()} == batches.FIELD_DTYPES
    for name, values in actual.items():
        np.testing.assert_array_equal(values, [row[name] for row in expected], err_msg=name)


@given(rows_of_text(), st.booleans())
def test_fields_of_text_are_as_token_by_token(drawn, packing):
    rows, length, _ = drawn
    assert_as_by_token(rows, length, None, END if packing else None)


@given(rows_of_text())
def test_fields_of_answers_are_as_token_by_token(drawn):
    rows, length, random = drawn
    assert_as_by_token(rows, length, random.integers(0, 2, (len(rows), length)) == 1)


def test_specs_are_those_of_a_batch():
    specs = batches.RowSpecs(batch_size=2, row_length=4).get_input_specs()
    batch = batches.fields(token_rows([[1, 2], [3]], 4))
    assert dict(specs) == {
        name: jax.ShapeDtypeStruct(values.shape, values.dtype) for name, values in batch.items()
    }


def convert(prompts, length):
    """The converted prompts, as dicts of arrays."""
    dataset = tf.data.Dataset.from_generator(
        lambda: ({"inputs": prompt} for prompt in prompts),
        output_signature={"inputs": tf.TensorSpec([None], tf.int32)},
    )
    return list(batches.PromptConverter()(dataset, {"inputs": length}).as_numpy_iterator())


def test_prompts_are_padded_on_the_right_and_keep_their_length():
    prompts = [[5, 0], [0, 0, 0, 0]]
    short, full = convert(prompts, 4)
    assert_row(short, ids=[5, 0, 0, 0], paddings=[0, 0, 1, 1], prefix_lengths=2)
    assert_row(full, ids=[0, 0, 0, 0], paddings=[0, 0, 0, 0], prefix_lengths=4)
    assert short["prefix_lengths"].dtype == np.int32
    batch = batches.prompt_fields(prompts, 4)
    for row, converted in enumerate((short, full)):
        assert_row(converted, **{name: values[row] for name, values in batch.items()})


def test_a_prompt_that_is_too_long_is_an_error():
    with pytest.raises(tf.errors.InvalidArgumentError, match="inputs"):
        convert([[1, 2, 3, 4, 5]], 4)
    with pytest.raises(ValueError, match="found a prompt of 5 tokens; expected at most 4"):
        batches.prompt_fields([[1], [1, 2, 3, 4, 5]], 4)
