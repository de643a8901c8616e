"""Docstrings become reStructuredText that says the same."""

import ast

import pytest

from docs import reference


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("All `a`s of `b`.", "All ``a``\\ s of ``b``."),
        ("A name_ and 2*3, a|b.", "A name\\_ and 2\\*3, a\\|b."),
        ("**Rows.** They are.", "**Rows.** They are."),
        ("So:\n\n    x * y\n\nand", "So:\n\n\n::\n\n    x * y\n\n\nand"),
        ("So::\n\n    x * y", "So::\n\n\n    x * y\n"),
        ("- one\n  more\n- two", "- one\n  more\n- two"),
        ("A.\n\nArgs:\n    *args: some.", "A.\n\nArgs:\n    \\*args: some."),
        ("A.\n\nReturns:\n    - one: x", "A.\n\nReturns:\n    \\ \n\n    - one: x"),
    ],
)
def test_what_would_be_misread_is_made_plain(text, expected):
    assert reference.restructured(text) == expected


def test_lines_of_an_algorithm_stay_lines():
    text = "A.\n\nscores: [B, N, T, S] = q * k\noutput: [B, T, D] = scores * v\n\nMore."
    assert "::\n\n  scores: [B, N, T, S] = q * k\n  output:" in reference.restructured(text)


def test_signatures_leave_out_self_and_what_is_computed():
    source = "def f(self, a: int = 3, *, b: str = compute_something(1, 2, 3)) -> None: ..."
    (node,) = ast.parse(source).body
    assert reference.signature(node, is_method=True) == "(a: int=3, *, b: str=...) -> None"
