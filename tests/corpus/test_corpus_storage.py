"""Files found and opened: odd names here, and URLs, with TensorFlow's `ram://` for a bucket."""

import gzip
import hashlib
import json
import os

import pyarrow
import pytest
import tensorflow as tf
from pyarrow import parquet

from codegen_pax.corpus.raw import inputs, read, splits, storage, tree


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
    (root / "loop").symlink_to(root)
    os.mkfifo(root / "pipe.js")  # who opens it waits for ever
    return root


def test_names_that_are_globs_are_themselves_first(folder):
    assert names(storage.below(str(folder))) == ["[id].js", "x.js", "y.js"]
    assert names(storage.matching(str(folder / "[id].js"))) == ["[id].js"]
    assert names(storage.matching(f"{folder.parent}/*/?.js")) == ["x.js"]
    assert storage.matching(str(folder / "none.js")) == storage.below(str(folder / "x.js")) == []
    found = read.documents(*splits.split("tree", inputs.find("tree", [str(folder)])))
    assert sorted(document.path for document in found) == ["[id].js", "sub/y.js", "x.js"]


def test_a_name_that_is_not_unicode_is_a_counted_drop(tmp_path):
    (tmp_path / "good.py").write_text("x = 1\n")
    with open(os.fsencode(tmp_path) + b"/\xff.py", "w") as file:
        file.write("y = 1\n")
    found = list(read.documents(*splits.split("tree", inputs.find("tree", [str(tmp_path)]))))
    assert [getattr(item, "rule", None) for item in found] == [None, "invalid_utf8"]
    assert len(tree.sha256(str(tmp_path))) == 64


def test_the_bytes_of_a_tree_are_those_of_its_own_files(tmp_path):
    (tmp_path / "a.py").write_text("x = 1\n")
    (tmp_path / "node_modules").mkdir()
    (tmp_path / "node_modules" / "b.js").write_text("not ours\n")
    assert inputs.find("tree", [str(tmp_path)]) == [storage.File(str(tmp_path), 6)]
    (tmp_path / "a.py").unlink()
    with pytest.raises(ValueError, match="wanted a folder with files that are not hidden, vendor"):
        inputs.find("tree", [str(tmp_path)])


def test_a_folder_is_searched_to_its_bottom(tmp_path, monkeypatch):
    wanted = ["00.jsonl", "a/00.jsonl", "a/b/c/01.jsonl.gz", "d.x/00.jsonl"]
    others = [".git/x.jsonl", "a/.cache/deep/x.jsonl", "a/README.md", "a/00.tfrecord"]
    for name in (*wanted, *others):
        (tmp_path / ".raw" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / ".raw" / name).write_bytes(b"")
    folder = tmp_path / ".raw"  # what is asked for is not left out
    found = [storage.File(f"{folder}/{name}", 0) for name in wanted]
    assert inputs.find("pile", [str(folder)]) == inputs.find("pile", [f"{folder}/"]) == found
    monkeypatch.chdir(folder)
    assert [file.path for file in inputs.find("pile", ["."])] == [f"./{name}" for name in wanted]
    (folder / "a" / "00.jsonl").unlink()
    (folder / "a" / "b" / "c" / "01.jsonl.gz").unlink()
    with pytest.raises(ValueError, match=r"found nothing to read at .*raw/a; wanted .jsonl"):
        inputs.find("pile", [str(folder / "a")])


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


def documents(corpus, *patterns, at_most=300):
    pieces = splits.split(corpus, inputs.find(corpus, patterns), at_most)
    return [document for piece in pieces for document in read.documents(piece)]


def test_a_bucket_is_read_as_a_folder_is(bucket):
    texts = [f"text {n}" for n in range(50)]
    assert [d.text for d in documents("pile", f"{bucket}/pile")] == texts * 2
    assert [d.text for d in documents("pile", f"{bucket}/pile/*.jsonl")] == texts
    assert [d.text for d in documents("pile", f"{bucket}/pile/b.jsonl.gz")] == texts
    assert [d.text for d in documents("pile", f"{bucket}/nested")] == texts
    code = documents("bigquery", f"{bucket}/code/")
    assert [d.text for d in code] == [f"x = {n}\n" for n in range(50)]
    found = documents("tree", f"{bucket}/tree/")
    assert [(d.path, d.repository) for d in found] == [("a.py", "tree"), ("sub/b.py", "tree")]
    digest = hashlib.sha256(b"a = 1\n").hexdigest()
    assert storage.sha256(f"{bucket}/tree/a.py") == digest


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("ram://bucket/none", "found nothing to read at ram://bucket/none; wanted .jsonl"),
        ("nonsense://bucket/x.jsonl", "cannot reach nonsense://bucket/x.jsonl: .*not implemented"),
        ("hdfs://bucket/x.jsonl", "[hH]dfs"),
    ],
)
def test_what_cannot_be_reached_is_told(url, said):
    with pytest.raises((OSError, ValueError), match=said):
        inputs.find("pile", [url])
    with pytest.raises(storage.UnreachableError, match="nothing here writes nonsense://"):
        storage.folder("nonsense://bucket/out")
