"""A phase starts from the last one's weights, or says why not before it trains."""

import dataclasses
import json
import os
import shutil

import numpy as np
import pytest
import tensorstore
from absl import flags

import codegen
from codegen_pax.runs import fingerprints, lineage
from tests.data.prepared_corpora import write_corpus

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def browser(pax, whole, tmp_path_factory):
    """The new language phase, trained from the NL job on another mesh."""
    job = tmp_path_factory.mktemp("jobs") / "browser"
    pax.run(
        "short_experiments.ShortBrowser",
        job,
        CODEGEN_START_FROM=str(whole),
        CODEGEN_MESH="1x1x4",
    )
    return job


def test_a_new_language_phase_has_an_experiment_of_every_size(pax):
    printed = pax.command("list", "--module", "short_experiments", "--phase", "Browser", "--json")
    actual = {row["name"]: row for row in json.loads(printed)}
    sizes = ("Nano", "Micro", "350M", "2B", "6B", "16B")
    assert {f"CodeGen{size}Browser" for size in sizes} <= actual.keys()
    for size in sizes:
        row = actual[f"CodeGen{size}Browser"]
        assert row["start"] == f"CodeGen{size}NL"
        assert f"--exp=short_experiments.CodeGen{size}Browser" in row["command"]
    assert actual["CodeGen16BBrowser"]["data"] == "codegen_browser"
    assert actual["CodeGenNanoBrowser"]["data"] == "codegen_nano_browser"


def arrays(checkpoint, prefix):
    """Name -> array of one part of a checkpoint, read by tensorstore alone."""
    actual = {}
    for directory in sorted((checkpoint / "state").glob(f"{prefix}*")):
        spec = {"driver": "zarr", "kvstore": {"driver": "file", "path": str(directory)}}
        actual[directory.name] = np.asarray(
            tensorstore.open(spec, open=True).result().read().result()
        )
    return actual


def test_it_starts_at_step_0_with_the_parents_weights_and_a_fresh_optimizer(whole, browser):
    first = browser / "checkpoints" / "checkpoint_00000000"
    parent = whole / "checkpoints" / "checkpoint_00000020"
    expected, actual = arrays(parent, "mdl_vars"), arrays(first, "mdl_vars")
    assert actual.keys() == expected.keys() and len(actual) == 14
    for name, array in expected.items():
        np.testing.assert_array_equal(actual[name], array, err_msg=name)
    moments = arrays(first, "opt_states")
    assert moments.keys() == arrays(parent, "opt_states").keys() and len(moments) >= 2 * 14
    assert all(not np.any(array) for array in moments.values())
    assert any(np.any(array) for array in arrays(parent, "opt_states").values())


def test_every_checkpoint_says_where_it_comes_from(whole, browser):
    of_parent = lineage.read(whole)
    weights = fingerprints.fingerprint(whole / "checkpoints" / "checkpoint_00000020")
    (parent,) = lineage.read(browser)["parents"]
    assert parent == {
        "kind": "pax",
        "experiment": "ShortNL",
        "job": str(whole),
        "step": 20,
        "sha256": weights["sha256"],
        "bytes": weights["bytes"],
        "lineage": of_parent,
    }
    assert of_parent["parents"] == []
    for job in (whole, browser):
        actual = list((job / "checkpoints").iterdir())
        assert actual and all(lineage.read(path) == lineage.read(job) for path in actual)


def test_a_run_shows_its_chain(pax, whole, browser):
    """Of the job, by a relative path, and of one checkpoint."""
    job = os.path.relpath(browser, pax.directory)
    digest = fingerprints.fingerprint(whole / "checkpoints" / "checkpoint_00000020")["sha256"]
    for run, last in ((job, 3), (f"{job}/checkpoints/checkpoint_00000000", 0)):
        lines = [" ".join(line.split()) for line in pax.command("show", run).splitlines()]
        assert {"experiment ShortBrowser", f"last_step {last}"} <= set(lines)
        nl = f"ShortNL step 20 {digest[:12]} {whole}"
        assert lines[lines.index("chain") + 1 :][:2] == [nl, "random weights"]


@pytest.fixture(autouse=True)
def mesh(monkeypatch):
    """Of the eight devices of this process too."""
    monkeypatch.setenv("CODEGEN_MESH", "1x4x2")


@pytest.fixture
def training(tmp_path):
    """Flags as the stock binary has them when it is about to train."""
    from paxml import main  # noqa: F401  (defines the flags)

    flags.FLAGS(["paxml.main", f"--job_log_dir={tmp_path}", "--mode=train"])
    yield
    flags.FLAGS.unparse_flags()


class ShortNL(codegen.CodeGenNanoNL):
    """Another of this name than `short_experiments` has."""


class Next(codegen.CodeGenNanoMulti):
    """A phase that starts from an experiment of one's own."""

    DECLARATION = dataclasses.replace(codegen.CodeGenNanoMulti.DECLARATION, start="ShortNL")


