"""JSON in every layout that people write it in, and files that are something else."""

import gzip
import json
import lzma
import pickle

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from codegen_pax.data.format.documents import Document, Dropped, Turn
from codegen_pax.data.sources import (
    discovery,
    errors,
    json_records,
    partitions,
    reading,
    sniffing,
)

PAIRS = [{"instruction": f"Add {n} to {n}.", "output": f"{2 * n}"} for n in range(40)]
POINTER = (
    b"version https://git-lfs.github.com/spec/v1\n"
    b"oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n"
)
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


def read_all(path, corpus="instruction"):
    pieces = partitions.plan(corpus, discovery.find(corpus, [str(path)]))
    return [found for piece in pieces for found in reading.documents(piece)]


def elements(content, *, chunk=7, limit=1 << 20, is_wrapped=False):
    pieces = (content[at : at + chunk] for at in range(0, len(content), chunk))
    return list(json_records.elements(pieces, "x.json", limit, is_wrapped))


@settings(max_examples=25, deadline=None)
@given(RECORDS, st.sampled_from(sorted(LAYOUTS)), st.integers(1, 60))
def test_any_records_come_back_from_any_layout(all_, layout, chunk):
    content = LAYOUTS[layout](all_)
    found = elements(content.encode(), chunk=chunk, is_wrapped=layout.startswith("wrapped"))
    assert [json.loads(record) for _, _, record in found] == all_
    assert [number for number, _, _ in found] == list(range(len(all_)))
    assert all(size == len(record) for _, size, record in found)


