"""What a job says of itself, and what of it is looked at before it goes on."""

import dataclasses

import pytest
from etils import epath

import codegen
from codegen_pax.compare import Side, snapshot
from codegen_pax.weights import lineage
from experiments import receipt, start
from experiments.declaration import find_declaration
from experiments.recipes import RECIPES

OTHER = {"jax": "0.0.1"}


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch):
    for name in ("CODEGEN_DATA", "CODEGEN_MESH", "CODEGEN_RECIPE", "CODEGEN_START_FROM"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def job(tmp_path):
    return epath.Path(tmp_path / "job")


def add_checkpoint(job, step, said=None):
    """A checkpoint of one array of one byte, and its lineage."""
    checkpoint = job / "checkpoints" / f"checkpoint_{step:08d}"
    (checkpoint / "state" / "mdl_vars.params.w").mkdir(parents=True)
    (checkpoint / "state" / "mdl_vars.params.w" / "0").write_bytes(bytes([step]))
    if said:
        lineage.write(checkpoint, said)
    return checkpoint


def imported(name):
    files = [{"name": "pytorch_model.bin", "bytes": 3, "sha256": "ab" * 32}]
    parents = [{"kind": "hugging face", "directory": "codegen-350M-nl", "files": files}]
    return receipt.document(getattr(codegen, name)(), f"codegen.{name}", parents, "import", [])


def parent_of(job, step, said):
    weights = lineage.fingerprint(job / "checkpoints" / f"checkpoint_{step:08d}")
    return {
        "kind": "pax",
        "experiment": said and said["experiment"],
        "job": str(job),
        "step": step,
        "sha256": weights["sha256"],
        "bytes": weights["bytes"],
        "lineage": said,
    }


def test_a_document_says_what_is_run_and_on_what(monkeypatch):
    monkeypatch.setenv("CODEGEN_RECIPE", "paper")
    experiment = codegen.CodeGen6BMulti()
    found = receipt.document(experiment, "codegen.CodeGen6BMulti", [], "training", [{"task": "x"}])
    text = found.pop("snapshot")
    assert "\n".join(text) + "\n" == snapshot(Side.of("any", experiment))
    values = found.pop("recipe_values")
    assert set(values) == {field.name for field in dataclasses.fields(RECIPES["paper"])}
    assert values["decay"] == "matrices" and values["batch_tokens"]["6B"] == 2_097_152
    assert found.pop("versions") == lineage.versions()
    declaration = find_declaration("CodeGen6BMulti")
    assert found == {
        "format": 1,
        "kind": "training",
        "experiment": "CodeGen6BMulti",
        "class": "codegen.CodeGen6BMulti",
        "recipe": "paper",
        "mesh": "1x32x2",
        "mixture": "codegen_bigquery",
        "steps": declaration.steps,
        "batch_tokens": 2_097_152,
        "data": [{"task": "x"}],
        "parents": [],
    }


def test_a_job_that_was_killed_before_its_first_checkpoint_begins_again(job, tmp_path, monkeypatch):
    """From other weights, of which the checkpoint has a lineage of its own."""
    receipt.keep(job, codegen.CodeGenNanoMono())
    first = lineage.read(job)
    assert first["parents"] == [] and first["kind"] == "training"
    assert first["class"] == "codegen.CodeGenNanoMono"
    assert [origin["source"] for origin in first["data"]] == ["installed"]
    multi = epath.Path(tmp_path / "multi")
    receipt.keep(multi, codegen.CodeGenNanoMulti())
    said = lineage.read(multi) | {"mesh": "1x2x1"}
    add_checkpoint(multi, 3, said)
    monkeypatch.setattr(start, "parent_job", lambda declaration: multi)
    monkeypatch.setattr(start, "loading_rules", lambda *arguments: {})
    receipt.keep(job, codegen.CodeGenNanoMono())
    assert lineage.read(job)["parents"] == [parent_of(multi, 3, said)]
    assert [path.name for path in job.iterdir()] == [lineage.FILE]


def test_data_that_is_not_there_is_no_error(job):
    receipt.keep(job, codegen.CodeGen350MNL())
    (origin,) = lineage.read(job)["data"]
    assert origin["task"] == "codegen_pile" and "CODEGEN_DATA is not set" in origin["missing"]


def test_a_job_that_resumes_keeps_its_lineage_and_notes_other_software(job, monkeypatch):
    receipt.keep(job, codegen.CodeGenNanoMono())
    before = lineage.read(job)
    add_checkpoint(job, 4)
    receipt.keep(job, codegen.CodeGenNanoMono())
    assert lineage.read(job) == before
    noted = {"step": 4, "versions": OTHER}
    monkeypatch.setattr(lineage, "versions", lambda: OTHER)
    for _ in range(2):
        receipt.keep(job, codegen.CodeGenNanoMono())
        assert lineage.read(job) == before | {"resumed": [noted]}
    monkeypatch.undo()
    receipt.keep(job, codegen.CodeGenNanoMono())
    back = {"step": 4, "versions": lineage.versions()}
    assert lineage.read(job) == before | {"resumed": [noted, back]}


def test_training_on_in_an_imported_job_has_the_import_as_its_parent(job):
    said = imported("CodeGenNanoMono")
    lineage.write(job, said)
    checkpoint = add_checkpoint(job, 7, said)
    receipt.keep(job, codegen.CodeGenNanoMono())
    found = lineage.read(job)
    assert found["kind"] == "training" and found["parents"] == [parent_of(job, 7, said)]
    assert lineage.read(checkpoint) == said
    assert [one["kind"] for one in lineage.chain(found)] == ["pax", "hugging face"]
    add_checkpoint(job, 9, found)  # from here on it resumes
    receipt.keep(job, codegen.CodeGenNanoMono())
    assert lineage.read(job) == found


def test_a_checkpoint_of_unknown_origin_is_a_parent_too(job):
    add_checkpoint(job, 7)
    receipt.keep(job, codegen.CodeGenNanoMono())
    found = lineage.read(job)
    assert found["parents"] == [parent_of(job, 7, None)]
    assert [one["kind"] for one in lineage.chain(found)] == ["pax", "unknown"]


def test_other_hosts_write_nothing(job, monkeypatch):
    monkeypatch.setattr("jax.process_index", lambda: 1)
    receipt.keep(job, codegen.CodeGenNanoMono())
    assert not job.exists()


@pytest.mark.parametrize("kind", ["training", "import"])
def test_another_experiment_or_recipe_is_refused(kind, job, monkeypatch):
    receipt.check_resumed(job, find_declaration("CodeGenNanoNL"))  # nothing is known of it
    lineage.write(job, imported("CodeGenNanoMono") | {"kind": kind})
    add_checkpoint(job, 2)
    receipt.check_resumed(job, find_declaration("CodeGenNanoMono"))
    with pytest.raises(ValueError, match=r"experiment CodeGenNanoMono; wanted CodeGenNanoNL"):
        receipt.keep(job, codegen.CodeGenNanoNL())
    monkeypatch.setenv("CODEGEN_RECIPE", "paper")
    with pytest.raises(ValueError, match=r"recipe jaxformer; wanted paper"):
        receipt.keep(job, codegen.CodeGenNanoMono())
