"""The paper's filters at their limits, and against the plainest way to say them."""

import fractions
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegen_pax.data.rules import filters


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("", "empty"),
        (" \n\t\n", "empty"),
        ("x" * 1_000 + "\n" * 20, None),
        ("x" * 1_001 + "\n" * 20, "longest_line"),
        ("x" * 100, None),
        ("x" * 100 + "\n" + "x" * 101, "average_line"),
        ("9" * 90 + "x" * 10, None),
        ("9a F" * 23 + "x" * 7, "digits"),
        ("9a F" * 23 + "é" * 7, "digits"),
    ],
)
def test_limits(text, rule):
    assert filters.rejection(text) == rule
    assert rule in (None, *filters.RULES)


def test_this_file_is_kept():
    with open(__file__, encoding="utf-8") as file:
        assert filters.rejection(file.read()) is None


# Lines about as long as the limits are, one of them as long as makes the average 100 or just not.
@given(
    st.lists(st.sampled_from([0, 1, 99, 100, 101, 500, 999, 1_000, 1_001]), max_size=12),
    st.sampled_from([-1, 0, 1]),
    st.sampled_from(["\n", "\r\n"]),
)
def test_lines_are_measured_to_the_character(lengths, beyond, end):
    filling = 100 * (len(lengths) + 1) - sum(lengths) + beyond
    lengths = [*lengths, max(filling, 1)]
    if max(lengths) > 1_000:
        expected = "longest_line"
    else:
        expected = "average_line" if fractions.Fraction(sum(lengths), len(lengths)) > 100 else None
    assert filters.rejection("".join("x" * length + end for length in lengths)) == expected


@given(st.integers(1, 90), st.integers(0, 10), st.sampled_from("xé"), st.sampled_from(" \n\u2003"))
def test_digits_are_counted_to_the_character(digits, others, other, blank):
    text = "f" * digits + blank + other * others
    expected = fractions.Fraction(digits, digits + others) > fractions.Fraction(9, 10)
    assert (filters.rejection(text) == "digits") == expected


@given(st.text(st.sampled_from("0aF z\n\x0b\x1c\x85\xa0é９")) | st.text())
def test_digits_are_a_share_of_what_is_not_white_space(text):
    solid = [character for character in text if not character.isspace()]
    if not solid or max(map(len, text.splitlines())) > 100:
        return
    digits = sum(character in string.hexdigits for character in solid)
    assert (filters.rejection(text) == "digits") == (digits / len(solid) > 0.9)
