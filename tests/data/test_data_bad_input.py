"""Bad input through the whole pipeline: a clear error and no manifest, or a counted drop."""

import gzip
import json

import fastavro
import pyarrow
import pytest
import zstandard
from etils import epath
from pyarrow import parquet

from codegen_pax.cli import main
from codegen_pax.data.format import manifest
from codegen_pax.data.prepare import examine, output, pipeline, steps
from codegen_pax.data.prepare.settings import WORK_FOLDER, Settings
from codegen_pax.data.sources import discovery, errors, json_records, partitions
from codegen_pax.errors import UserError
from tests.data.prepared_corpora import prepare_corpus

CODE = [{"content": f"x = {n}\n", "path": f"{n}.py", "license": "mit"} for n in range(400)]
FIELDS = [{"name": name, "type": "string"} for name in CODE[0]]
SCHEMA = {"type": "record", "name": "file", "fields": FIELDS}
LINES = "".join(json.dumps(record) + "\n" for record in CODE).encode()
ZST = zstandard.ZstdCompressor(write_checksum=True).compress(LINES)


def prepare(path, at_most=partitions.PARTITION_BYTES):
    """Prepares one file; returns the manifest."""
    settings = Settings("bigquery", str(path.parent / "out"), row_length=32)
    return prepare_corpus(settings, path, at_most=at_most)


def look_at(path):
    """The first step of the pipeline on one file, and what is said of all inputs after it."""
    settings = Settings("bigquery", str(path.parent / "out"), row_length=32)
    output.begin(settings)
    pieces = partitions.plan("bigquery", discovery.find("bigquery", [str(path)]))
    report = steps.merge_reports(examine.examine(piece, settings).report for piece in pieces)
    return output.faulty_inputs(report.damaged, "bigquery", report.records)


def flipped(data):
    place = len(data) // 2
    return data[:place] + bytes([data[place] ^ 0xFF]) + data[place + 1 :]


def avro(path):
    with path.open("wb") as file:
        fastavro.writer(file, SCHEMA, CODE, codec="deflate")


def table(path, records=CODE, **columns):
    found = pyarrow.Table.from_pylist(records)
    for name, values in columns.items():
        found = found.drop_columns([name]).append_column(name, values)
    parquet.write_table(found, path, write_page_checksum=True)