@pytest.mark.parametrize("ending", ["json", "jsonl", "json.gz", "json.zst"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_is_told_and_read(tmp_path, layout, ending):
    pack = {"gz": gzip.compress, "zst": zstandard.ZstdCompressor().compress}
    content = LAYOUTS[layout](PAIRS).encode()
    path = tmp_path / f"x.{ending}"
    path.write_bytes(pack.get(ending[-3:].strip("."), bytes)(content))
    wanted = [(Turn("user", r["instruction"]), Turn("assistant", r["output"])) for r in PAIRS]
    assert [document.turns for document in read_all(path)] == wanted


def test_a_single_record_over_many_lines_and_lines_of_lists(tmp_path):
    messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    (tmp_path / "one.json").write_text(json.dumps({"messages": messages}, indent=2))
    (tmp_path / "two.jsonl").write_text(f"{json.dumps(messages)}\n" * 2)
    turns = (Turn("user", "a"), Turn("assistant", "b"))
    assert [document.turns for document in read_all(tmp_path)] == [turns] * 3


def test_a_damaged_record_of_an_array_costs_itself(tmp_path):
    good = [json.dumps(pair) for pair in PAIRS]
    bad = ['{"instruction": "no end, "output": "x"}', '{"instruction": "a"', '{"a": {"b": 1}', "7"]
    rows = [*good[:3], bad[0], good[3], bad[1], bad[2], *good[4:6], bad[3], good[6]]
    (tmp_path / "lines.json").write_text("[\n" + ",\n".join(rows) + "\n]")
    indented = json.dumps(PAIRS[:8], indent=2).replace('"output": "4"', '"output": "4')
    (tmp_path / "many.json").write_text(indented)
    found = read_all(tmp_path)
    rules = [item.rule for item in found if isinstance(item, Dropped)]
    assert rules == ["malformed_json"] * 3 + ["wrong_type"] + ["malformed_json"]
    texts = [item.turns[1].content for item in found if isinstance(item, Document)]
    wanted = [n for n in range(8) if n != 2]
    assert texts == [str(2 * n) for n in range(7)] + [str(2 * n) for n in wanted]
    assert [item.record for item in found[:11]] == list(range(11))


@pytest.mark.parametrize("layout", [one for one in LAYOUTS if one != "several arrays"])
def test_an_array_that_is_cut_off_is_damaged(tmp_path, layout):
    content = LAYOUTS[layout](PAIRS).encode()
    (tmp_path / "x.json").write_bytes(content[: len(content) // 2])
    with pytest.raises(errors.DamagedInputError, match=r"x\.json is damaged \(it ends "):
        read_all(tmp_path / "x.json")


def test_a_record_that_is_too_long_is_skipped_without_being_held():
    long = b'{"a": [{"b": "' + b"x\\n{" * 3_000 + b'"}]}'
    content = b'[{"a": 1}, ' + long + b', {"a": 2}]'
    found = elements(content, chunk=100, limit=1_000)
    assert found == [(0, 8, b'{"a": 1}'), (1, len(long), None), (2, 8, b'{"a": 2}')]


JSON = json.dumps(PAIRS).encode()
LINES = "".join(json.dumps(pair) + "\n" for pair in PAIRS).encode()
FOREIGN = {
    "a.jsonl": (POINTER, "a git-LFS pointer; `git lfs pull`"),
    "b.jsonl": (gzip.compress(LINES), "gzip; name it .gz"),
    "c.json": (zstandard.ZstdCompressor().compress(LINES), "Zstandard; name it .zst"),
    "d.jsonl": (b"PK\x03\x04" + bytes(99), "a zip archive; unpack it"),
    "d.json": (b"a.json".ljust(257, b"\0") + b"ustar" + bytes(9_000), "a tar archive; unpack it"),
    "e.jsonl": (lzma.compress(LINES), "xz; unpack it"),
    "e.json": (lzma.compress(LINES, lzma.FORMAT_ALONE), "LZMA; unpack it"),
    "f.json": (LINES.decode().encode("utf-16"), "UTF-16 text; write it as UTF-8"),
    "g.jsonl": (LINES.decode().encode("utf-16-le"), "UTF-16 text"),
    "h.jsonl": (LINES.decode().encode("utf-16-be"), "UTF-16 text"),
    "i.jsonl": (JSON.decode().encode("utf-32"), "UTF-32 text"),
    "j.jsonl": (JSON.decode().encode("utf-32-be"), "UTF-32 text"),
    "k.json": (b"\n<!DOCTYPE html>\n<html lang=en><body>Not found", "an HTML page; fetch it again"),
    "l.json": (b"<?xml version='1.0'?><Error><Code>NoSuchKey</Code></Error>", "XML or HTML"),
    "m.jsonl": (b'instruction,output\na,b\n"c, d",e\n', "comma-separated values"),
    "n.jsonl": (b"instruction\toutput\na\tb\nc, d\te\n", "tab-separated values"),
    "o.jsonl": (b"{'instruction': 'a', 'output': 'b'}\n" * 3, "Python's own notation"),
    "p.json": (b"- instruction: a\n  output: b\n", "YAML"),
    "q.json": (pickle.dumps(PAIRS), "a Python pickle"),
    "r.json": (b"PAR1" + bytes(99), "Parquet; name it .parquet"),
    "s.jsonl": (b"Obj\x01" + bytes(99), "Avro; name it .avro"),
    "s.json": (b"ORC" + bytes(99), "ORC; write it as Parquet"),
    "t.json": (json.dumps(LINES.decode()).encode(), "JSON inside strings of JSON; write its rec"),
    "t.jsonl": (b"Dear all,\nhere they are.\n", "plain text; write it as JSON lines"),
    "u.jsonl.gz": (LINES, "JSON; name it without .gz"),
    "v.jsonl.zst": (gzip.compress(LINES), "gzip; name it .gz"),
    "w.jsonl.gz": (POINTER, "a git-LFS pointer"),
    "x.jsonl.gz": (gzip.compress(gzip.compress(LINES)), "gzip in gzip; unpack it once"),
    "y.jsonl.zst": (b"<html></html>", "an HTML page"),
}


def test_files_that_are_something_else_are_all_named_at_once(tmp_path):
    for name, (content, _) in FOREIGN.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(errors.ForeignInputError) as error:
            read_all(tmp_path / name)
        said = f"cannot read {tmp_path / name}: it looks like {FOREIGN[name][1]}"
        assert str(error.value).startswith(said)
    (tmp_path / "good.jsonl").write_bytes(LINES)
    with pytest.raises(errors.InputsError, match=r"^29 inputs cannot .*a.jsonl.*; and 19 more$"):
        read_all(tmp_path)


@pytest.mark.parametrize("name", ["x.parquet", "x.avro"])
def test_tables_that_are_something_else(tmp_path, name):
    path = tmp_path / name
    for content, looks in ((POINTER, "a git-LFS pointer"), (LINES, "JSON"), (b"<html>", "an HTML")):
        path.write_bytes(content)
        with pytest.raises(errors.ForeignInputError, match=f"{name}: it looks like {looks}"):
            read_all(path, "bigquery")


def test_what_mostly_cannot_be_read_is_more_than_half(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text('{"text": "a"}\n{"text": b}\n')
    assert reading.explain_unreadable("pile", str(path), 1, 1) is None
    assert reading.explain_unreadable("pile", str(path), 499, 498) is None
    said = reading.explain_unreadable("pile", str(path), 1, 499)
    assert (
        f"{path} holds little to read: 499 of 500 records are not valid JSON, or lack what" in said
    )
    assert said.endswith("""it begins with '{"text": "a"}'""")
    path.write_bytes(b"{'text': 'a'}\n" * 9)
    said = reading.explain_unreadable("pile", str(path), 0, 9)
    assert "all 9 records lack" in said and "looks like Python's own notation" in said
    for content, looks in (
        (b'{"text": "\xe9"}\n' * 9, "text that is not UTF-8: write it as UTF-8"),
        (b'{"text": {"0": "a", "1": "b"}}', "one object that holds all: write its records"),
    ):
        path.write_bytes(content)
        assert f"; it looks like {looks}" in reading.explain_unreadable("pile", str(path), 0, 9)


def test_lines_stay_lines(tmp_path):
    """One damaged line, wherever it is, does not make another layout of a file."""
    good = json.dumps(PAIRS[0]).encode()
    for content in (
        b'{"instruction": "cut\n' + good,
        b"{\n" + good + b"\n" + good,
        good + b"\n}",
        b"[]\n" + good,
        b'{"messages": [{"role": "user"}]}\n' * 2,
        b'{"instruction": "a", "output": "b", "data": [{"c": 1}]}\n' * 2,
        b"not JSON\n" + good,
        b"\xef\xbb\xbf" + good,
    ):
        (tmp_path / "x.jsonl").write_bytes(content)
        assert sniffing.json_framing(str(tmp_path / "x.jsonl")) == sniffing.Framing.LINES, content
    long = b'{"text": "' + b"x" * (2 << 20) + b'"}\n'
    (tmp_path / "x.jsonl").write_bytes(long * 2)
    assert sniffing.json_framing(str(tmp_path / "x.jsonl")) == sniffing.Framing.LINES
    assert len(list(json_records.lines(str(tmp_path / "x.jsonl")))) == 2
