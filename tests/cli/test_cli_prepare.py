"""`codegen-pax prepare` and `trace` as a person runs them: in processes, killed ones too."""

import gzip
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from etils import epath

from codegen_pax.cli.core.main import main
from codegen_pax.data.format import manifest
from codegen_pax.data.prepare import on_beam, pipeline, settings
from codegen_pax.data.prepare.settings import WORK_FOLDER

COMMAND = [sys.executable, "-m", "codegen_pax.cli.core.main"]
# Who sets TensorFlow's variable asks for its greetings, and pytest's own imports set it.
ENVIRONMENT = {name: value for name, value in os.environ.items() if "TF_CPP" not in name}
FROM_ANYWHERE = ENVIRONMENT | {"PYTHONPATH": str(Path(__file__).parents[2])}


def command(*arguments, program=COMMAND, **options):
    return subprocess.run(
        [*program, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        **{"env": ENVIRONMENT} | options,
    )


@pytest.fixture
def call(capsys):
    """Runs a verb in this process; returns its status, output and errors."""

    def call(*arguments):
        capsys.readouterr()
        return main(list(map(str, arguments))), *capsys.readouterr()

    return call


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
    actual = [path for path in Path(folder).rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in actual}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """The same inputs prepared by one worker and by three."""
    folder = tmp_path_factory.mktemp("prepare")
    (folder / "raw").mkdir()
    for number in range(4):
        write(folder / "raw" / f"{number}.jsonl", 50 * (number + 1), 10 + number)
    printed = {}
    for workers in (1, 3):
        output = folder / f"out{workers}"
        options = ("--row-length=128", "--seed=7", "--validation=0.1", f"--workers={workers}")
        paths = ("--input", folder / "raw", "--output", output)
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


def test_a_row_is_traced(prepared, call):
    folder, _ = prepared
    shard = next((folder / "out1").rglob("train-*.tfrecord"))
    status, output, _ = call("trace", shard, 3, "--json")
    assert status == 0
    origins = json.loads(output)
    assert sum(origin["tokens"] for origin in origins) == 128
    assert {origin["licence"] for origin in origins} == {"MIT"}
    assert "total +=" in call("trace", shard, 3, "--text")[1]
    status, _, errors = call("trace", shard, 100_000)
    assert status == 1
    assert "has no row 100000: expected 0 to" in errors and errors.count("\n") == 1


def test_damaged_input_is_one_line_and_no_corpus(tmp_path):
    data = gzip.compress(b"".join(json.dumps({"text": f"{n * n}"}).encode() for n in range(999)))
    (tmp_path / "cut.jsonl.gz").write_bytes(data[:-50])
    output = tmp_path / "out"
    done = command("prepare", "pile", "--input", tmp_path / "cut.jsonl.gz", "--output", output)
    assert done.returncode == 1
    message = done.stderr.strip()
    assert "\n" not in message and "cut.jsonl.gz is damaged" in message and "unfinished" in message
    assert not (output / "manifest.json").exists()


@pytest.fixture(scope="module")
def big(tmp_path_factory):
    """Files that take some seconds to prepare."""
    return write(tmp_path_factory.mktemp("big") / "big.jsonl", 20_000)


@pytest.fixture
def started(big, tmp_path):
    """A preparation whose workers are at work: (its process, their processes, its output)."""
    output = tmp_path / "out"
    arguments = ["prepare", "bigpython", "--input", big, "--output", output, "--workers=2"]
    process = subprocess.Popen(
        [*COMMAND, *map(str, arguments)],
        env=ENVIRONMENT,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    family = []
    while not [*(output / WORK_FOLDER).glob("*/progress")]:
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.1)
        family = psutil.Process(process.pid).children(recursive=True)
    workers = [child for child in family if "spawn_main" in " ".join(child.cmdline())]
    yield process, [worker for worker in workers if worker.name() != "sh"], output
    process.kill()
    process.communicate()
    assert not psutil.wait_procs(family, timeout=10)[1]  # nobody is left behind
    assert not (output / "manifest.json").exists() and (output / WORK_FOLDER).is_dir()


def test_a_killed_worker_is_told(started):
    process, workers, _ = started
    workers[0].kill()
    message = process.communicate(timeout=60)[1].strip()
    assert process.returncode == 1 and "\n" not in message
    assert "a worker process was ended from outside (signal 9" in message


def test_an_interrupt_ends_everything(started):
    process, *_ = started
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=60)[1] == "codegen-pax: interrupted\n"
    assert process.returncode == 130


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_who_kills_the_command_ends_its_workers(started, how):
    process, *_ = started
    process.send_signal(how)
    assert process.wait(timeout=10) == -how