ERRORS = {
    "cut.jsonl.zst": (ZST[:-200], "is damaged .*inside a zstd frame"),
    "cut.jsonl.gz": (gzip.compress(LINES)[:-200], "is damaged .*ended before"),
    "flipped.jsonl.zst": (flipped(ZST), "is damaged"),
    "flipped.jsonl.gz": (flipped(gzip.compress(LINES)), "is damaged"),
    "nul.jsonl.gz": (bytes(9_000), "is damaged"),
    "nul.jsonl.zst": (bytes(9_000), "is damaged"),
    "nul.parquet": (bytes(9_000), "is damaged"),
    "nul.avro": (bytes(9_000), "is damaged"),
    "nul.jsonl": (bytes(9_000), "is damaged .the line at byte 0 holds NUL bytes"),
    "names.jsonl": (LINES.replace(b'"content"', b'"contents"'), "lack what is expected .content"),
    "types.jsonl": (b'{"content": 7, "path": "a.py"}\n', "lack what is expected .content"),
    "utf16.jsonl": (LINES.decode().encode("utf-16"), "looks like UTF-16 text; write it as UTF-8"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_a_file_that_is_not_what_it_should_be(tmp_path, name):
    content, said = ERRORS[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(errors.UnreadableInputError, match=said) as error:
        look_at(tmp_path / name)
    assert "\n" not in str(error.value)


def test_what_a_run_says_of_one_file_that_is_damaged_or_empty(tmp_path):
    for name, content, said in (
        ("cut.jsonl.zst", *ERRORS["cut.jsonl.zst"]),
        ("empty.parquet", b"", "no document was kept: found 0"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=f"(?s){said}") as error:
            prepare(tmp_path / name)
        assert "\n" not in str(error.value)
        assert not (tmp_path / "out" / manifest.FILE).exists()


def test_a_piece_of_a_file_may_hold_nothing_to_read(tmp_path):
    path = tmp_path / "x.jsonl"
    cut = b'{"content": "cut of'
    path.write_bytes(LINES + cut)
    found = manifest.totals_by_rule(prepare(path, at_most=len(LINES)).counts["documents"])
    assert found["malformed_json"] == [1, len(cut), 0] and found[manifest.KEPT][0] == 400


def test_a_file_of_which_no_piece_can_be_read_is_told_before_the_long_steps(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_bytes(LINES.replace(b'"content"', b'"contents"'))
    said = r"x.jsonl holds nothing to read: all 400 records lack .*it begins with '\{\"contents\": "
    with pytest.raises(pipeline.PrepareError, match=said):
        prepare(path, at_most=3_000)
    left = {path.name for path in (tmp_path / "out" / WORK_FOLDER).iterdir()}
    assert "passed" in left and "tokenised" not in left


def test_faulty_files_cost_themselves_and_are_named(tmp_path, capsys):
    (tmp_path / "good.jsonl").write_bytes(LINES)
    for name in ("cut.jsonl.zst", "flipped.jsonl.gz", "nul.parquet", "nul.avro"):
        (tmp_path / name).write_bytes(ERRORS[name][0])
    table(tmp_path / "other.parquet", [{"contnt": "x", "path": "a.py"}])
    table(tmp_path / "none_left.parquet", [{**row, "content": f"y{row}"} for row in CODE])
    data = (tmp_path / "none_left.parquet").read_bytes()
    (tmp_path / "none_left.parquet").write_bytes(flipped(data))
    (tmp_path / "page.jsonl").write_bytes(b"<!DOCTYPE html><html><body>Not found</body></html>")
    (tmp_path / "names.jsonl").write_bytes(ERRORS["names.jsonl"][0])
    (tmp_path / "_SUCCESS").write_bytes(b"")
    bad = {path.name for path in tmp_path.iterdir()} - {"good.jsonl", "_SUCCESS"}
    folder = tmp_path.parent / "damaged_out"
    options = ("--row-length=32", f"--output={folder}", "--validation=0", "--workers=1")
    assert main.main(["prepare", "bigquery", "--input", str(tmp_path), *options]) == 0
    made = manifest.load(epath.Path(folder))
    totals = manifest.totals_by_rule(made.counts["documents"])
    assert {rule: values[0] for rule, values in totals.items()} == {
        manifest.IN: 400 + 6 + 400 + 400,
        manifest.KEPT: 400,
        "unreadable_file": 6,
        "missing_field": 400,
        "damaged": 400,
    }
    assert {path.rpartition("/")[2] for path in made.counts["damaged"]} == bad
    assert made.counts["left_out"] == {"other_ending": 1}
    said = " ".join(capsys.readouterr().out.split())
    assert "WARNING: 8 of 9 inputs have faults" in said
    assert "other.parquet has no column content" in said and "1 other_ending" in said
    assert "page.jsonl: it looks like an HTML page" in said and "all 400 records lack" in said


@pytest.mark.parametrize("damage", ["cut", "flipped"])
@pytest.mark.parametrize("ending", ["parquet", "avro"])
def test_a_table_that_is_damaged(tmp_path, ending, damage):
    path = tmp_path / f"x.{ending}"
    table(path) if ending == "parquet" else avro(path)
    data = path.read_bytes()
    path.write_bytes(data[:-100] if damage == "cut" else flipped(data))
    with pytest.raises(errors.UnreadableInputError, match=f"x.{ending} is damaged"):
        look_at(path)


@pytest.mark.parametrize(
    ("records", "said"),
    [
        ([{"contnt": "x", "path": "a.py"}], "has no column content .nearest: contnt."),
        ([{"content": 7, "path": "a.py"}], "has a column content of type int64; expected text"),
        (
            [{"content": ["x"], "path": "a.py"}],
            "has a column content of type list.*; expected text",
        ),
    ],
)
def test_a_table_of_other_columns(tmp_path, records, said):
    table(tmp_path / "x.parquet", records)
    with pytest.raises(errors.UnreadableInputError, match=f"x.parquet {said}"):
        look_at(tmp_path / "x.parquet")


def test_bad_records_among_good_ones_are_counted(tmp_path):
    long = b'{"content": "' + b"a" * json_records.MAX_LINE_BYTES + b'"}'
    bad = {"invalid_utf8": b'{"content": "\xff"}', "line_too_long": long, "nul_bytes": bytes(9_000)}
    path = tmp_path / "x.jsonl"
    path.write_bytes(b"\n".join([LINES, *bad.values(), b'{"content": "cut of']))
    made = prepare(path).counts
    assert [*made["damaged"]] == [str(path)]  # by its NUL bytes
    found = manifest.totals_by_rule(made["documents"])
    assert found.pop(manifest.KEPT)[:2] == [400, sum(len(r["content"]) for r in CODE)]
    assert found.pop("malformed_json") == [1, len('{"content": "cut of'), 0]
    assert found.pop(manifest.IN)[0] == 404
    assert found == {rule: [1, len(line), 0] for rule, line in bad.items()}
    assert len(long) > json_records.MAX_LINE_BYTES


def test_bad_cells_of_a_table_are_counted(tmp_path):
    cells = [b"x = 1\n" * 20, b"\xff", None, b"a\0", b"a" * (17 << 20)]
    table(tmp_path / "x.parquet", CODE[: len(cells)], content=[cells])
    found = manifest.totals_by_rule(prepare(tmp_path / "x.parquet").counts["documents"])
    dropped = {rule: values[0] for rule, values in found.items()}
    rules = ("invalid_utf8", "null_content", "nul_bytes", "document_too_large", manifest.KEPT)
    assert dropped == {manifest.IN: len(cells), **dict.fromkeys(rules, 1)}
