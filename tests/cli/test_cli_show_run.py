"""`show RUN`: what a run and its checkpoints say of themselves, back to where the weights began."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from codegen_pax.cli.core.main import main
from codegen_pax.runs import checkpoints, lineage

ROOT = Path(__file__).parents[2]
HASHES = {"NL": "11" * 32, "Multi": "22" * 32}
IMPORTED = [
    {"name": "config.json", "bytes": 900, "sha256": "33" * 32},
    {"name": "pytorch_model.bin", "bytes": 1_600, "sha256": "44" * 32},
]
VERSIONS = {"python": "3.11.1", "jax": "0.5.3", "codegen-pax": "0.1.0"}
DATA = [
    {
        "task": "codegen_bigquery_python",
        "corpus": "bigquery",
        "part": "python",
        "folder": "corpora/bigquery",
        "manifest_sha256": "55" * 32,
        "fingerprint": "66" * 32,
        "rows": 1_000,
        "tokens": 2_048_000,
        "licences": {"MIT": 1_200, "Apache-2.0": 7},
        "vocabulary": "codegen",
    },
    {"task": "codegen_bigquery_go", "missing": "cannot read bigquery/go: it has no part 'go'"},
    {"task": "codegen_nano_mono", "source": "installed", "corpus": "prose", "python": "3.11.1"},
    {"task": "mine", "source": "mine.Source"},
]


def document(phase, parents=(), kind="training", **more):
    return {
        "format": 1,
        "kind": kind,
        "experiment": f"CodeGen350M{phase}",
        "class": f"codegen.CodeGen350M{phase}",
        "recipe": "jaxformer",
        "recipe_values": {"decay": "stacked_rank"},
        "mesh": "1x8x1",
        "mixture": "codegen_bigquery",
        "steps": 150_000,
        "batch_tokens": 524_288,
        "data": DATA,
        "parents": list(parents),
        "versions": VERSIONS,
        "snapshot": ["task.model = x"],
        **more,
    }


def pax(phase, step, message):
    job = f"gs://bucket/{phase.lower()}"
    weights = {"sha256": HASHES[phase], "bytes": 9}
    return {
        "kind": "pax",
        "experiment": message and message["experiment"],
        "job": job,
        "step": step,
        **weights,
        "lineage": message,
    }


def chained(root):
    """A Mono run from Multi from NL, of which `root` is the lineage."""
    multi = document("Multi", [pax("NL", 350_000, root)])
    return document("Mono", [pax("Multi", 150_000, multi)])


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Writes a job with three checkpoints, of which the last is not finished."""
    monkeypatch.chdir(tmp_path)

    def write(message, name="mono"):
        job = tmp_path / "runs" / name
        for step in ("00001000", "00002000", "00003000.orbax-checkpoint-tmp-17"):
            lineage.write(job / "checkpoints" / f"checkpoint_{step}", message)
        lineage.write(job, message)
        return f"runs/{name}"

    return write