def test_two_runs_do_not_meet_in_one_folder(started, big):
    output = started[2]
    done = command("prepare", "bigpython", "--input", big, "--output", output)
    assert done.returncode == 1 and f"another run is preparing {output};" in done.stderr


def test_a_disk_that_fills_up_is_told(tmp_path):
    """A limit on the size of a file stands for the disk: the same call fails, for every process."""
    write(tmp_path / "raw.jsonl", 2_000)
    done = command(
        *("prepare", "bigpython", "--input=raw.jsonl", "--output=out", "--workers=2"),
        cwd=tmp_path,
        env=FROM_ANYWHERE,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000)),
    )
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert f"File too large; {tmp_path / 'out'} is unfinished" in done.stderr
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_problems_too_short_to_be_recognised_are_counted(tmp_path, call):
    raw, mine = write(tmp_path / "raw.jsonl", 3), tmp_path / "mine.jsonl"
    mine.write_text('{"id": "a", "text": "Add."}\n{"id": "b", "text": "Add it up."}\n')
    paths = ("--input", raw, "--output", tmp_path / "out", "--benchmarks", mine, "--workers=1")
    status, output, errors = call("prepare", "bigpython", *paths, "--row-length=64")
    assert status == 0, errors
    line = "2 of 166 benchmark problems are too short to be recognised"
    assert line in " ".join(output.split())
    made = manifest.load(epath.Path(tmp_path / "out"))
    assert made.settings["benchmarks"][1]["unknowable"] == ["a", "b"]


def test_files_of_the_current_folder_are_not_imported(tmp_path):
    """Whoever prepares the sources they stand in may well have a `queue.py`."""
    (tmp_path / "queue.py").write_text("raise ImportError('not the real one')\n")
    write(tmp_path / "raw.jsonl", 3)
    done = command(
        *("prepare", "bigpython", "--input=raw.jsonl", "--output=out", "--workers=1"),
        "--row-length=64",
        program=[shutil.which("codegen-pax", path=Path(sys.executable).parent)],
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert "3 │" in done.stdout


def test_a_row_is_traced_from_inside_the_corpus(prepared, tmp_path, call, monkeypatch):
    folder, _ = prepared
    part = tmp_path / "corpus" / "python"
    shutil.copytree(folder / "out1", part.parent)
    shard = next(part.glob("train-*.tfrecord"))
    monkeypatch.chdir(part)
    status, output, _ = call("trace", shard.name, 0, "--text")
    assert status == 0 and "licence: MIT" in output and "total +=" in output
    data = bytearray(shard.read_bytes())
    data[100] ^= 1
    shard.write_bytes(data)
    status, _, errors = call("trace", shard, 0, "--text")
    assert status == 1 and f"{shard} is damaged: row 0 does not fit" in errors
    shard.write_bytes(data[:100])
    status, _, errors = call("trace", shard, 0, "--text")
    assert status == 1 and f"{shard} is damaged: it ends in row 0" in errors


@pytest.mark.parametrize("given", [None, 0.25])
def test_what_is_held_out_is_a_share_of_the_inputs(tmp_path, monkeypatch, given):
    raw = write(tmp_path / "raw.jsonl", 30)
    size = raw.stat().st_size
    assert settings.default_validation_share(size) == settings.VALIDATION_SHARE  # small
    pile = 825 << 30
    assert settings.default_validation_share(pile) * pile == pytest.approx(16 << 20)

    shares = []

    def run(chosen, actual, pieces, **_):
        shares.append(chosen.validation)
        raise pipeline.PrepareError("it was asked for")

    monkeypatch.setattr(settings, "VALIDATION_BYTES", size / 1_000)
    monkeypatch.setattr(pipeline, "run", run)
    chosen = [f"--validation={given}"] if given else []
    paths = ["--input", str(raw), "--output", str(tmp_path / "out")]
    assert main(["prepare", "bigpython", *paths, *chosen]) == 1
    assert shares == [pytest.approx(given or 0.001)]


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        ("pil", 2, "no corpus is called 'pil'; nearest: pile"),
        ("pile -- --region=r", 2, "(--region=r) need --runner"),
        ("pile --workers=0", 2, "found '0', expected a whole number from 1"),
        ("pile --seed=-1", 2, "found '-1', expected a whole number from 0"),
        (f"pile --seed={2**64}", 2, "expected a whole number from 0 to 18,446"),
        ("pile --row-length=1", 2, "found '1', expected a whole number from 2"),
        ("pile --validation=1", 2, "found '1', expected a number from 0 to below 1"),
        ("pile --languages python", 2, "--languages has no use for pile"),
        ("instruction --language-prefix", 2, "--language-prefix has no use for instruction"),
        ("pile --licences MIT", 2, "--licences has no use for pile"),
        ("tree --licences any MIT", 2, "found any, MIT; expected `any` alone"),
        ("bigquery --languages pyton", 2, "no language is called 'pyton'; nearest: python"),
        ("bigquery --licences MITT", 2, "no licence is called 'MITT'; nearest: MIT"),
        ("pile --runner=Nonsense", 2, "Unexpected pipeline runner: Nonsense"),
        ("pile --runner=FnApiRunner --workers=2", 2, "--workers counts processes of this machine"),
        ("pile --runner=FnApiRunner -- --direct_num_workers=two", 2, "invalid int value: 'two'"),
        ("pile --benchmarks none.jsonl", 1, "No such file or directory: 'none.jsonl'"),
        ("pile", 1, "found nothing to read at x; expected .jsonl"),
        ("pile --input nonsense://x/y.jsonl", 1, "cannot reach nonsense://x/y.jsonl: "),
    ],
)
def test_bad_use(arguments, status, message, capsys):
    corpus, *options = arguments.split()
    assert main(["prepare", corpus, "--input", "x", "--output", "y", *options]) == status
    reported = capsys.readouterr().err
    assert message in reported and reported.count("\n") == 1
    assert not Path("y").exists()


