"""Licences in any form that records state them in, and which of them are allowed."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from codegen_pax.data.rules import licences

# GitHub's API, and exports of it.
GITHUB = {"key": "mit", "name": "MIT License", "spdx_id": "MIT", "url": "https://x/mit"}


@pytest.mark.parametrize(
    ("value", "stated"),
    [
        (None, ""),
        ("", ""),
        ([], ""),
        ({}, ""),
        ([None, ""], ""),
        ({"key": None}, ""),
        (float("nan"), ""),
        ("mit", "mit"),
        (b"mit", "mit"),
        ("MIT OR\r\nISC\n", "MIT OR ISC"),
        (["mit", None, "isc"], "mit AND isc"),
        ([["mit"], ["isc"]], "mit AND isc"),
        (["MIT OR ISC", "Zlib"], "(MIT OR ISC) AND Zlib"),
        (GITHUB, "MIT"),
        ([GITHUB, GITHUB | {"spdx_id": "ISC"}], "MIT AND ISC"),
        (GITHUB | {"spdx_id": None}, "mit"),
        ({"key": "other", "name": "Other", "spdx_id": "NOASSERTION"}, "NOASSERTION"),
        ({"type": "MIT", "url": "x"}, "MIT"),
        ({"license": GITHUB}, "MIT"),
        ([("spdx_id", "MIT"), ("url", "x")], "MIT"),
        ([(b"spdx_id", b"MIT"), (b"url", b"x")], "MIT"),  # as a Parquet map comes
        ([(b"MIT", 0.98), (b"ISC", 0.5)], "MIT AND ISC"),
        ({"list": [{"element": "mit"}, {"element": "isc"}]}, "mit AND isc"),
        ({"MIT": 0.98, "ISC": 0.5}, "MIT AND ISC"),
        ({"a": "x", "b": "y"}, "unknown"),
    ],
)
def test_a_licence_is_read_in_any_shape(value, stated):
    assert licences.to_expression(value) == stated


def test_an_exception_is_no_licence_and_no_licence_an_exception():
    expected = {
        "Apache-2.0 WITH LLVM-exception": None,
        "MIT WITH GPL-3.0-only": "licence_unknown",
        "LLVM-exception": "licence_unknown",
    }
    assert {licence: licences.rejection(licence) for licence in expected} == expected


SYMBOLS = ["MIT", "gpl-3.0", "AND", "or", "WITH", "(", ")", "+", "/", ",", "LICENSE-MIT", "\0", "é"]
CELLS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=9,
)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(SYMBOLS), max_size=9).map(" ".join) | CELLS)
@example("()")
@example("(" * 50_000)
@example("MIT AND " * 50_000)
def test_of_anything_no_more_than_a_rule_comes_out(value):
    stated = licences.to_expression(value)
    assert len(stated) <= licences.MAX_CHARACTERS + 1
    assert licences.rejection(stated) in (None, *licences.RULES)
    assert licences.rejection(stated, licences.ANY) is None
    assert licences.normalise(licences.normalise(stated)) == licences.normalise(stated)


def test_a_licence_nested_without_an_end_is_unknown():
    value = "mit"
    for _ in range(100_000):
        value = [value]
    assert licences.normalise(licences.to_expression(value)) == "unknown"


@pytest.mark.parametrize(
    ("licence", "rule"),
    [
        ("MIT", None),
        ("mit", None),
        ("apache-2.0", None),
        ("GPL-3.0-only", "licence_not_allowed"),
        ("gpl-3.0", "licence_not_allowed"),
        ("MIT OR GPL-3.0-only", None),
        ("MIT AND GPL-3.0-only", "licence_not_allowed"),
        ("Apache-2.0 WITH LLVM-exception", None),
        ("GPL-2.0-only WITH Classpath-exception-2.0", "licence_not_allowed"),
        ("(MIT AND BSD-3-Clause) OR Proprietary-Unknown", "licence_unknown"),
        ("", "licence_unknown"),
        ("NOASSERTION", "licence_unknown"),
        ("MIT OR", "licence_unknown"),
    ],
)
def test_licences(licence, rule):
    assert licences.rejection(licence) == rule
    assert rule in (None, *licences.RULES)


@pytest.mark.parametrize(
    ("licence", "normal"),
    [
        ("mit", "MIT"),
        ("gpl-3.0", "GPL-3.0-only"),
        ("MIT or apache-2.0", "Apache-2.0 OR MIT"),
        ("Apache-2.0 OR MIT", "Apache-2.0 OR MIT"),
        ("", ""),
        ("MIT OR", "unknown"),
        ("see the file COPYING", "unknown"),
    ],
)
def test_a_licence_counts_as_spdx_spells_it(licence, normal):
    assert licences.normalise(licence) == normal


def test_permissive_licences_are_spdx_identifiers():
    assert licences.resolve(licences.PERMISSIVE) == licences.PERMISSIVE


def test_an_unknown_licence_is_answered_with_the_nearest():
    with pytest.raises(ValueError, match=r"'Apache-2\.1'.*Apache-2\.0"):
        licences.resolve(["Apache-2.1"])
