"""Which files an input pattern stands for, and which are left out."""

import pytest

from codegen_pax.data.sources import discovery, storage


def test_the_bytes_of_a_tree_are_those_of_its_own_files(tmp_path):
    (tmp_path / "a.py").write_text("x = 1\n")
    (tmp_path / "node_modules").mkdir()
    (tmp_path / "node_modules" / "b.js").write_text("not ours\n")
    assert discovery.find("tree", [str(tmp_path)]) == [storage.File(str(tmp_path), 6)]
    (tmp_path / "a.py").unlink()
    with pytest.raises(
        ValueError, match=r"not hidden, vendored or git-ignored \(left out: 1 vendored\)"
    ):
        discovery.find("tree", [str(tmp_path)])


def test_a_folder_is_searched_to_its_bottom(tmp_path, monkeypatch):
    expected = ["00.jsonl", "a/00.jsonl", "a/b/c/01.jsonl.gz", "d.x/00.jsonl"]
    others = [".git/x.jsonl", "a/.cache/deep/x.jsonl", "a/README.md", "a/00.tfrecord"]
    for name in (*expected, *others):
        (tmp_path / ".raw" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / ".raw" / name).write_bytes(b"")
    folder = tmp_path / ".raw"  # what is asked for is not left out
    actual = [storage.File(f"{folder}/{name}", 0) for name in expected]
    assert discovery.find("pile", [str(folder)]) == discovery.find("pile", [f"{folder}/"]) == actual
    monkeypatch.chdir(folder)
    assert [file.path for file in discovery.find("pile", ["."])] == [
        f"./{name}" for name in expected
    ]
    (folder / "a" / "00.jsonl").unlink()
    (folder / "a" / "b" / "c" / "01.jsonl.gz").unlink()
    with pytest.raises(ValueError, match=r"found nothing to read at .*raw/a; expected .jsonl"):
        discovery.find("pile", [str(folder / "a")])


LEFT_OUT = {
    "._a.parquet": "hidden",
    ".DS_Store": "hidden",
    ".a.parquet.crc": "hidden",
    "_SUCCESS": "other_ending",
    "_metadata": "other_ending",
    "_common_metadata": "other_ending",
    "b.parquet.inprogress": "other_ending",
    "_delta_log/00.json": "bookkeeping",
    "_temporary/0/task_1/b.parquet": "bookkeeping",
    "__MACOSX/day=1/._a.parquet": "bookkeeping",
    "day=2/.part-0.parquet": "hidden",
}


def test_what_lies_beside_tables_is_left_out_and_counted(tmp_path):
    expected = ["_year=1/c.parquet", "day=1/a.parquet", "day=2/b.parquet"]
    for name in (*expected, *LEFT_OUT, "empty.jsonl"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"" if name == "empty.jsonl" else b"x")
    reasons = [*LEFT_OUT.values(), "empty"]
    left_out = discovery.Counter()
    actual = discovery.find("bigquery", [str(tmp_path)], left_out)
    assert [file.path for file in actual] == [
        f"{tmp_path}/{name}" for name in sorted([*expected, "empty.jsonl"])
    ]
    assert left_out == {reason: reasons.count(reason) for reason in reasons}
    actual = discovery.find("bigquery", [f"{tmp_path}/*", f"{tmp_path}/day=*/**"])
    assert [file.path for file in actual] == [
        f"{tmp_path}/{name}" for name in (*expected[1:], "empty.jsonl")
    ]
    for name, message in (
        ("._a.parquet", "macOS .* expected a.parquet"),
        ("_SUCCESS", "bigquery expects"),
    ):
        with pytest.raises(ValueError, match=f"cannot read .*{name}.*{message}"):
            discovery.find("bigquery", [f"{tmp_path}/{name}"])


def test_what_cannot_be_found_is_told(tmp_path):
    with pytest.raises(ValueError, match="nearest: pile"):
        discovery.find("pil", [])
    with pytest.raises(ValueError, match=r"found nothing to read at .*none; expected .jsonl"):
        discovery.find("pile", [str(tmp_path / "none")])
    (tmp_path / "x.csv").write_text("")
    with pytest.raises(ValueError, match=r"cannot read .*x.csv; pile expects .jsonl"):
        discovery.find("pile", [str(tmp_path / "x.csv")])
