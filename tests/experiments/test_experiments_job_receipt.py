"""What a job says of itself, and what of it is looked at before it goes on."""

import dataclasses

import pytest
from etils import epath

import codegen
from codegen_pax.compare import ExperimentConfig, snapshot
from codegen_pax.environment import code
from codegen_pax.runs import fingerprints, lineage
from experiments import job_receipt
from experiments.declaration import find_declaration
from experiments.meshes import parse_mesh
from experiments.recipes import RECIPES
from experiments.settings import Settings
from experiments.start import StartCheckpoint

MESH = Settings(mesh=parse_mesh("1x2x1"))


@pytest.fixture
def job(tmp_path):
    return epath.Path(tmp_path / "job")


def add_checkpoint(job, step, message=None):
    """A checkpoint of one array of one byte, and its lineage."""
    checkpoint = job / "checkpoints" / f"checkpoint_{step:08d}"
    (checkpoint / "state" / "mdl_vars.params.w").mkdir(parents=True)
    (checkpoint / "state" / "mdl_vars.params.w" / "0").write_bytes(bytes([step]))
    if message:
        lineage.write(checkpoint, message)
    return checkpoint


def imported(name):
    files = [{"name": "pytorch_model.bin", "bytes": 3, "sha256": "ab" * 32}]
    parents = [{"kind": "hugging face", "directory": "codegen-350M-nl", "files": files}]
    return job_receipt.document(getattr(codegen, name)(), f"codegen.{name}", parents, "import", [])


def parent_of(job, step, message):
    weights = fingerprints.fingerprint(job / "checkpoints" / f"checkpoint_{step:08d}")
    return {
        "kind": "pax",
        "experiment": message and message["experiment"],
        "job": str(job),
        "step": step,
        "sha256": weights["sha256"],
        "bytes": weights["bytes"],
        "lineage": message,
    }


def test_a_document_says_what_is_run_and_on_what():
    experiment = codegen.CodeGen6BMulti(Settings(recipe=RECIPES["paper"]))
    actual = job_receipt.document(
        experiment, "codegen.CodeGen6BMulti", [], "training", [{"task": "x"}]
    )
    text = actual.pop("snapshot")
    assert "\n".join(text) + "\n" == snapshot(ExperimentConfig.of("any", experiment))
    values = actual.pop("recipe_values")
    fields = {field.name for field in dataclasses.fields(RECIPES["paper"])}
    assert set(values) == fields - {"batch"} | {"batch_tokens"}
    assert values["decay"] == "matrices" and values["batch_tokens"]["6B"] == 2_097_152
    assert actual.pop("versions") == lineage.versions()
    assert actual.pop("code") == {"codegen-pax": code.of_project()}
    declaration = find_declaration("CodeGen6BMulti")
    declared = actual.pop("declared")
    assert declared["size"] == {
        "name": "6B",
        "layers": 33,
        "model_dims": 4096,
        "heads": 16,
        "head_dims": 256,
        "rotary_dims": 64,
        "context": 2048,
        "embedded": False,
        "vocab_size": 51_200,
        "remat": "save_nothing",
        "attention": "flash",
        "loss_chunk": 0,
    }
    assert (declared["phase"]["name"], declared["phase"]["vocabulary"]) == ("Multi", "codegen")
    numbers = ("batch_rows", "steps", "warmup_steps", "learning_rate")
    assert [declared[name] for name in numbers] == [1_024, declaration.steps, 3_000, 4e-5]
    assert actual == {
        "format": 1,
        "kind": "training",
        "experiment": "CodeGen6BMulti",
        "class": "codegen.CodeGen6BMulti",
        "recipe": "paper",
        "mesh": "1x32x2",
        "hosts": 1,
        "mixture": "codegen_bigquery",
        "steps": declaration.steps,
        "batch_tokens": 2_097_152,
        "data": [{"task": "x"}],
        "parents": [],
    }


def test_a_job_that_was_killed_before_its_first_checkpoint_begins_again(job, tmp_path):
    """From other weights, of which the checkpoint has a lineage of its own."""
    job_receipt.keep(job, codegen.CodeGenNanoMono())
    first = lineage.read(job)
    assert first["parents"] == [] and first["kind"] == "training"
    assert first["class"] == "codegen.CodeGenNanoMono"
    assert [origin["source"] for origin in first["data"]] == ["installed"]
    multi = epath.Path(tmp_path / "multi")
    job_receipt.keep(multi, codegen.CodeGenNanoMulti())
    message = lineage.read(multi) | {"mesh": "1x2x1"}
    add_checkpoint(multi, 3, message)
    experiment = codegen.CodeGenNanoMono(Settings(start_from=str(multi)))
    assert experiment.start == StartCheckpoint(multi, 3)
    job_receipt.keep(job, experiment)
    assert lineage.read(job)["parents"] == [parent_of(multi, 3, message)]
    assert [path.name for path in job.iterdir()] == [lineage.FILE]


