"""Raw files of every kind, whole and damaged, as documents."""

import gzip
import json
import subprocess
import tracemalloc

import fastavro
import pyarrow
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from codegen_pax.data.format.documents import Document, Dropped, Turn
from codegen_pax.data.sources import discovery, errors, json_records, partitions, reading

PILE = [{"text": f"document {n} \u00e9\n", "meta": {"pile_set_name": "Books3"}} for n in range(50)]
CODE = [
    {"content": f"x = {n}\n", "path": f"a/{n}.py", "repo_name": "o/r", "license": "mit"}
    for n in range(600)
]


def json_lines(records):
    return "".join(json.dumps(record) + "\n" for record in records).encode()


def read_all(corpus, *patterns, at_most=partitions.PARTITION_BYTES):
    pieces = partitions.plan(corpus, discovery.find(corpus, [str(p) for p in patterns]), at_most)
    return [found for piece in pieces for found in reading.documents(piece)]


def rules(found):
    return [item.rule for item in found if isinstance(item, Dropped)]


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
    found = read_all("pile", path)
    assert [document.text for document in found] == [record["text"] for record in PILE]
    assert {document.repository for document in found} == {"Books3"}
    assert {document.language for document in found} == {"text"}
    starts = [0]
    for record in PILE:
        starts.append(starts[-1] + len(json_lines([record])))
    assert [d.record for d in found] == (list(range(50)) if ending else starts[:-1])


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
    found = read_all("bigquery", path, at_most=2_000)
    assert [(d.text, d.path, d.repository, d.licence) for d in found] == [
        (r["content"], r["path"], r["repo_name"], r["license"]) for r in CODE
    ]
    assert len({d.record for d in found}) == len(CODE)


def test_instructions(file):
    records = [
        {"instruction": "Add.", "input": "1 2", "output": "3"},
        {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]},
        {"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]},
        {"messages": [{"role": "user", "content": "no answer"}]},
        {"messages": "no list"},
    ]
    found = read_all("instruction", file("i.jsonl", json_lines(records)))
    assert found[0].turns == (Turn("user", "Add.\n\n### Input:\n1 2"), Turn("assistant", "3"))
    assert found[1].turns == (Turn("user", "Hi"), Turn("assistant", "Ho"))
    assert found[2].turns == (Turn("user", "a"), Turn("assistant", "b"))
    assert rules(found) == ["no_turns", "wrong_type"]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(st.sampled_from("ab\r\té"), max_size=9)), st.integers(1, 40), st.booleans())
def test_every_line_is_in_one_range(tmp_path_factory, texts, at_most, closed):
    path = tmp_path_factory.mktemp("lines") / "x.jsonl"
    content = "\n".join(texts).encode() + b"\n" * closed
    path.write_bytes(content)
    ranges = range(0, len(content), at_most)
    found = [
        (offset, size, line)
        for start in ranges
        for offset, size, line in json_records.lines(
            str(path), start, min(start + at_most, len(content))
        )
    ]
    wanted, offset = [], 0
    pieces = content.split(b"\n")
    for number, piece in enumerate(pieces):
        if piece or number < len(pieces) - 1:
            wanted.append((offset, len(piece), piece.removesuffix(b"\r")))
        offset += len(piece) + 1
    assert found == wanted


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
        *documents, found = read_all("bigquery", path)
        assert found.rule == "damaged" and "lacks its end" in found.damage
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
    found = read_all("pile", file("x.jsonl", good + b"".join(bad.values()) + half + b"\n\n" + good))
    assert [item.text for item in found if isinstance(item, Document)] == ["good", "good"]
    wanted = list(bad)
    wanted.insert(wanted.index("wrong_type"), "wrong_type")
    assert rules(found) == [*wanted, "invalid_utf8"]


def test_wrong_values_of_a_table_are_counted(tmp_path):
    content = pyarrow.array([b"x", b"\xff\xfe", None, b"a\0"], pyarrow.binary())
    table = pyarrow.table({"content": content, "path": ["a.py", None, "c.py", "d.py"]})
    parquet.write_table(table, tmp_path / "x.parquet")
    found = read_all("bigpython", tmp_path / "x.parquet")
    assert found[0].text == "x"
    assert rules(found) == ["invalid_utf8", "null_content", "nul_bytes"]