def test_bad_outputs(prepared, tmp_path, capsys):
    def reported(corpus, raw, output):
        arguments = ["prepare", corpus, "--input", str(raw), "--output", str(output)]
        return main(arguments), capsys.readouterr().err

    folder, _ = prepared
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "a.py").write_text("x = 1\n")
    for output, status, message in (
        (folder / "out1", 1, "holds a finished corpus already; expected another --output"),
        (tmp_path / "mine", 1, "is not empty (found a.py)"),
        (tmp_path / "\udcff", 2, r"\xff: expected a name in UTF-8"),
        (tmp_path / "mine" / "a.py", 1, "a.py is a file; expected a folder"),
        (tmp_path / "mine" / "a.py" / "out", 1, "Not a directory"),
        ("nonsense://x/out", 1, "cannot reach nonsense://x/out: nothing here writes nonsense://"),
    ):
        actual, line = reported("bigpython", folder / "raw", output)
        assert actual == status and message in line and line.count("\n") == 1, line
    for corpus in ("tree", "bigpython"):
        actual, line = reported(corpus, tmp_path, tmp_path / "out")
        assert actual == 2 and f"out lies in {tmp_path}, which is read" in line
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_the_runners_of_the_documentation_are_beams_and_read_their_options():
    """Beam ignores options that it does not know: what it made of those is looked at."""
    from apache_beam.options.pipeline_options import PipelineOptions

    page = Path(__file__).parents[2] / "docs" / "data.md"
    text = page.read_text().replace("\\\n", " ")
    commands = dict(re.findall(r"--runner=(\w+) -- (.*)", text))
    assert list(commands) == ["DataflowRunner", "FlinkRunner", "SparkRunner"]
    for runner, options in commands.items():
        on_beam.check_runner(runner, options.split())
        read = PipelineOptions(options.split()).get_all_options(drop_default=True)
        assert {option[2:].partition("=")[0] for option in options.split()} <= set(read)


def test_another_runner_gets_its_options(prepared, tmp_path):
    folder, _ = prepared
    paths = ("--input", folder / "raw", "--output", tmp_path / "out")
    seeded = ("--row-length=128", "--seed=7", "--validation=0.1")
    runner = ("--runner=FnApiRunner", "--", "--direct_running_mode=multi_threading")
    done = command("prepare", "bigquery", *paths, *seeded, *runner)
    assert done.returncode == 0, done.stderr
    assert files(tmp_path / "out") == files(folder / "out1")
