"""One bad file, record or element costs itself: it is counted and named, and takes no other."""

import gzip
import json
import os
from pathlib import Path

import pytest

from codegen_pax.data.format import counts, trace
from codegen_pax.data.format.documents import Document
from codegen_pax.data.prepare import examine, local, order, outcome, pipeline, tokenise, work
from codegen_pax.data.prepare.settings import Settings
from codegen_pax.data.sources import discovery, partitions

POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'b' * 64}\nsize 12345\n"


def prepare(corpus, folder, row_length, **more):
    settings = Settings(
        corpus, str(folder.parent / "out"), row_length=row_length, validation=0.0, **more
    )
    found = discovery.find(corpus, [str(folder)])
    pipeline.begin(settings)
    local.run_here(settings, found, partitions.plan(corpus, found))
    return pipeline.finish(settings)


def dropped(made):
    return {rule: values[0] for rule, values in counts.by_rule(made.counts["documents"]).items()}


def failing_at(word, function):
    """A rule with a defect that shows in one document."""

    def rule(document, *more):
        if word in document.turns[0].content:
            raise IndexError("tuple index\nout of range")
        return function(document, *more)

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
    monkeypatch.setattr(examine, "content", failing_at("First", examine.content))
    monkeypatch.setattr(tokenise, "_contaminated", failing_at("Second", tokenise._contaminated))
    made = prepare("instruction", raw, 32)
    assert dropped(made) == {
        counts.IN: 31,
        counts.KEPT: 27,
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
    assert outcome.remarks(made) == [
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
        counts.IN: 9,
        counts.KEPT: 5,
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
    assert outcome.remarks(made) == [
        "git-LFS pointers in place of documents: 1;"
        " `git lfs pull` in its repository fetches the content",
        f"rust has no train row: its {tokens} tokens there fill none of 16",
    ]


@pytest.fixture
def partition():
    return partitions.Partition("pile", os.fsdecode(b"caf\xe9.jsonl"), 3, 9)


def test_what_a_reader_raises_names_the_input_and_the_record(partition):
    def documents(count):
        for number in range(count):
            yield Document("x", "as it is shown", number)
        raise ZeroDivisionError("division\nby zero")

    said = r"cannot read caf\xe9.jsonl ({}): ZeroDivisionError: division by zero"
    for count, place in ((0, "at its beginning"), (3, "after the line at byte 2")):
        with pytest.raises(work.StepError) as error:
            list(work.named(documents(count), partition))
        assert str(error.value) == said.format(place)


def raising(kind):
    def step(element):
        raise kind

    return step


def test_what_a_step_raises_names_its_element(partition):
    def broken(element, *more):
        raise KeyError("a")

    def full(element):
        raise OSError(28, "No space left on device")

    with pytest.raises(work.StepError, match=r"^cannot go on at bucket 2 of go, train: KeyError:"):
        work.naming(broken, order.place)((("go", "train", 2), []), None)
    with pytest.raises(OSError, match="No space left"):
        work.naming(full, str)(partition)
    for kind in (MemoryError, RecursionError):
        with pytest.raises(work.StepError, match=rf"^cannot go on at x: {kind.__name__}$"):
            work.naming(raising(kind), str)("x")
    here = work.StepError("cannot go on at x: KeyError: 'a' [while running 'Examine']")
    said = local.reason(f"{local._kind(here)}: {here}")  # of a runner in this very process
    assert said == "cannot go on at x: KeyError: 'a'"
    raised = "codegen_pax.data.prepare.work.StepError: cannot go on at x.jsonl: KeyError: 'a'"
    beams = f"Traceback (most recent call last):\n  ...\n{raised} [while running 'Examine']\n"
    assert local.reason(f"RuntimeError: {beams}") == "cannot go on at x.jsonl: KeyError: 'a'"


def test_a_batch_with_a_document_that_cannot_be_tokenised_loses_that_alone(tmp_path, monkeypatch):
    raw = tmp_path / "raw.jsonl"
    raw.write_text("".join(json.dumps({"text": f"text {n} " * 20}) + "\n" for n in range(9)))
    settings = Settings("pile", str(tmp_path / "out"), row_length=32, validation=0.0)
    (partition,) = partitions.plan("pile", discovery.find("pile", [str(raw)]))
    pipeline.begin(settings)
    examine.examine(partition, settings)
    encode = tokenise._encode

    def encoded(batch, settings):
        if any("text 5" in ready.document.text for ready in batch):
            raise ValueError("no")
        return encode(batch, settings)

    monkeypatch.setattr(tokenise, "_encode", encoded)
    keyed = (partition.number, {"partition": [partition], "drops": []})
    made = tokenise.tokenise(keyed, settings, {("", "train"): 1})
    ((rules,),) = (by_licence.values() for by_licence in made.counts.values())
    assert {rule: values[0] for rule, values in rules.items()} == {"kept": 8, "internal_error": 1}
    record = sum(len(line) for line in raw.read_text().splitlines(keepends=True)[:5])
    assert made.defects == [f"{raw}, the line at byte {record}: ValueError: no"]


def test_a_guard_lets_what_is_not_the_documents_through():
    for error in (MemoryError(), OSError(5, "I/O"), pipeline.OutputError("x"), KeyboardInterrupt()):
        with pytest.raises(type(error)), work.Guard():
            raise error
    with work.Guard() as guard:
        raise RecursionError
    assert (guard.rule, guard.why) == ("internal_error", "RecursionError")


def test_inputs_that_a_killed_worker_read_are_named(tmp_path):
    settings = Settings("pile", str(tmp_path / "out"))
    settings.work.mkdir(parents=True)
    pieces = [partitions.Partition("pile", f"{name}.jsonl", n, 9) for n, name in enumerate("abc")]
    a, _, _ = [work.Progress(settings.work, "examine", piece) for piece in pieces]
    a.finish()
    assert local._at_work(settings, pieces) == ", while it read b.jsonl or c.jsonl"
