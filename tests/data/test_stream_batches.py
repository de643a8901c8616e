"""The fields of batches, against the same worked out token by token."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from codegen_pax.data.stream import batches

END = 50256


def fields_of(row, length, predicted, apart):
    """The fields of one row, token by token."""
    made = {name: [] for name in batches.FIELDS}
    segment, place = 1, 0
    for number in range(length):
        real = number < len(row)
        label = row[number + 1] if number + 1 < len(row) else 0
        counts = number + 1 < len(row) and predicted[number + 1]
        ends = real and row[number] == apart
        values = (row[number] if real else 0, label, counts and not ends, not real)
        values += (segment, place) if real else (0, 0)
        for name, value in zip(batches.FIELDS, values, strict=True):
            made[name].append(value)
        segment, place = (segment + 1, 0) if ends else (segment, place + 1)
    return made


def assert_same(found, rows, length, predicted, apart=None):
    wanted = [fields_of(row, length, one, apart) for row, one in zip(rows, predicted, strict=True)]
    assert {name: values.dtype for name, values in found.items()} == batches.FIELDS
    for name, values in found.items():
        np.testing.assert_array_equal(values, [row[name] for row in wanted], err_msg=name)


def batch_of(rows, length):
    """Ids [B, T], with anything at all behind the end of a row, and how many are real."""
    ids = np.full((len(rows), length), 7, np.int32)
    for number, row in enumerate(rows):
        ids[number, : len(row)] = row
    return ids, np.array([len(row) for row in rows])


@st.composite
def rows_of_text(draw):
    """Rows of 1 to T tokens, T, and what drew them."""
    length, random = draw(st.integers(1, 12)), np.random.default_rng(draw(st.integers(0, 2**32)))
    sizes = random.integers(1, length + 1, 20)
    return [random.choice([0, 1, 5, 50255, END, 65535], size) for size in sizes], length, random


@given(rows_of_text(), st.booleans())
def test_fields_of_text_are_as_token_by_token(made, packing):
    rows, length, _ = made
    apart = END if packing else None
    everything = np.ones((len(rows), length), bool)
    assert_same(
        batches.fields(*batch_of(rows, length), apart=apart), rows, length, everything, apart
    )


@given(rows_of_text())
def test_fields_of_answers_are_as_token_by_token(made):
    rows, length, random = made
    predicted = random.integers(0, 2, (len(rows), length)) == 1
    found = batches.fields(*batch_of(rows, length), predicted)
    assert_same(found, rows, length, predicted)


def test_id_zero_is_text_in_a_batch_too():
    found = batches.fields(np.zeros((2, 4), np.int32), np.array([4, 2]))
    assert found["weights"].tolist() == [[1, 1, 1, 0], [1, 0, 0, 0]]
    assert found["paddings"].tolist() == [[0, 0, 0, 0], [0, 0, 1, 1]]
    assert found["segment_pos"].tolist() == [[0, 1, 2, 3], [0, 1, 0, 0]]
