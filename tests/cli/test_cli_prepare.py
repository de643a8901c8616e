"""`codegen-pax prepare` and `trace` as a person runs them: in processes, killed ones too."""

import gzip
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

COMMAND = [sys.executable, "-m", "codegen_pax.cli.main"]
# Who sets TensorFlow's variable asks for its greetings, and pytest's own imports set it.
ENVIRONMENT = {name: value for name, value in os.environ.items() if "TF_CPP" not in name}


def command(*arguments):
    return subprocess.run(
        [*COMMAND, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env=ENVIRONMENT,
    )


def write(path, count, lines=20):
    with open(path, "w") as file:
        for number in range(count):
            body = "\n".join(f"    total += {number} * {n}" for n in range(lines))
            record = {
                "content": f"def f{number}(total):\n{body}\n    return total\n",
                "path": f"f{number}.py",
                "repo_name": f"owner/{number}",
                "license": "MIT",
            }
            file.write(json.dumps(record) + "\n")
    return path


def files(folder):
    found = [path for path in Path(folder).rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """The same inputs prepared by one worker and by three."""
    folder = tmp_path_factory.mktemp("prepare")
    for number in range(4):
        write(folder / f"{number}.jsonl", 50 * (number + 1), 10 + number)
    printed = {}
    for workers in (1, 3):
        output = folder / f"out{workers}"
        options = ("--row-length=128", "--seed=7", "--validation=0.1", f"--workers={workers}")
        paths = ("--input", folder, "--output", output)
        done = command("prepare", "bigquery", *paths, *options, "--json")
        assert done.returncode == 0, done.stderr
        printed[workers] = json.loads(done.stdout)
    return folder, printed


def test_any_number_of_workers_gives_the_same_bytes(prepared):
    folder, printed = prepared
    first, second = files(folder / "out1"), files(folder / "out3")
    assert first == second and len(first) == 5
    assert printed[1] == printed[3]
    kept = printed[1]["documents"]["python"]["MIT"]["kept"]
    assert kept[0] == 500


def test_a_row_is_traced(prepared):
    folder, _ = prepared
    shard = next((folder / "out1").rglob("train-*.tfrecord"))
    done = command("trace", shard, 3, "--json")
    assert done.returncode == 0, done.stderr
    origins = json.loads(done.stdout)
    assert sum(origin["tokens"] for origin in origins) == 128
    assert {origin["licence"] for origin in origins} == {"MIT"}
    shown = command("trace", shard, 3, "--text").stdout
    assert "total +=" in shown
    done = command("trace", shard, 100_000)
    assert done.returncode == 1
    assert "has no row 100000: wanted 0 to" in done.stderr and done.stderr.count("\n") == 1


def test_damaged_input_is_one_line_and_no_corpus(tmp_path):
    data = gzip.compress(b"".join(json.dumps({"text": f"{n * n}"}).encode() for n in range(999)))
    (tmp_path / "cut.jsonl.gz").write_bytes(data[:-50])
    output = tmp_path / "out"
    done = command("prepare", "pile", "--input", tmp_path / "cut.jsonl.gz", "--output", output)
    assert done.returncode == 1
    message = done.stderr.strip()
    assert "\n" not in message and "cut.jsonl.gz is damaged" in message and "unfinished" in message
    assert not (output / "manifest.json").exists()


def test_a_killed_worker_is_told_and_leaves_no_corpus(tmp_path):
    write(tmp_path / "big.jsonl", 20_000)
    output = tmp_path / "out"
    arguments = ["prepare", "bigpython", "--input", tmp_path / "big.jsonl", "--output", output]
    process = subprocess.Popen(
        [*COMMAND, *map(str, arguments), "--workers=2"],
        env=ENVIRONMENT,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    workers = []
    while not workers:
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.1)
        for child in psutil.Process(process.pid).children(recursive=True):
            with_name = " ".join(child.cmdline()) if child.is_running() else ""
            if "sdk_worker_main" in with_name and "sh" not in Path(child.cmdline()[0]).name:
                workers.append(child)
    time.sleep(1)
    workers[0].kill()
    message = process.communicate(timeout=60)[1].strip()
    assert process.returncode == 1
    assert "a worker process was ended from outside (signal 9" in message and "\n" not in message
    assert not (output / "manifest.json").exists() and (output / ".work").is_dir()
    gone = (
        not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE for worker in workers
    )
    assert all(gone)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("pil", "--input", "x", "--output", "y"), "no corpus is called 'pil'; nearest: pile"),
        (("pile", "--input", "x", "--output", "y", "--", "--region=r"), "(--region=r) need --run"),
        (("pile", "--output", "y"), "the following arguments are required: --input"),
        (("pile", "--input", "x", "--output", "y", "--workers=0"), "found '0', wanted a whole nu"),
    ],
)
def test_bad_use(arguments, message):
    done = command("prepare", *arguments)
    assert done.returncode == 2 and message in done.stderr and done.stderr.count("\n") == 1
