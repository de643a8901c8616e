"""Raw files of every kind and format as documents, and the records that are none."""

import gzip
import json
import tracemalloc

import fastavro
import pyarrow
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from codegen_pax.data.format.documents import Document, Dropped, Turn
from codegen_pax.data.sources import (
    errors,
    json_records,
    reading,
    storage,
)
from tests.data.read_inputs import read_all, rules

PILE = [{"text": f"document {n} \u00e9\n", "meta": {"pile_set_name": "Books3"}} for n in range(50)]
CODE = [
    {"content": f"x = {n}\n", "path": f"a/{n}.py", "repo_name": "o/r", "license": "mit"}
    for n in range(600)
]


def json_lines(records):
    return "".join(json.dumps(record) + "\n" for record in records).encode()


@pytest.fixture
def file(tmp_path):
    def write(name, content):
        (tmp_path / name).write_bytes(content)
        return tmp_path / name

    return write


def avro(path, records, fields=("content", "path", "repo_name", "license")):
    schema = {
        "type": "record",
        "name": "file",
        "fields": [{"name": name, "type": ["null", "string"]} for name in fields],
    }
    with open(path, "wb") as out:
        fastavro.writer(out, schema, records, sync_interval=1_000)
    return path


@pytest.mark.parametrize(
    ("ending", "pack"),
    [("", bytes), (".gz", gzip.compress), (".zst", zstandard.ZstdCompressor().compress)],
)
def test_the_pile(file, ending, pack):
    path = file("00.jsonl" + ending, pack(json_lines(PILE)))
    actual = read_all("pile", path)
    assert [document.text for document in actual] == [record["text"] for record in PILE]
    assert {document.repository for document in actual} == {"Books3"}
    assert {document.language for document in actual} == {"text"}
    starts = [0]
    for record in PILE:
        starts.append(starts[-1] + len(json_lines([record])))
    assert [d.record for d in actual] == (list(range(50)) if ending else starts[:-1])


def test_several_frames_and_members(file):
    first, second = json_lines(PILE[:20]), json_lines(PILE[20:])
    zst = zstandard.ZstdCompressor()
    file("a.jsonl.zst", zst.compress(first) + zst.compress(second))
    file("b.jsonl.gz", gzip.compress(first) + gzip.compress(second))
    assert len(read_all("pile", file("c.jsonl", b"").parent)) == 2 * len(PILE)


@pytest.mark.parametrize("name", ["t.parquet", "t.avro", "t.jsonl", "t.jsonl.gz"])
def test_tables_of_code(tmp_path, name):
    path = tmp_path / name
    if name.endswith("parquet"):
        parquet.write_table(pyarrow.Table.from_pylist(CODE), path, row_group_size=100)
    elif name.endswith("avro"):
        avro(path, CODE)
    else:
        data = json_lines(CODE)
        path.write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    actual = read_all("bigquery", path, max_bytes=2_000)
    assert [(d.text, d.path, d.repository, d.licence) for d in actual] == [
        (r["content"], r["path"], r["repo_name"], r["license"]) for r in CODE
    ]
    assert len({d.record for d in actual}) == len(CODE)


def test_instructions(file):
    records = [
        {"instruction": "Add.", "input": "1 2", "output": "3"},
        {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]},
        {"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]},
        {"messages": [{"role": "user", "content": "no answer"}]},
        {"messages": "no list"},
    ]
    actual = read_all("instruction", file("i.jsonl", json_lines(records)))
    assert actual[0].turns == (Turn("user", "Add.\n\n### Input:\n1 2"), Turn("assistant", "3"))
    assert actual[1].turns == (Turn("user", "Hi"), Turn("assistant", "Ho"))
    assert actual[2].turns == (Turn("user", "a"), Turn("assistant", "b"))
    assert rules(actual) == ["no_turns", "wrong_type"]


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.ZstdCompressor().compress])
@pytest.mark.parametrize("kept", [0.3, 0.95])
def test_a_truncated_file_is_an_error(file, pack, kept):
    data = pack(json_lines([{"text": f"{n} {hash(str(n))}"} for n in range(3_000)]))
    ending = ".gz" if data[:2] == b"\x1f\x8b" else ".zst"
    path = file(f"cut.jsonl{ending}", data[: int(kept * len(data))])
    with pytest.raises(errors.DamagedInputError, match=r"cut.jsonl.* is damaged .*fetch it again"):
        read_all("pile", path)


@pytest.mark.parametrize("name", ["x.jsonl.gz", "x.jsonl.zst", "x.parquet", "x.avro"])
def test_what_is_something_else_is_an_error(file, name):
    with pytest.raises(errors.ForeignInputError, match=rf"{name}: it looks like plain text; "):
        read_all("bigquery", file(name, b"something else " * 100))