def printed(capsys, *arguments):
    assert main(["show", *arguments]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return [" ".join(line.split()) for line in captured.out.splitlines()]


def section(lines, title):
    return lines[lines.index(title) + 1 :]


NL = f"CodeGen350MNL step 350,000 {'1' * 12} gs://bucket/nl"
MULTI = f"CodeGen350MMulti step 150,000 {'2' * 12} gs://bucket/multi"
HUGGING_FACE = {"kind": "hugging face", "directory": "models/nl", "files": IMPORTED}
HUGGING_FACE |= {"mp_num": 4, "mp_num_by": "usual"}
FEW = f"models/nl (config.json {'3' * 12}, pytorch_model.bin {'4' * 12}; mp_num 4, as is usual)"


@pytest.mark.parametrize(
    ("root", "expected"),
    [
        (document("NL"), [MULTI, NL, "random weights"]),
        (document("NL", [HUGGING_FACE], "import"), [MULTI, NL, f"hugging face {FEW}"]),
        (
            document(
                "NL",
                [HUGGING_FACE | {"kind": "jaxformer", "files": IMPORTED * 100, "step": 0}],
                "import",
            ),
            [
                MULTI,
                NL,
                "jaxformer step 0 models/nl (200 files, 250,000 bytes; mp_num 4, as is usual)",
            ],
        ),
        (
            None,
            [
                MULTI,
                NL.replace("CodeGen350MNL", "unknown"),
                "unknown the checkpoint above has no lineage.json",
            ],
        ),
    ],
    ids=["trained", "hugging face", "jaxformer", "unknown"],
)
def test_the_chain_is_a_line_each_back_to_the_root(root, expected, run, capsys):
    lines = section(printed(capsys, run(chained(root))), "chain")
    assert lines[: len(expected)] == expected and lines[len(expected)] == "data"


def test_what_a_run_is(run, capsys):
    lines = printed(capsys, run(chained(document("NL"))))
    assert lines[:2] == ["runs/mono", "run"]
    facts = {
        "experiment CodeGen350MMono",
        "kind training",
        "last_step 2,000",
        "steps 150,000",
        "recipe jaxformer",
        "mesh 1x8x1",
        "jax 0.5.3",
    }
    assert facts <= set(lines)
    data = section(lines, "data")
    assert data[0].startswith("codegen_bigquery_python 2,048,000 tokens in 1,000 rows, codegen; ")
    assert "MIT 1,200, Apache-2.0 7" in data[0] and data[0].endswith("in corpora/bigquery")
    assert data[1].startswith("codegen_bigquery_go not read: cannot read bigquery/go")
    assert data[2:4] == ["codegen_nano_mono installed prose, Python 3.11.1", "mine mine.Source"]
    assert not any(line.startswith("resumed") for line in lines)


def test_which_licences_were_looked_at_and_asked_for(run, capsys):
    """An older receipt of a tree calls `none` what nobody looked for."""
    actual = DATA[0] | {"corpus": "ours", "licences": {"MIT": 2, "none": 1}}
    data = [actual, actual | {"licences_checked": False}, actual | {"licences_checked": True}]
    lines = section(printed(capsys, run(document("NL", data=data))), "data")
    for line, message in zip(
        lines,
        (
            "licences MIT 2, not looked at 1;",
            "licences (of which none was asked for) MIT 2, none 1;",
            "licences MIT 2, none 1;",
        ),
        strict=False,
    ):
        assert f"codegen; {message} manifest" in line


def test_other_software_since(run, capsys):
    later = [
        {"step": 1_000, "versions": VERSIONS | {"jax": "0.5.4"}},
        {"step": 2_000, "versions": VERSIONS | {"python": "3.11.2", "codegen-pax": "2"}},
    ]
    job = run(document("NL", resumed=later))
    lines = printed(capsys, job)
    assert section(lines, "changed since it began") == [
        "from step 1,000 on jax: 0.5.3 -> 0.5.4",
        "from step 2,000 on python: 3.11.1 -> 3.11.2",
        "from step 2,000 on jax: 0.5.4 -> 0.5.3",
        "from step 2,000 on codegen-pax: 0.1.0 -> 2",
    ]
    older = "codegen-pax not recorded: its receipt is of an older version"
    assert section(lines, "code")[0] == older
    assert {"python 3.11.2", "jax 0.5.3"} <= set(section(lines, "versions"))


def test_what_was_changed_and_which_code_it_was(run, capsys):
    changes = [
        {"name": "steps", "old": 1_000, "new": 150_000},
        {"name": "code of mine", "old": None, "new": "commit 0123456789ab, sources 0123"},
    ]
    code = {
        "codegen-pax": {"sha256": "ab" * 32, "commit": "cd" * 20, "dirty": True},
        "mine": {"sha256": "ef" * 32, "file": "mine.py"},
    }
    declared = {"size": {"name": "350M"}, "phase": {"name": "NL"}, "by_hand": {}}
    declared |= {"warmup_steps": 3_000, "learning_rate": 3e-4}
    message = document(
        "NL", history=[{"step": 900, "changes": changes}], code=code, declared=declared
    )
    lines = printed(capsys, run(message))
    assert section(lines, "changed since it began") == [
        "from step 900 on steps: 1,000 -> 150,000",
        "from step 900 on code of mine: not recorded -> commit 0123456789ab, sources 0123",
    ]
    assert section(lines, "code")[:2] == [
        f"codegen-pax commit {'cd' * 6}, changed since, sources {'ab' * 6}",
        f"mine sources {'ef' * 6}",
    ]
    assert {"warmup_steps 3,000", "learning_rate 0.0003"} <= set(lines)


def test_a_terminal_obeys_nothing_of_a_lineage(run, capsys):
    """Escapes, what turns the order of letters, and ends of lines."""
    message = document(
        "NL", mixture="a\x1b[2Jb", recipe="c\u202ed", data=[{"task": "e\nf", "missing": "g\x07"}]
    )
    lines = printed(capsys, run(message))
    assert {"mixture a\ufffd[2Jb", "recipe c\ufffdd", "e\ufffdf not read: g\ufffd"} <= set(lines)
    job = Path(run(message | {"format": "\x1b]0;title\x07"}))
    assert main(["show", str(job)]) == 1
    assert "\x1b" not in capsys.readouterr().err


def test_an_import_was_not_trained(run, capsys):
    job = run(document("NL", [HUGGING_FACE], "import"))
    lines = printed(capsys, job)
    assert lines[2] == "kind import"
    assert not [line for line in lines if line.startswith(("recipe", "steps", "batch_tokens"))]
    # A run was started on it, and failed before its first checkpoint.
    begun = document("NL", [pax("NL", 2_000, document("NL", [HUGGING_FACE], "import"))])
    lineage.write(job, begun)
    assert printed(capsys, job)[2] == "kind import"
    lineage.write(Path(job, "checkpoints", "checkpoint_00004000"), begun)
    assert printed(capsys, job)[2] == "kind training"


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (None, "not trained yet: no checkpoint"),
        (0, "not trained yet: step 0 is where it began"),
        (7, "training"),
    ],
)
def test_a_run_without_a_step_is_not_shown_as_training(step, message, tmp_path, capsys):
    lineage.write(tmp_path, document("NL"))
    if step is not None:
        lineage.write(checkpoints.path(tmp_path, step), document("NL"))
    assert printed(capsys, str(tmp_path))[2] == f"kind {message}"