def refusal(experiment: type, monkeypatch, **settings: str) -> str:
    for key, value in settings.items():
        monkeypatch.setenv(key, value)
    with pytest.raises(ValueError) as error:
        experiment().validate()
    message = str(error.value)
    assert "\n" not in message
    return message


def test_a_job_of_another_experiment_is_not_resumed(whole, monkeypatch):
    from paxml import main  # noqa: F401  (defines the flags)

    flags.FLAGS(["paxml.main", f"--job_log_dir={whole}", "--mode=train"])
    try:
        message = refusal(codegen.CodeGenNanoMulti, monkeypatch)
        assert str(whole) in message and "ShortNL" in message
        message = refusal(ShortNL, monkeypatch, CODEGEN_RECIPE="paper")
        assert "recipe jaxformer" in message
    finally:
        flags.FLAGS.unparse_flags()


def test_what_resumes_needs_its_parent_no_more(whole, browser, monkeypatch):
    """The parent may be gone: the job has weights of its own."""
    from paxml import main  # noqa: F401  (defines the flags)

    monkeypatch.setenv("CODEGEN_START_FROM", str(whole / "gone"))
    for mode in ("train", "decode_once"):
        flags.FLAGS(["paxml.main", f"--job_log_dir={browser}", f"--mode={mode}"])
        try:
            assert not codegen.CodeGenNanoMulti().task().train.init_from_checkpoint_rules
        finally:
            flags.FLAGS.unparse_flags()


def test_a_relative_job_directory_is_made_absolute(monkeypatch, tmp_path):
    from paxml import main

    monkeypatch.chdir(tmp_path)
    for mode in ("train", "eval"):
        flags.FLAGS(["paxml.main", "--job_log_dir=job", f"--mode={mode}"])
        try:
            codegen.CodeGenNanoNL().validate()
            assert main._JOB_LOGDIR.value == tmp_path / "job"
        finally:
            flags.FLAGS.unparse_flags()


def test_a_relative_directory_is_the_callers(whole, monkeypatch):
    """Orbax would look for it below itself."""
    monkeypatch.chdir(whole.parent)
    monkeypatch.setenv("CODEGEN_START_FROM", whole.name)
    rules = codegen.CodeGenNanoMulti().task().train.init_from_checkpoint_rules
    assert list(rules) == [str(whole / "checkpoints")]
    assert rules[str(whole / "checkpoints")].step == 20


def test_a_real_size_does_not_start_a_later_phase_from_nothing(training, monkeypatch):
    monkeypatch.delenv("CODEGEN_START_FROM", raising=False)
    message = refusal(codegen.CodeGen350MMulti, monkeypatch)
    assert "CodeGen350MNL" in message and "CODEGEN_START_FROM" in message


def test_scratch_is_an_answer(training, monkeypatch, tmp_path):
    monkeypatch.setenv("CODEGEN_START_FROM", "scratch")
    monkeypatch.setenv("CODEGEN_DATA", str(tmp_path))
    languages = codegen.CodeGen350MMulti.DECLARATION.phase.languages
    parts = {language: {"train": 1} for language in languages}
    write_corpus(tmp_path / "bigquery", parts, row_length=2048, shards=1)
    roomy = shutil.disk_usage(tmp_path)._replace(free=10**12)  # whatever this machine's disk is
    monkeypatch.setattr(shutil, "disk_usage", lambda path: roomy)
    codegen.CodeGen350MMulti().validate()
    assert lineage.read(tmp_path)["parents"] == []


def test_a_job_without_a_checkpoint(monkeypatch, tmp_path):
    message = refusal(
        codegen.CodeGenNanoMulti, monkeypatch, CODEGEN_START_FROM=str(tmp_path / "none")
    )
    assert str(tmp_path / "none") in message and "no checkpoint" in message


def test_a_job_of_another_experiment(whole, monkeypatch):
    message = refusal(codegen.CodeGenNanoMono, monkeypatch, CODEGEN_START_FROM=str(whole))
    assert (
        "CodeGenNanoMulti" in message
        and "holds ShortNL" in message
        and "start='ShortNL'" in message
    )


def test_a_job_of_another_recipe(whole, monkeypatch):
    message = refusal(
        Next,
        monkeypatch,
        CODEGEN_START_FROM=str(whole),
        CODEGEN_RECIPE="paper",
    )
    assert "embedding_lookup.b" in message and "jaxformer" in message


def test_a_job_of_another_size(whole, monkeypatch, tmp_path):
    """As an imported checkpoint, which has no lineage."""
    (tmp_path / "imported").mkdir()
    (tmp_path / "imported" / "checkpoints").symlink_to(whole / "checkpoints")
    message = refusal(
        codegen.CodeGen350MMulti, monkeypatch, CODEGEN_START_FROM=str(tmp_path / "imported")
    )
    assert "embedding_lookup.b" in message and "(128,)" in message and "(1024,)" in message