def test_strings_that_are_not_utf8_do_not_take_others_with_them(tmp_path):
    content = pyarrow.array([b"x", b"\xff\xfe"], pyarrow.binary()).view(pyarrow.string())
    table = pyarrow.table({"content": content, "path": ["a.py", "b.py"]})
    parquet.write_table(table, tmp_path / "x.parquet")
    found = read_all("bigpython", tmp_path / "x.parquet")
    assert found[0].text == "x" and rules(found) == ["invalid_utf8"]


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
    found = read_all("pile", path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert rules(found) == ["line_too_long"] and len(found) == 3
    assert found[1].size == 200_000_000 + len('{"text": ""}')
    assert peak < 3 * json_records.MAX_LINE_BYTES


def test_a_large_document_is_dropped(file):
    found = read_all("pile", file("x.jsonl", json_lines([{"text": "é" * (9 << 20)}, PILE[0]])))
    assert rules(found) == ["document_too_large"]


def test_a_file_of_nul_bytes_is_dropped(file):
    found = read_all("pile", file("x.jsonl", bytes(10_000)), file("y.jsonl", json_lines(PILE)))
    assert rules(found) == ["nul_bytes"] and len(found) == 51


@pytest.fixture
def tree(tmp_path):
    root = tmp_path / "company"
    files = {
        ".gitignore": "*.gen.py\n/build/\n!kept.gen.py\n",
        "a.py": "a = 1\n",
        "x.gen.py": "",
        "kept.gen.py": "k = 1\n",
        "build/b.py": "",
        "sub/build/c.py": "c = 1\n",
        "sub/.gitignore": "!x.gen.py\nsecret/\n",
        "sub/x.gen.py": "s = 1\n",
        "sub/secret/d.py": "",
        "sub/secret/.gitignore": "!d.py\n",
        "node_modules/e.js": "",
        ".hidden/f.py": "",
        "vendor/g.go": "",
        "bin.py": "\0\1",
        "latin.py": "",
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    (root / "latin.py").write_bytes(b"# \xe9t\xe9\n")
    (root / "link.py").symlink_to(root / "a.py")
    return root


def test_a_tree_is_what_git_would_keep(tree):
    found = read_all("tree", tree)
    kept = {d.path for d in found if isinstance(d, Document)}
    assert kept == {"a.py", "kept.gen.py", "sub/build/c.py", "sub/x.gen.py"}
    assert sorted(rules(found)) == ["binary", "invalid_utf8"]
    assert {d.repository for d in found if isinstance(d, Document)} == {"company"}

    git = ["git", "-C", str(tree)]
    subprocess.run([*git, "init", "-q"], check=True)
    listed = subprocess.run(
        [*git, "ls-files", "-o", "--exclude-standard"], check=True, capture_output=True, text=True
    ).stdout.split()
    others = {"node_modules/e.js", ".hidden/f.py", "vendor/g.go", "link.py"}
    git_files = {name for name in listed if not name.endswith(".gitignore")} - others
    assert git_files == kept | {"bin.py", "latin.py"}


def test_repositories_in_a_tree(tmp_path):
    for name in ("one", "two/inner"):
        (tmp_path / "all" / name / ".git").mkdir(parents=True)
        (tmp_path / "all" / name / ".git" / "HEAD").write_text("ref")
        (tmp_path / "all" / name / "x.py").write_text("x = 1\n")
    found = read_all("tree", tmp_path / "all", at_most=1)
    assert [(d.repository, d.path) for d in found] == [
        ("one", "x.py"),
        ("two/inner", "x.py"),
    ]


def test_what_cannot_be_found_is_told(tmp_path):
    with pytest.raises(ValueError, match="nearest: pile"):
        discovery.find("pil", [])
    with pytest.raises(ValueError, match=r"found nothing to read at .*none; expected .jsonl"):
        discovery.find("pile", [str(tmp_path / "none")])
    (tmp_path / "x.csv").write_text("")
    with pytest.raises(ValueError, match=r"cannot read .*x.csv; pile expects .jsonl"):
        discovery.find("pile", [str(tmp_path / "x.csv")])
