"""One bad file, record or element costs itself: it is counted and named, and takes no other."""

import gzip
import json
import os
from pathlib import Path

from codegen_pax.data.format import manifest, trace
from codegen_pax.data.prepare import corpus_checks, examine
from codegen_pax.data.prepare.settings import Settings
from codegen_pax.data.rules import decontamination
from tests.data.prepared_corpora import prepare_corpus

POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'b' * 64}\nsize 12345\n"


def prepare(corpus, folder, row_length, **more):
    output = str(folder.parent / "out")
    settings = Settings(corpus, output, row_length=row_length, validation=0.0, **more)
    return prepare_corpus(settings, folder)


def dropped(made):
    totals = manifest.totals_by_rule(made.counts["documents"])
    return {rule: values[0] for rule, values in totals.items()}


def failing_at(word, function):
    """A rule with a defect that shows in one document."""

    def rule(*arguments):
        if word in str(arguments[-1]):
            raise IndexError("tuple index\nout of range")
        return function(*arguments)

    return rule


def test_of_many_inputs_the_faulty_cost_themselves(tmp_path, monkeypatch):
    raw = tmp_path / "raw"
    raw.mkdir()
    pairs = [{"instruction": f"Say {n}.", "output": str(n), "source": "me"} for n in range(30)]
    pairs[4]["instruction"], pairs[7]["instruction"] = "First look.", "Second look."
    pairs[9] = {"instruction": "What is this?", "output": "A cat.", "image": "cat.png"}
    (raw / "a.json").write_text(json.dumps(pairs, indent=2))
    packed = gzip.compress("".join(json.dumps(pair) + "\n" for pair in pairs).encode())
    (raw / "b.jsonl.gz").write_bytes(packed[:-99])
    monkeypatch.setattr(examine, "content_bytes", failing_at("First", examine.content_bytes))
    problems = decontamination.Problems
    monkeypatch.setattr(problems, "match", failing_at("Second", problems.match))
    made = prepare("instruction", raw, 32)
    assert dropped(made) == {
        manifest.IN: 31,
        manifest.KEPT: 27,
        "internal_error": 2,
        "media": 1,
        "unreadable_file": 1,
    }
    assert made.rows("train") == 27
    assert made.counts["unread_fields"] == {"source": 29}
    assert made.counts["defects"] == [
        f"{raw}/a.json, record {n}: IndexError: tuple index out of range" for n in (4, 7)
    ]
    ((path, damage),) = made.counts["damaged"].items()
    assert path == f"{raw}/b.jsonl.gz"
    assert damage.startswith(f"{path} is damaged (Compressed file ended before")
    assert corpus_checks.remarks(made) == [
        *(f"left out by a defect of this program: {line}" for line in made.counts["defects"]),
        "fields that were not read, and in how many records: source (29)",
    ]


def test_a_tree_of_files_as_people_have_them(tmp_path):
    root = tmp_path / "code"
    root.mkdir()
    python = "value = 1\n" * 40
    files = {
        b"caf\xe9.py": python.encode(),
        b"latin.py": b"# coding: latin-1\n" + b"name = '\xe9t\xe9'\n" * 9,
        b"marked.py": b"\xef\xbb\xbf" + python.replace("1", "2").encode(),
        b"unmarked.py": python.replace("1", "2").encode(),
        b"wide.py": python.replace("1", "3").encode("utf-16"),
        b"pointer.py": POINTER.encode(),
        b"pointer.png": POINTER.encode(),
        b"wrong.py": b"# coding: nope\n",
        b"small.rs": b"fn main() {}\n",
    }
    for name, content in files.items():
        Path(os.fsdecode(os.fsencode(root) + b"/" + name)).write_bytes(content)
    made = prepare("tree", root, 16, languages=("python", "rust"))
    assert dropped(made) == {
        manifest.IN: 9,
        manifest.KEPT: 5,
        "exact_duplicate": 1,
        "git_lfs_pointer": 1,
        "language": 1,
        "unknown_encoding": 1,
    }
    origins = [
        origin
        for shard in made.shards("train", "python")
        for row in range(shard.rows)
        for origin in trace.trace(str(tmp_path / "out" / shard.name), row)
    ]
    assert {origin.path for origin in origins} == {
        r"caf\xe9.py",
        "latin.py",
        "marked.py",
        "wide.py",
    }
    assert rf"{root}/caf\xe9.py" in {origin.source for origin in origins}
    tokens = made.counts["rows"]["rust"]["train"]["tokens"]
    assert 0 < tokens < 16 and made.rows("train", "rust") == 0
    assert corpus_checks.remarks(made) == [
        "git-LFS pointers in place of documents: 1;"
        " `git lfs pull` in its repository fetches the content",
        f"rust has no train row: its {tokens} tokens do not fill one of 16",
    ]