def test_data_that_is_not_there_is_no_error(job):
    job_receipt.keep(job, codegen.CodeGen350MNL())
    (origin,) = lineage.read(job)["data"]
    assert origin["task"] == "codegen_pile" and "CODEGEN_DATA is not set" in origin["missing"]


def changed(name, old, new):
    return {"name": name, "old": old, "new": new}


def test_a_job_that_resumes_keeps_its_lineage_and_notes_what_is_other(job, monkeypatch):
    job_receipt.keep(job, codegen.CodeGenNanoMono())
    before = lineage.read(job)
    add_checkpoint(job, 4, before)
    job_receipt.keep(job, codegen.CodeGenNanoMono())
    assert lineage.read(job) == before
    versions = before["versions"] | {"jax": "0.0.1"}
    monkeypatch.setattr(lineage, "versions", lambda: versions)
    monkeypatch.setattr(code, "of_project", lambda: {"sha256": "ab" * 32})
    expected = [
        changed("mesh", "1x1x1", "1x2x1"),
        changed(
            "code of codegen-pax",
            code.describe(before["code"]["codegen-pax"]),
            "sources " + "ab" * 6,
        ),
        changed("jax", before["versions"]["jax"], "0.0.1"),
    ]
    for _ in range(2):  # nothing was saved between: it resumes from step 4 all the same
        job_receipt.keep(job, codegen.CodeGenNanoMono(MESH))
        actual = lineage.read(job)
        assert actual["history"] == [{"step": 4, "changes": expected}]
    assert (actual["mesh"], actual["versions"]) == ("1x2x1", versions)
    assert "task.model.ici_mesh_shape = [1, 2, 1]" in actual["snapshot"]
    assert lineage.of_checkpoint(job, 4) == before
    add_checkpoint(job, 6, actual)
    monkeypatch.undo()
    job_receipt.keep(job, codegen.CodeGenNanoMono())
    actual = lineage.read(job)
    assert [one["step"] for one in actual["history"]] == [4, 6]
    assert actual["history"][1]["changes"][0] == changed("mesh", "1x2x1", "1x1x1")
    assert actual | {"history": []} == before | {"history": []}


def test_a_job_resumes_from_its_checkpoint_not_from_what_a_stopped_run_had_changed(job):
    """The newest checkpoint is gone, and what was changed after it."""
    job_receipt.keep(job, codegen.CodeGenNanoMono())
    before = lineage.read(job)
    add_checkpoint(job, 4, before)
    job_receipt.keep(job, codegen.CodeGenNanoMono(MESH))
    job_receipt.keep(job, codegen.CodeGenNanoMono())
    assert lineage.read(job) == before
    (job / lineage.FILE).unlink()
    job_receipt.keep(job, codegen.CodeGenNanoMono())
    assert lineage.read(job) == before


def test_training_on_in_an_imported_job_has_the_import_as_its_parent(job):
    message = imported("CodeGenNanoMono")
    lineage.write(job, message)
    checkpoint = add_checkpoint(job, 7, message)
    job_receipt.keep(job, codegen.CodeGenNanoMono())
    actual = lineage.read(job)
    assert actual["kind"] == "training" and actual["parents"] == [parent_of(job, 7, message)]
    assert lineage.read(checkpoint) == message
    assert [one["kind"] for one in lineage.chain(actual)] == ["pax", "hugging face"]
    add_checkpoint(job, 9, actual)  # from here on it resumes
    job_receipt.keep(job, codegen.CodeGenNanoMono())
    assert lineage.read(job) == actual


def test_a_checkpoint_of_unknown_origin_is_a_parent_too(job):
    add_checkpoint(job, 7)
    job_receipt.keep(job, codegen.CodeGenNanoMono())
    actual = lineage.read(job)
    assert actual["parents"] == [parent_of(job, 7, None)]
    assert [one["kind"] for one in lineage.chain(actual)] == ["pax", "unknown"]


def test_other_hosts_write_nothing(job, monkeypatch):
    monkeypatch.setattr("jax.process_index", lambda: 1)
    job_receipt.keep(job, codegen.CodeGenNanoMono())
    assert not job.exists()


@pytest.mark.parametrize("kind", ["training", "import"])
def test_another_experiment_or_recipe_is_refused(kind, job):
    lineage.write(job, imported("CodeGenNanoMono") | {"kind": kind})
    add_checkpoint(job, 2)
    job_receipt.keep(job, codegen.CodeGenNanoMono())
    with pytest.raises(ValueError, match=r"experiment CodeGenNanoMono; expected CodeGenNanoNL"):
        job_receipt.keep(job, codegen.CodeGenNanoNL())
    with pytest.raises(ValueError, match=r"recipe jaxformer; expected paper"):
        job_receipt.keep(job, codegen.CodeGenNanoMono(Settings(recipe=RECIPES["paper"])))
