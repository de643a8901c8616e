"""A job and a corpus that an older version wrote are gone on from, shown, exported and read.

`tests/fixtures/older_job.tar.xz` was written by this project at commit 6363f38:

    codegen-pax prepare bigpython --input raw/files.jsonl --output corpora/bigpython \
      --row-length=16 --validation=0.3 --workers=1
    CODEGEN_MESH=1x1x1 codegen-pax import hf source --experiment Older --module older_experiments \
      --output job
    CODEGEN_DATA=corpora CODEGEN_MESH=1x1x1 python -m paxml.main --exp=older_experiments.Older \
      --job_log_dir=job

of 24 made-up files in 12 repositories, and of random weights whose table repeats itself and whose
projection is zero, so that the archive is small.
"""

import json
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
from etils import epath
from safetensors.numpy import load_file

from codegen_pax.cli.core.main import main
from codegen_pax.data.format import manifest
from codegen_pax.runs import checkpoints, lineage
from codegen_pax.runs.checkpoint_arrays import Variables

pytestmark = pytest.mark.e2e

ARCHIVE = Path(__file__).parents[1] / "fixtures" / "older_job.tar.xz"
MODULE = ("--module", "older_experiments")
STEPS = 8


@pytest.fixture(scope="module")
def older(tmp_path_factory):
    """The job, with checkpoints of steps 0, 3 and 6, and the corpus."""
    folder = tmp_path_factory.mktemp("older")
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    return folder


@pytest.fixture(scope="module")
def resumed(older, pax, tmp_path_factory):
    """The job as it goes on from step 3 on another mesh, and further than it was to go."""
    job = tmp_path_factory.mktemp("resumed") / "job"
    shutil.copytree(older / "job", job)
    shutil.rmtree(checkpoints.path(job, 6))
    pax.run(
        "older_experiments.Older",
        job,
        CODEGEN_DATA=str(older / "corpora"),
        CODEGEN_MESH="1x2x2",
        OLDER_STEPS=str(STEPS),
    )
    return job


def weights(job, step) -> dict[str, np.ndarray]:
    variables = Variables(checkpoints.path(job, step))
    return {name: variables.read(name) for name in variables.shapes()}


def test_it_comes_to_the_same_weights_and_goes_on(older, resumed):
    """Rows, schedule and optimizer are what they were: by the same schedule, not a new one."""
    expected, actual = weights(older / "job", 6), weights(resumed, 6)
    before = weights(older / "job", 3)
    name = "params.lm.softmax.logits_ffn.bias.b"
    moved = np.abs(expected[name] - before[name]).max()
    assert moved > 1e-7
    for name, array in expected.items():
        # Adam's steps of the rate, 3e-7 at most: bfloat16 on another mesh differs by a part of one.
        np.testing.assert_allclose(actual[name], array, atol=moved / 10, err_msg=name)
    assert checkpoints.last_step(resumed) == STEPS


def test_its_receipts_are_true_at_their_steps(older, resumed):
    before = lineage.read(older / "job")
    for step in (0, 3):
        assert lineage.of_checkpoint(resumed, step) == lineage.of_checkpoint(older / "job", step)
    after = lineage.read(resumed)
    for step in (6, STEPS):
        assert lineage.of_checkpoint(resumed, step) == after
    assert (after["steps"], after["mesh"], after["hosts"]) == (STEPS, "1x2x2", 1)
    (noted,) = after["history"]
    changes = {change["name"]: (change["old"], change["new"]) for change in noted["changes"]}
    assert noted["step"] == 3
    assert changes["steps"] == (6, STEPS) and changes["mesh"] == ("1x1x1", "1x2x2")
    assert changes["code of codegen-pax"][0] is None
    # The schedule of 150,000 steps that 6363f38 left to a run of 6.
    declared = after["declared"]
    assert [declared[name] for name in ("warmup_steps", "anneal_steps")] == [3_000, 147_000]
    assert (after["parents"], after["data"]) == (before["parents"], before["data"])
    assert after["code"]["older_experiments"]["file"] == "older_experiments.py"


def test_it_is_shown(older, resumed, capsys):
    for job in (older / "job", resumed):
        assert main(["show", str(job)]) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "kind training" in lines and "class older_experiments.Older" in lines
    assert "codegen-pax not recorded: its receipt is of an older version" in lines
    assert "from step 3 on steps: 6 -> 8" in lines
    assert any(line.startswith("hugging face ") for line in lines)


def test_it_is_exported(older, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parent)
    assert main(["export", "hf", str(older / "job"), str(tmp_path / "out"), *MODULE]) == 0
    tensors = load_file(tmp_path / "out" / "model.safetensors")
    expected = weights(older / "job", 6)
    np.testing.assert_array_equal(
        tensors["lm_head.bias"], expected["params.lm.softmax.logits_ffn.bias.b"]
    )
    table = (
        expected["params.lm.embedding_lookup.emb_var"] + expected["params.lm.embedding_lookup.b"]
    )
    np.testing.assert_array_equal(tensors["transformer.wte.weight"], table)


def test_its_corpus_is_read(older, capsys):
    folder = older / "corpora" / "bigpython"
    actual = manifest.load(epath.Path(folder))
    assert (actual.row_length, actual.vocabulary, actual.code) == (16, "codegen", {})
    (shard,) = actual.shards("train")
    assert actual.fingerprint("train") == lineage.read(older / "job")["data"][0]["fingerprint"]
    for row in (0, shard.rows - 1):
        assert main(["trace", str(folder / shard.name), str(row), "--json"]) == 0
        origins = json.loads(capsys.readouterr().out)
        assert origins and all(origin["repository"].startswith("owner/repo") for origin in origins)
