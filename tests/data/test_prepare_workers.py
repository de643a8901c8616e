"""Rows do not depend on who makes them: one process, several, or Beam; a folder or a URL."""

import dataclasses
import json
import random
import sys
import time
from pathlib import Path

import pytest
import tensorflow as tf
from etils import epath

from codegen_pax.data.format import manifest, trace
from codegen_pax.data.prepare import output, pipeline
from codegen_pax.data.prepare.settings import WORK_FOLDER, Settings
from codegen_pax.data.rules import decontamination
from codegen_pax.data.sources import discovery, partitions

LANGUAGES = {"py": "# {}", "go": "// {}", "java": "// {}"}
IN_PROCESSES = ["--direct_running_mode=multi_processing", "--direct_num_workers=2"]
ASKED = "Count the vowels in each of the given words, and return the largest count."


def files(folder):
    """Path in a folder -> bytes, of all files in it."""
    actual = [path for path in Path(folder).rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in actual}


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
    records = [source(number, ending) for number in range(30) for ending in LANGUAGES]
    records += [*records[:20], source(0, "py") | {"content": f"# {ASKED}\nprint(7)\n"}]
    random.Random(0).shuffle(records)
    for number in range(5):
        lines = "".join(json.dumps(record) + "\n" for record in records[number::5])
        (folder / f"{number}.jsonl").write_text(lines)
    return folder


def raw_text(path, count):
    path.write_text("".join(json.dumps({"text": f"text {n}"}) + "\n" for n in range(count)))
    actual = discovery.find("pile", [str(path)])
    return actual, partitions.plan("pile", actual)


@pytest.mark.parametrize(
    "options", [{"workers": 1}, {"workers": 2}, {"runner": "FnApiRunner"}], ids=str
)
def test_a_step_that_fails_is_one_line_and_a_defect_keeps_its_traceback(tmp_path, options):
    actual, pieces = raw_text(tmp_path / "raw.jsonl", 9)
    chosen = Settings("pile", str(tmp_path / "out"), seed=-1)  # no document can be ordered by it
    output.begin(chosen)
    with pytest.raises(pipeline.PrepareError) as error:
        pipeline.run(chosen, actual, pieces, **options)
    message = str(error.value)
    assert message.startswith(f"cannot continue at {tmp_path}/raw.jsonl: OverflowError: ")
    assert "\n" not in message and f"{tmp_path / 'out'} is unfinished (traceback: " in message
    trace_file = chosen.work_folder / pipeline.TRACEBACK
    assert str(trace_file) in message and "in order_key" in trace_file.read_text()
    assert not (tmp_path / "out" / manifest.FILE).exists()


BROKEN_MINHASH = """
import time

class Panic(BaseException):
    pass

class MinHash:
    def __init__(self, **_):
        self.hashvalues = None

    def update_batch(self, batch):
        if any(b"slow" in one for one in batch):
            time.sleep(900)
        raise Panic("no permutations")
"""


@pytest.mark.parametrize("options", [{"workers": 2}, {"runner": "FnApiRunner"}], ids=str)
def test_a_defect_of_a_library_ends_the_run_at_once(tmp_path, monkeypatch, options):
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "datasketch.py").write_text(BROKEN_MINHASH)
    monkeypatch.syspath_prepend(tmp_path / "lib")  # of workers, too
    monkeypatch.setitem(sys.modules, "datasketch", None)  # what is imported now is forgotten later
    del sys.modules["datasketch"]
    raw = tmp_path / "raw.jsonl"
    texts = ["slow", "broken"] if "workers" in options else ["broken"]
    raw.write_text("".join(json.dumps({"text": f"{text} text"}) + "\n" for text in texts))
    actual = discovery.find("pile", [str(raw)])
    chosen = Settings("pile", str(tmp_path / "out"), near_duplicates=True, bucket_bytes=1)
    output.begin(chosen)
    start = time.monotonic()
    with pytest.raises(pipeline.PrepareError) as error:
        pipeline.run(chosen, actual, partitions.plan("pile", actual), **options)
    assert time.monotonic() - start < 450  # half as long as the other worker would take
    place = f"cannot continue at chunk {len(texts) - 1} of {raw}: Panic: no permutations"
    assert str(error.value).startswith(place) and "\n" not in str(error.value)