@pytest.mark.parametrize("name", ["x.parquet", "x.avro"])
def test_a_truncated_table_is_an_error(tmp_path, name):
    path = tmp_path / name
    if name == "x.avro":
        avro(path, CODE)
    else:
        parquet.write_table(pyarrow.Table.from_pylist(CODE), path)
    path.write_bytes(path.read_bytes()[:-100])
    if name == "x.avro":  # its last block is lost
        *documents, actual = read_all("bigquery", path)
        assert actual.rule == "damaged" and "lacks its end" in actual.damage
        assert [one.text for one in documents] == [row["content"] for row in CODE[: len(documents)]]
        return
    with pytest.raises(errors.DamagedInputError, match=name):
        read_all("bigquery", path)


@pytest.mark.parametrize("name", ["x.parquet", "x.avro"])
def test_a_missing_column_is_an_error(tmp_path, name):
    path = tmp_path / name
    rows = [{"contents": "x", "path": "a.py"}]
    if name == "x.avro":
        avro(path, rows, ("contents", "path"))
    else:
        parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    with pytest.raises(ValueError, match=f"{name} h.*expected.*content"):
        read_all("bigquery", path)


def test_records_that_are_no_documents_are_counted(file):
    good = json_lines([{"text": "good"}])
    bad = {
        "malformed_json": b'{"text": \n',
        "invalid_utf8": b'{"text": "\xff"}\n',
        "nul_bytes": json_lines([{"text": "a\0b"}]),
        "null_content": json_lines([{"text": None}]),
        "wrong_type": json_lines([{"text": 3}]) + b"[]\n",
        "missing_field": json_lines([{"txt": "x"}]),
    }
    half = b'{"text": "\\ud800"}\n'
    actual = read_all(
        "pile", file("x.jsonl", good + b"".join(bad.values()) + half + b"\n\n" + good)
    )
    assert [item.text for item in actual if isinstance(item, Document)] == ["good", "good"]
    expected = list(bad)
    expected.insert(expected.index("wrong_type"), "wrong_type")
    assert rules(actual) == [*expected, "invalid_utf8"]


def test_wrong_values_of_a_table_are_counted(tmp_path):
    content = pyarrow.array([b"x", b"\xff\xfe", None, b"a\0"], pyarrow.binary())
    table = pyarrow.table({"content": content, "path": ["a.py", None, "c.py", "d.py"]})
    parquet.write_table(table, tmp_path / "x.parquet")
    actual = read_all("bigpython", tmp_path / "x.parquet")
    assert actual[0].text == "x"
    assert rules(actual) == ["invalid_utf8", "null_content", "nul_bytes"]


def test_strings_that_are_not_utf8_do_not_take_others_with_them(tmp_path):
    content = pyarrow.array([b"x", b"\xff\xfe"], pyarrow.binary()).view(pyarrow.string())
    table = pyarrow.table({"content": content, "path": ["a.py", "b.py"]})
    parquet.write_table(table, tmp_path / "x.parquet")
    actual = read_all("bigpython", tmp_path / "x.parquet")
    assert actual[0].text == "x" and rules(actual) == ["invalid_utf8"]


def test_empty_files_are_no_documents(file):
    gz = file("a.jsonl.gz", gzip.compress(b""))
    assert read_all("pile", file("a.jsonl", b""), gz, file("b.jsonl.zst", b"")) == []


