"""The paper's filters at their limits."""

import pytest

from codegen_pax.corpus import filters


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        (" \n\t\n", "empty"),
        ("x" * 1_000 + "\n" * 20, None),
        ("x" * 1_001 + "\n" * 20, "longest line has 1001"),
        ("x" * 100, None),
        ("x" * 100 + "\n" + "x" * 101, "average line has 100"),
        ("9" * 90 + "x" * 10, None),
        ("9a F" * 23 + "x" * 7, "91% digits"),
    ],
)
def test_limits(text, reason):
    found = filters.rejection(text)
    assert found is None if reason is None else found.startswith(reason)


def test_this_file_is_kept():
    with open(__file__, encoding="utf-8") as file:
        assert filters.rejection(file.read()) is None