@pytest.mark.parametrize("options", [{"workers": 2}, {"runner": "FnApiRunner"}], ids=str)
def test_an_input_that_is_damaged_is_named_whoever_reads_it(tmp_path, options):
    actual, pieces = raw_text(tmp_path / "raw.jsonl", 9)
    chosen = Settings("pile", str(tmp_path / "out"))
    output.begin(chosen)
    (tmp_path / "raw.jsonl").unlink()
    with pytest.raises(pipeline.PrepareError, match="No such file or directory") as error:
        pipeline.run(chosen, actual, pieces, **options)
    assert "\n" not in str(error.value) and "raw.jsonl" in str(error.value)


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
        bucket_bytes=4_000,
        ranges=3,
    )


def test_any_number_of_workers_and_beam_give_the_same_bytes(raw, settings, tmp_path):
    actual = discovery.find("bigquery", [str(raw)])
    pieces = partitions.plan("bigquery", actual)
    made, contents = [], []
    for name, options in (
        ("one", {"workers": 1}),
        ("two", {"workers": 2}),
        ("five", {"workers": 5}),
        ("beam", {"runner": "FnApiRunner"}),
        ("beam_processes", {"runner": "FnApiRunner", "options": IN_PROCESSES}),
    ):
        chosen = dataclasses.replace(settings, output=str(tmp_path / name))
        output.begin(chosen)
        pipeline.run(chosen, actual, pieces, **options)
        made.append(output.finish(chosen))
        contents.append(files(tmp_path / name))
    assert made[1:] == made[:-1]
    assert contents[1:] == contents[:-1]
    # There was something to get wrong in each step.
    assert set(made[0].parts) == {"python", "go", "java"}
    for splits_ in made[0].parts.values():
        assert len(splits_["train"]) > 10 and len(splits_["validation"]) > 2
    total = manifest.totals_by_rule(made[0].counts["documents"])
    assert total[manifest.IN][0] == 111 and total["exact_duplicate"][0] == 20
    assert total[decontamination.RULE][0] == 1 and total["near_duplicate"][0] == 30
    assert made[0].counts["redacted"] == {"email": total[manifest.KEPT][0]}


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
            actual = function(*places, **options)
            return [one.replace(str(folder), URL) for one in actual] if name == "glob" else actual

        return call

    for name in ("GFile", *READS, *WRITES):
        monkeypatch.setattr(tf.io.gfile, name, here(name, getattr(tf.io.gfile, name)))
    return folder, asked


def test_behind_a_url_the_same_is_made_and_nothing_is_left(raw, settings, bucket):
    folder, asked = bucket
    actual = discovery.find("bigquery", [str(raw)])
    pieces = partitions.plan("bigquery", actual)
    output.begin(settings)
    pipeline.run(settings, actual, pieces)
    expected = output.finish(settings)

    away = dataclasses.replace(settings, output=f"{URL}/ours")
    output.begin(away)
    problems = Path(settings.benchmarks[0]).read_bytes()
    Path(settings.benchmarks[0]).unlink()  # workers elsewhere do not have it
    pipeline.run(away, actual, pieces)
    made = output.finish(away)
    assert made == expected == manifest.load(epath.Path(away.output))
    assert files(folder) == {f"ours/{name}": data for name, data in files(settings.output).items()}
    assert made.settings["benchmarks"][-1]["bytes"] == len(problems)
    assert manifest.totals_by_rule(made.counts["documents"])[decontamination.RULE][0] == 1

    shard = made.shards("train", "go")[0].name
    for row in (0, 3):
        there = trace.trace(f"{away.output}/{shard}", row)
        assert there == trace.trace(f"{settings.output}/{shard}", row) != []
    opened = [arguments for name, arguments in asked if name == "GFile"]
    written = {str(path) for path, mode in opened if mode.startswith("w")}
    assert {path for path in written if WORK_FOLDER not in path} == {
        f"{away.output}/{manifest.FILE}.unfinished"
    }
    assert not any("/progress" in str(path) for _, (path, *_) in asked)
    renamed = {str(old) for name, (old, *_) in asked if name == "rename"}
    assert all("/shards/" in path or manifest.FILE in path for path in renamed)
