"""Rows do not depend on who makes them: one process or three, in a folder or behind a URL."""

import dataclasses
import json
import random
from pathlib import Path

import pytest
import tensorflow as tf
from etils import epath

from codegen_pax.data.format import counts, manifest, trace
from codegen_pax.data.prepare import local, pipeline
from codegen_pax.data.prepare.settings import WORK, Settings
from codegen_pax.data.rules import decontamination
from codegen_pax.data.sources import discovery, partitions

LANGUAGES = {"py": "# {}", "go": "// {}", "java": "// {}"}
ASKED = "Count the vowels in each of the given words, and return the largest count."


def files(folder):
    """Path in a folder -> bytes, of all files in it."""
    found = [path for path in Path(folder).rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def source(number, ending):
    """A file of code with an address in it; of three in a row the last is nearly the second."""
    like = number - (number % 3 == 2)
    draw = random.Random(f"{like} {ending}")
    body = [f"x{n} = call_{draw.randrange(999)}(a, b, {n});" for n in range(60)]
    body[30] = LANGUAGES[ending].format(f"ask person{number}@corp.org")
    return {
        "content": "\n".join(body) + "\n",
        "path": f"src/{number}.{ending}",
        "repo_name": f"owner/{number // 3 % 20}",
        "license": "MIT",
    }


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    """Five files of code in three languages, with copies and near copies across them."""
    folder = tmp_path_factory.mktemp("raw")
    records = [source(number, ending) for number in range(60) for ending in LANGUAGES]
    records += [*records[:20], source(0, "py") | {"content": f"# {ASKED}\nprint(7)\n"}]
    random.Random(0).shuffle(records)
    for number in range(5):
        lines = "".join(json.dumps(record) + "\n" for record in records[number::5])
        (folder / f"{number}.jsonl").write_text(lines)
    return folder


@pytest.fixture
def settings(tmp_path):
    """Of a corpus that goes through every step, in many buckets and ranges."""
    problems = tmp_path / "mine.jsonl"
    problems.write_text(json.dumps({"id": 1, "text": ASKED}) + "\n")
    return Settings(
        "bigquery",
        str(tmp_path / "here"),
        row_length=32,
        near_duplicates=True,
        redact=True,
        benchmarks=(str(problems),),
        prefix=True,
        validation=0.2,
        bucket_bytes=8_000,
        ranges=3,
    )


def test_one_worker_and_three_give_the_same_bytes(raw, settings, tmp_path):
    found = discovery.find("bigquery", [str(raw)])
    pieces = partitions.plan("bigquery", found)
    made = []
    for workers in (1, 3):
        chosen = dataclasses.replace(settings, output=str(tmp_path / f"out{workers}"))
        pipeline.begin(chosen)
        local.run(chosen, found, pieces, workers=workers)
        made.append(pipeline.finish(chosen))
    assert made[0] == made[1]
    first, second = (files(tmp_path / f"out{workers}") for workers in (1, 3))
    assert first == second
    # There was something to get wrong in each step.
    assert set(made[0].parts) == {"python", "go", "java"}
    for splits_ in made[0].parts.values():
        assert len(splits_["train"]) > 10 and len(splits_["validation"]) > 2
    total = counts.by_rule(made[0].counts["documents"])
    assert total[counts.IN][0] == 201 and total["exact_duplicate"][0] == 20
    assert total[decontamination.RULE][0] == 1 and total["near_duplicate"][0] == 60
    assert made[0].counts["redacted"] == {"email": total[counts.KEPT][0]}


URL = "gs://bucket/corpora"
# What epath asks TensorFlow to do.
READS = ("exists", "isdir", "listdir", "stat", "glob", "walk")
WRITES = ("makedirs", "mkdir", "remove", "rename", "rmtree", "copy")


@pytest.fixture
def bucket(tmp_path, monkeypatch):
    """A folder that stands for a bucket, and every path that was asked for behind its URL."""
    folder, asked = tmp_path / "bucket", []

    def here(name, function):
        def call(*arguments, **options):
            asked.append((name, arguments))
            places = (str(argument).replace(URL, str(folder)) for argument in arguments)
            found = function(*places, **options)
            return [one.replace(str(folder), URL) for one in found] if name == "glob" else found

        return call

    for name in ("GFile", *READS, *WRITES):
        monkeypatch.setattr(tf.io.gfile, name, here(name, getattr(tf.io.gfile, name)))
    return folder, asked


def test_behind_a_url_the_same_is_made_and_nothing_is_left(raw, settings, bucket):
    folder, asked = bucket
    found = discovery.find("bigquery", [str(raw)])
    pieces = partitions.plan("bigquery", found)
    pipeline.begin(settings)
    local.run_here(settings, found, pieces)
    wanted = pipeline.finish(settings)

    away = dataclasses.replace(settings, output=f"{URL}/ours")
    pipeline.begin(away)
    problems = Path(settings.benchmarks[0]).read_bytes()
    Path(settings.benchmarks[0]).unlink()  # workers elsewhere do not have it
    local.run_here(away, found, pieces)
    made = pipeline.finish(away)
    assert made == wanted == manifest.load(epath.Path(away.output))
    assert files(folder) == {f"ours/{name}": data for name, data in files(settings.output).items()}
    assert made.settings["benchmarks"][-1]["bytes"] == len(problems)
    assert counts.by_rule(made.counts["documents"])[decontamination.RULE][0] == 1

    shard = made.shards("train", "go")[0].name
    for row in (0, 3):
        there = trace.trace(f"{away.output}/{shard}", row)
        assert there == trace.trace(f"{settings.output}/{shard}", row) != []
    opened = [arguments for name, arguments in asked if name == "GFile"]
    written = {str(path) for path, mode in opened if mode.startswith("w")}
    assert {path for path in written if WORK not in path} == {
        f"{away.output}/{manifest.FILE}.unfinished"
    }
    assert not any("/progress" in str(path) for _, (path, *_) in asked)
