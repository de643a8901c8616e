"""The paper's filters at their limits, and against the plainest way to say them."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegen_pax.corpus import filters


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


@given(st.text(st.sampled_from("0aF z\n\x0b\x1c\x85\xa0é９")) | st.text())
def test_digits_are_a_share_of_what_is_not_white_space(text):
    solid = [character for character in text if not character.isspace()]
    if not solid or max(map(len, text.splitlines())) > 100:
        return
    digits = sum(character in string.hexdigits for character in solid)
    assert (filters.rejection(text) == "digits") == (digits / len(solid) > 0.9)
