"""Files listed and opened, here and behind URLs, with TensorFlow's `ram://` as object storage."""

import gzip
import hashlib
import json
import os

import pyarrow
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from codegen_pax.data.format.documents import Document
from codegen_pax.data.sources import discovery, partitions, reading, schemas, storage, tree
from tests.data.read_inputs import read_all

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
    actual = schemas.to_document("bigquery", record, "t", 0, 1)
    expected = r"src/\ud83d.py" if path == "src/\ud83d.py" else r"src/\xe9.py"
    assert actual == Document("x = 1\n", "t", 0, path=expected, repository=expected, licence="mit")


def names(files):
    return sorted(os.path.basename(file.path) for file in files)


@pytest.fixture
def folder(tmp_path):
    """Files and what looks like them, in a folder whose name is a glob."""
    root = tmp_path / "a[1]*"
    (root / "sub").mkdir(parents=True)
    for name in ("[id].js", "x.js", "sub/y.js"):
        (root / name).write_text("var x = 1;\n")
    (root / "lost.js").symlink_to("nowhere")
    (root / "itself.js").symlink_to("itself.js")
    (root / "through.js").symlink_to("x.js/y.js")
    (root / "loop").symlink_to(root)
    os.mkfifo(root / "pipe.js")  # who opens it waits for ever
    return root


def test_names_that_are_globs_are_themselves_first(folder):
    assert names(storage.walk_files(str(folder))) == ["[id].js", "x.js", "y.js"]
    assert names(storage.glob_files(str(folder / "[id].js"))) == ["[id].js"]
    assert names(storage.glob_files(f"{folder.parent}/*/?.js")) == ["x.js"]
    assert (
        storage.glob_files(str(folder / "none.js"))
        == storage.walk_files(str(folder / "x.js"))
        == []
    )
    assert sorted(document.path for document in read_all("tree", folder)) == [
        "[id].js",
        "sub/y.js",
        "x.js",
    ]


def test_a_name_that_is_not_unicode_is_no_matter_of_the_content(tmp_path):
    root = os.fsencode(tmp_path) + b"/r\xe9pos"
    os.makedirs(root + b"/shop\xff/.git")
    for name in (b"/shop\xff/.git/HEAD", b"/shop\xff/\xff.py", b"/shop\xff/good.py"):
        with open(root + name, "w") as file:
            file.write("x = 1\n")
    (partition,) = partitions.plan("tree", discovery.find("tree", [os.fsdecode(root)]))
    actual = list(reading.documents(partition))
    assert [(one.repository, one.path, one.text) for one in actual] == [
        ("shop\\xff", "good.py", "x = 1\n"),
        ("shop\\xff", "\\xff.py", "x = 1\n"),
    ]
    assert actual[1].source == f"{tmp_path}/r\\xe9pos/shop\\xff/\\xff.py"
    expected = hashlib.sha256()
    content = hashlib.sha256(b"x = 1\n").hexdigest()
    for name in (b"shop\xff/good.py", b"shop\xff/\xff.py"):
        expected.update(name + f"\0{content}\n".encode())
    assert tree.sha256(partition.source, partition.files) == expected.hexdigest()


def put(url, content):
    tf.io.gfile.makedirs(url.rpartition("/")[0])
    with tf.io.gfile.GFile(url, "wb") as file:
        file.write(content)


@pytest.fixture(scope="module")
def bucket():
    """URL of a folder with JSON lines, Parquet and a tree."""
    url = "ram://bucket/raw"
    lines = "".join(json.dumps({"text": f"text {n}"}) + "\n" for n in range(50)).encode()
    put(f"{url}/pile/a.jsonl", lines)
    put(f"{url}/pile/b.jsonl.gz", gzip.compress(lines))
    put(f"{url}/pile/.trash/c.jsonl", lines)
    put(f"{url}/nested/deep/deeper/c.jsonl", lines)
    sink = pyarrow.BufferOutputStream()
    rows = [{"content": f"x = {n}\n", "path": f"{n}.py"} for n in range(50)]
    parquet.write_table(pyarrow.Table.from_pylist(rows), sink, row_group_size=20)
    put(f"{url}/code/a.parquet", sink.getvalue().to_pybytes())
    put(f"{url}/tree/.gitignore", b"build/\n")
    put(f"{url}/tree/a.py", b"a = 1\n")
    put(f"{url}/tree/sub/b.py", b"b = 1\n")
    put(f"{url}/tree/build/c.py", b"c = 1\n")
    return url


def documents(corpus, *patterns):
    return read_all(corpus, *patterns, max_bytes=300)


def test_a_bucket_is_read_as_a_folder_is(bucket):
    texts = [f"text {n}" for n in range(50)]
    assert [d.text for d in documents("pile", f"{bucket}/pile")] == texts * 2
    assert [d.text for d in documents("pile", f"{bucket}/pile/*.jsonl")] == texts
    assert [d.text for d in documents("pile", f"{bucket}/pile/b.jsonl.gz")] == texts
    assert [d.text for d in documents("pile", f"{bucket}/nested")] == texts
    code = documents("bigquery", f"{bucket}/code/")
    assert [d.text for d in code] == [f"x = {n}\n" for n in range(50)]
    actual = documents("tree", f"{bucket}/tree/")
    assert [(d.path, d.repository) for d in actual] == [("a.py", "tree"), ("sub/b.py", "tree")]
    digest = hashlib.sha256(b"a = 1\n").hexdigest()
    assert storage.sha256(f"{bucket}/tree/a.py") == digest


def test_a_tree_in_a_bucket_has_the_rules_of_its_repository():
    # A folder `.git` and `.gitignore` are one and the same to `ram://`, so it is a file here.
    for name, content in {
        "stores/name/HEAD": b"ref: refs/heads/main\n",
        "stores/name/info/exclude": b"private.py\n",
        "owner/name/.git": b"gitdir: ../../stores/name\n",
        "owner/name/.gitignore": b"build/\n",
        "owner/name/src/a.py": b"a = 1\n",
        "owner/name/src/build/b.py": b"b = 1\n",
        "owner/name/src/private.py": b"c = 1\n",
        "owner/name/vendor/d.py": b"d = 1\n",
        "owner/name/lib/.git/HEAD": b"ref: refs/heads/main\n",
        "owner/name/lib/private.py": b"e = 1\n",
    }.items():
        put(f"ram://trees/{name}", content)
    assert [(d.path, d.repository) for d in documents("tree", "ram://trees/owner/name/src")] == [
        ("src/a.py", "name")
    ]
    assert [(d.path, d.repository) for d in documents("tree", "ram://trees/owner/")] == [
        ("private.py", "name/lib"),
        ("src/a.py", "name"),
    ]
    left_out = tree.list_files("ram://trees/owner").left_out
    assert left_out == {"git_ignored": 2, "hidden": 1, "vendored": 1}


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("ram://bucket/none", "found nothing to read at ram://bucket/none; expected .jsonl"),
        ("nonsense://bucket/x.jsonl", "cannot reach nonsense://bucket/x.jsonl: .*not implemented"),
        ("hdfs://bucket/x.jsonl", "[hH]dfs"),
    ],
)
def test_what_cannot_be_reached_is_told(url, message):
    with pytest.raises((OSError, ValueError), match=message):
        discovery.find("pile", [url])
    with pytest.raises(storage.UnreachableError, match="nothing here writes nonsense://"):
        storage.as_epath("nonsense://bucket/out")