def test_a_run_on_weights_of_unknown_origin_is_not_trained_at_their_step(tmp_path, capsys):
    lineage.write(tmp_path, document("NL", [pax("NL", 7, None)]))
    checkpoints.path(tmp_path, 7).mkdir(parents=True)
    assert printed(capsys, str(tmp_path))[2] == "kind not trained yet: step 7 is where it began"


def test_json_is_the_whole_document_with_its_chain_and_step(run, capsys):
    message = chained(document("NL", [HUGGING_FACE], "import"))
    job = run(message)
    assert main(["show", job, f"{job}/checkpoints/checkpoint_00001000", "--json"]) == 0
    of_job, of_checkpoint = json.loads(capsys.readouterr().out)
    chain = [
        {key: value for key, value in parent.items() if key != "lineage"}
        for parent in (message["parents"][0], message["parents"][0]["lineage"]["parents"][0])
    ]
    added = {"run": job, "last_step": 2_000, "chain": [*chain, HUGGING_FACE]}
    added |= {"trained": True, "history": []}
    assert of_job == message | added
    assert (of_checkpoint["last_step"], of_checkpoint["chain"]) == (1_000, added["chain"])


def test_names_and_runs_may_be_mixed_and_a_name_comes_first(run, capsys, tmp_path):
    """A folder that is called as an experiment is meant by its path."""
    job = run(chained(document("NL")))
    (tmp_path / "CodeGen2BNL").mkdir()
    assert main(["show", "CodeGen2BNL", job, "codegen.CodeGen6BMono", "--json"]) == 0
    first, second, third = json.loads(capsys.readouterr().out)
    assert (first["name"], second["run"], third["name"]) == ("CodeGen2BNL", job, "CodeGen6BMono")
    lines = printed(capsys, "CodeGen2BNL", job)
    assert {"CodeGen2BNL", "chain CodeGen2BNL", "runs/mono", MULTI} <= set(lines)


def test_a_run_without_checkpoints_has_no_last_step(tmp_path, capsys):
    lineage.write(tmp_path, document("NL"))
    assert "last_step -" in printed(capsys, str(tmp_path))


@pytest.mark.parametrize(
    ("name", "status", "message"),
    [
        ("CodeGen2BML", 2, "'CodeGen2BML'; nearest: CodeGen2BNL, "),
        ("CodeGen2BML", 2, "; nor is there a folder of that name"),
        ("runs/none", 1, "runs/none is not a folder; expected a run's"),
        ("runs/mono/checkpoints", 1, "runs/mono/checkpoints has no lineage.json; expected a run's"),
        ("runs", 1, "runs has no lineage.json; expected a run's folder"),
        ("nowhere://bucket/run", 1, "cannot reach nowhere://bucket/run"),
    ],
)
def test_what_is_neither_is_told_in_one_line(name, status, message, run, capsys):
    run(document("NL"))
    assert main(["show", name]) == status
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1 and message in captured.err


def test_a_damaged_lineage_is_told(run, capsys):
    job = run(document("NL"))
    Path(job, lineage.FILE).write_text('{"format": 9}')
    assert main(["show", job]) == 1
    message = f"codegen-pax: {job}/lineage.json is a receipt of format 9; expected 1\n"
    assert capsys.readouterr().err == message


def test_a_run_is_shown_without_anything_heavy(run):
    job = Path(run(chained(document("NL")))).resolve()
    code = (
        "import sys\nfrom codegen_pax.cli.core.main import main\n"
        f"assert main(['show', {str(job)!r}]) == 0\n"
        "print('imported', *sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    imported = set(done.stdout.splitlines()[-1].split())
    assert not {"jax", "tensorflow", "paxml", "praxis", "numpy", "seqio", "tasks"} & imported