def test_a_line_of_200_mb_is_skipped_without_being_held(tmp_path):
    path = tmp_path / "long.jsonl.gz"
    with gzip.open(path, "wb", compresslevel=1) as out:
        out.write(json_lines(PILE[:1]) + b'{"text": "')
        for _ in range(200):
            out.write(b"a" * 1_000_000)
        out.write(b'"}\n' + json_lines(PILE[1:2]))
    tracemalloc.start()
    actual = read_all("pile", path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert rules(actual) == ["line_too_long"] and len(actual) == 3
    assert actual[1].size == 200_000_000 + len('{"text": ""}')
    assert peak < 3 * json_records.MAX_LINE_BYTES


def test_a_large_document_is_dropped(file):
    actual = read_all("pile", file("x.jsonl", json_lines([{"text": "é" * (9 << 20)}, PILE[0]])))
    assert rules(actual) == ["document_too_large"]


def test_a_file_of_nul_bytes_is_dropped(file):
    actual = read_all("pile", file("x.jsonl", bytes(10_000)), file("y.jsonl", json_lines(PILE)))
    assert rules(actual) == ["nul_bytes"] and len(actual) == 51


def test_what_mostly_cannot_be_read_is_more_than_half(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text('{"text": "a"}\n{"text": b}\n')
    assert reading.explain_unreadable("pile", str(path), 1, 1) is None
    assert reading.explain_unreadable("pile", str(path), 499, 498) is None
    message = reading.explain_unreadable("pile", str(path), 1, 499)
    assert (
        f"{path} holds little to read: 499 of 500 records are not valid JSON, or lack what"
        in message
    )
    assert message.endswith("""it begins with '{"text": "a"}'""")
    path.write_bytes(b"{'text': 'a'}\n" * 9)
    message = reading.explain_unreadable("pile", str(path), 0, 9)
    assert "all 9 records lack" in message and "looks like Python's own notation" in message
    for content, looks in (
        (b'{"text": "\xe9"}\n' * 9, "text that is not UTF-8: write it as UTF-8"),
        (b'{"text": {"0": "a", "1": "b"}}', "one object that holds all: write its records"),
    ):
        path.write_bytes(content)
        assert f"; it looks like {looks}" in reading.explain_unreadable("pile", str(path), 0, 9)


FIELDS = ("content", "path", "repo_name", "license")
PACKED = {"": bytes, ".gz": gzip.compress, ".zst": zstandard.ZstdCompressor().compress}
CODE_RECORDS = st.lists(
    st.fixed_dictionaries(dict.fromkeys(FIELDS, st.text(max_size=30))), max_size=30
)


def write_json_lines(path, records, ascii_only=True):
    lines = (json.dumps(record, ensure_ascii=ascii_only) + "\n" for record in records)
    path.write_bytes(PACKED[path.suffix if path.suffix in PACKED else ""]("".join(lines).encode()))


def write_avro(path, records):
    fields = [{"name": name, "type": ["null", "string"]} for name in FIELDS]
    schema = {"type": "record", "name": "file", "fields": fields}
    with path.open("wb") as file:
        fastavro.writer(file, schema, records, codec="deflate", sync_interval=200)


def write_table(path, records):
    schema = pyarrow.schema([(name, pyarrow.string()) for name in FIELDS])
    parquet.write_table(pyarrow.Table.from_pylist(records, schema), path, row_group_size=4)


WRITERS = {
    "a.jsonl": write_json_lines,
    "b.json": lambda path, records: write_json_lines(path, records, ascii_only=False),
    "a.jsonl.gz": write_json_lines,
    "a.ndjson.zst": write_json_lines,
    "a.parquet": write_table,
    "a.avro": write_avro,
}


@settings(max_examples=40, deadline=None)
@given(CODE_RECORDS, st.integers(1, 500))
def test_files_of_code_come_back_from_every_format(tmp_path_factory, records, max_bytes):
    folder = tmp_path_factory.mktemp("formats")
    expected = [
        "nul_bytes"
        if "\0" in record["content"]
        else (
            record["content"],
            storage.escape_path(record["path"]),
            storage.escape_path(record["repo_name"]),
            storage.escape_path(" ".join(record["license"].split())),
        )
        for record in records
    ]
    for name, write in WRITERS.items():
        write(folder / name, records)
        actual = [
            item.rule
            if isinstance(item, Dropped)
            else (item.text, item.path, item.repository, item.licence)
            for item in read_all("bigquery", folder / name, max_bytes=max_bytes)
        ]
        assert actual == expected, name


@settings(max_examples=30, deadline=None)
@given(st.lists(st.text(st.characters(exclude_characters="\0", codec="utf-8"))), st.integers(1, 99))
def test_texts_and_pairs_come_back_packed_or_not(tmp_path_factory, texts, max_bytes):
    folder = tmp_path_factory.mktemp("texts")
    message = [text for text in texts if text.strip()]
    for ending in PACKED:
        path = folder / f"a.jsonl{ending}"
        write_json_lines(path, [{"text": text} for text in texts])
        assert [actual.text for actual in read_all("pile", path, max_bytes=max_bytes)] == texts
        write_json_lines(path, [{"instruction": "Go.", "output": text} for text in message])
        actual = [document.turns for document in read_all("instruction", path, max_bytes=max_bytes)]
        assert actual == [(Turn("user", "Go."), Turn("assistant", text)) for text in message]


@pytest.mark.parametrize("licence", [b"mit", ["mit"], "mit"])
def test_a_licence_is_read_from_text_bytes_and_lists(tmp_path, licence):
    kinds = {bytes: "bytes", str: "string", list: {"type": "array", "items": "string"}}
    row = {"content": "x = 1\n", "path": "a.py", "license": licence}
    types = {"content": "string", "path": "string", "license": kinds[type(licence)]}
    fields = [{"name": name, "type": kind} for name, kind in types.items()]
    with (tmp_path / "a.avro").open("wb") as file:
        fastavro.writer(file, {"type": "record", "name": "file", "fields": fields}, [row])
    parquet.write_table(pyarrow.Table.from_pylist([row]), tmp_path / "a.parquet")
    for name in ("a.avro", "a.parquet"):
        (actual,) = read_all("bigquery", tmp_path / name, max_bytes=1_000)
        assert actual.licence == "mit"


@pytest.mark.parametrize("name", ["a.avro", "a.parquet"])
def test_a_column_of_another_type_is_an_error(tmp_path, name):
    rows = [{"content": 1, "path": "a.py"}]
    if name == "a.avro":
        fields = [{"name": "content", "type": ["null", "int"]}, {"name": "path", "type": "string"}]
        with (tmp_path / name).open("wb") as file:
            fastavro.writer(file, {"type": "record", "name": "file", "fields": fields}, rows)
    else:
        parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / name)
    with pytest.raises(
        ValueError, match=f"{name} has a column content of type int.*; expected text"
    ):
        read_all("bigquery", tmp_path / name, max_bytes=1_000)
