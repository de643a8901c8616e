"""Names of files that are not UTF-8: one spelling each, which anything can carry."""

import json
import os

import pyarrow
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegen_pax.data.format.documents import Document
from codegen_pax.data.sources import schemas, storage

PARTS = st.sampled_from(
    [b"\\", b"x", b"5", b"c", b"u", b"d8", b"00", b"\xff", b"\x80", "é".encode()]
)
NAMES = st.binary(max_size=9) | st.lists(PARTS, max_size=12).map(b"".join)


@given(NAMES)
def test_every_name_comes_back_from_its_spelling(raw):
    name = os.fsdecode(raw)
    shown = storage.escape_path(name)
    shown.encode()
    assert storage.unescape_path(shown) == name
    assert pyarrow.array([shown]).to_pylist() == [json.loads(json.dumps(shown))] == [shown]


@given(st.text(st.characters(exclude_categories=()), max_size=9), st.text(max_size=9))
def test_no_two_names_have_one_spelling(first, second):
    assert storage.unescape_path(storage.escape_path(first)) == first
    assert (storage.escape_path(first) == storage.escape_path(second)) == (first == second)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a/café.py", "a/café.py"),
        (os.fsdecode(b"caf\xe9.py"), r"caf\xe9.py"),
        (r"a\b\x41\n.py", r"a\b\x41\n.py"),
        (r"caf\xe9.py", r"caf\x5cxe9.py"),
        ("a\nb\x1b[2J.py", r"a\x0ab\x1b[2J.py"),
        (r"a\x0ab.py", r"a\x5cx0ab.py"),
        ("\ud800", r"\ud800"),
        ("\\\ud800", r"\\ud800"),
    ],
)
def test_ordinary_names_are_spelled_as_they_are(name, shown):
    assert storage.escape_path(name) == shown and storage.unescape_path(shown) == name


@pytest.mark.parametrize("path", ["src/\ud83d.py", b"src/\xe9.py", "src/\udce9.py"])
def test_a_name_that_is_not_utf8_drops_no_good_file(path):
    record = {"content": "x = 1\n", "path": path, "repo_name": path, "license": "mit"}
    found = schemas.to_document("bigquery", record, "t", 0, 1)
    wanted = r"src/\ud83d.py" if path == "src/\ud83d.py" else r"src/\xe9.py"
    assert found == Document("x = 1\n", "t", 0, path=wanted, repository=wanted, licence="mit")
