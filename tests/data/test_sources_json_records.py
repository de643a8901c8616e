"""JSON records in every framing that people write them in, whole and damaged."""

import gzip
import json

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from codegen_pax.data.format.documents import Document, Dropped, Turn
from codegen_pax.data.sources import (
    errors,
    json_records,
)
from tests.data.read_inputs import read_all

PAIRS = [{"instruction": f"Add {n} to {n}.", "output": f"{2 * n}"} for n in range(40)]
LAYOUTS = {
    "one line": json.dumps,
    "a record a line": lambda all_: "[\n" + ",\n".join(map(json.dumps, all_)) + "\n]\n",
    "from the bracket on": lambda all_: "[" + ",\r\n".join(map(json.dumps, all_)) + "]",
    "a comma too many": lambda all_: "[\n" + "".join(json.dumps(one) + ",\n" for one in all_) + "]",
    "indented": lambda all_: json.dumps(all_, indent=2),
    "not indented": lambda all_: json.dumps(all_, indent=0),
    "with a mark": lambda all_: "\ufeff" + json.dumps(all_, indent="\t"),
    "one after another": lambda all_: "\n".join(json.dumps(one, indent=4) for one in all_),
    "without line ends": lambda all_: "".join(map(json.dumps, all_)),
    "several arrays": lambda all_: f"{json.dumps(all_[:2])}\n{json.dumps(all_[2:], indent=1)}",
    "an array without its brackets": lambda all_: ",\n".join(map(json.dumps, all_)),
    "wrapped": lambda all_: json.dumps(
        {"version": "1", "of": {"a": [{"b": [1]}]}, "names": [["]"]], "data": all_, "n": 2}
    ),
    "wrapped twice": lambda all_: json.dumps({"train": all_[:2], "test": all_[2:]}, indent=1),
}
VALUES = st.recursive(
    st.none() | st.integers() | st.text(st.sampled_from('a"\\{}[],:\n\té\u2028'), max_size=9),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=9,
)
RECORDS = st.lists(st.dictionaries(st.text(max_size=5), VALUES), min_size=3, max_size=6)


def elements(content, *, chunk=7, limit=1 << 20, is_wrapped=False):
    pieces = (content[at : at + chunk] for at in range(0, len(content), chunk))
    return list(json_records.elements(pieces, "x.json", limit, is_wrapped))


@settings(max_examples=25, deadline=None)
@given(RECORDS, st.sampled_from(sorted(LAYOUTS)), st.integers(1, 60))
def test_any_records_come_back_from_any_layout(all_, layout, chunk):
    content = LAYOUTS[layout](all_)
    actual = elements(content.encode(), chunk=chunk, is_wrapped=layout.startswith("wrapped"))
    assert [json.loads(record) for _, _, record in actual] == all_
    assert [number for number, _, _ in actual] == list(range(len(all_)))
    assert all(size == len(record) for _, size, record in actual)


@pytest.mark.parametrize("ending", ["json", "jsonl", "json.gz", "json.zst"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_is_told_and_read(tmp_path, layout, ending):
    pack = {"gz": gzip.compress, "zst": zstandard.ZstdCompressor().compress}
    content = LAYOUTS[layout](PAIRS).encode()
    path = tmp_path / f"x.{ending}"
    path.write_bytes(pack.get(ending[-3:].strip("."), bytes)(content))
    expected = [(Turn("user", r["instruction"]), Turn("assistant", r["output"])) for r in PAIRS]
    assert [document.turns for document in read_all("instruction", path)] == expected


def test_a_single_record_over_many_lines_and_lines_of_lists(tmp_path):
    messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    (tmp_path / "one.json").write_text(json.dumps({"messages": messages}, indent=2))
    (tmp_path / "two.jsonl").write_text(f"{json.dumps(messages)}\n" * 2)
    turns = (Turn("user", "a"), Turn("assistant", "b"))
    assert [document.turns for document in read_all("instruction", tmp_path)] == [turns] * 3


def test_a_damaged_record_of_an_array_costs_itself(tmp_path):
    good = [json.dumps(pair) for pair in PAIRS]
    bad = ['{"instruction": "no end, "output": "x"}', '{"instruction": "a"', '{"a": {"b": 1}', "7"]
    rows = [*good[:3], bad[0], good[3], bad[1], bad[2], *good[4:6], bad[3], good[6]]
    (tmp_path / "lines.json").write_text("[\n" + ",\n".join(rows) + "\n]")
    indented = json.dumps(PAIRS[:8], indent=2).replace('"output": "4"', '"output": "4')
    (tmp_path / "many.json").write_text(indented)
    actual = read_all("instruction", tmp_path)
    rules = [item.rule for item in actual if isinstance(item, Dropped)]
    assert rules == ["malformed_json"] * 3 + ["wrong_type"] + ["malformed_json"]
    texts = [item.turns[1].content for item in actual if isinstance(item, Document)]
    expected = [n for n in range(8) if n != 2]
    assert texts == [str(2 * n) for n in range(7)] + [str(2 * n) for n in expected]
    assert [item.record for item in actual[:11]] == list(range(11))


@pytest.mark.parametrize("layout", [one for one in LAYOUTS if one != "several arrays"])
def test_an_array_that_is_cut_off_is_damaged(tmp_path, layout):
    content = LAYOUTS[layout](PAIRS).encode()
    (tmp_path / "x.json").write_bytes(content[: len(content) // 2])
    with pytest.raises(errors.DamagedInputError, match=r"x\.json is damaged \(it ends "):
        read_all("instruction", tmp_path / "x.json")


def test_a_record_that_is_too_long_is_skipped_without_being_held():
    long = b'{"a": [{"b": "' + b"x\\n{" * 3_000 + b'"}]}'
    content = b'[{"a": 1}, ' + long + b', {"a": 2}]'
    actual = elements(content, chunk=100, limit=1_000)
    assert actual == [(0, 8, b'{"a": 1}'), (1, len(long), None), (2, 8, b'{"a": 2}')]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(st.sampled_from("ab\r\té"), max_size=9)), st.integers(1, 40), st.booleans())
def test_every_line_is_in_one_range(tmp_path_factory, texts, max_bytes, closed):
    path = tmp_path_factory.mktemp("lines") / "x.jsonl"
    content = "\n".join(texts).encode() + b"\n" * closed
    path.write_bytes(content)
    ranges = range(0, len(content), max_bytes)
    actual = [
        (offset, size, line)
        for start in ranges
        for offset, size, line in json_records.lines(
            str(path), start, min(start + max_bytes, len(content))
        )
    ]
    expected, offset = [], 0
    pieces = content.split(b"\n")
    for number, piece in enumerate(pieces):
        if piece or number < len(pieces) - 1:
            expected.append((offset, len(piece), piece.removesuffix(b"\r")))
        offset += len(piece) + 1
    assert actual == expected
