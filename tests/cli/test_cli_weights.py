"""`codegen-pax import` and `export`: as a person calls them, and what they refuse."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from codegen_pax.cli.core.main import main
from codegen_pax.runs import checksums, fingerprints, lineage
from codegen_pax.text.vocabulary import vocabulary
from codegen_pax.weights import exporting
from experiments.sizes import network_parameters
from tests.cli.wide_networks import CHECKPOINT, EXPERIMENT, HERE, WIDE, here, refused, tell_apart
from tests.weights.networks import logits

pytestmark = pytest.mark.usefixtures(here.__name__)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A network that transformers has saved, trained as far as its norms tell."""
    folder = tmp_path_factory.mktemp("source")
    tell_apart(WIDE.hugging_face()).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def job(source, tmp_path_factory):
    """The same as the checkpoint of a job."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(HERE)  # as `here`, which is of each test
        patch.setenv("CODEGEN_RECIPE", "jaxformer")
        output = tmp_path_factory.mktemp("jobs") / "job"
        assert main(["import", "hf", str(source), *EXPERIMENT, "--output", str(output)]) == 0
    return output


def test_an_import_says_what_it_made_and_where_it_is_from(source, job):
    document = lineage.read(job)
    assert lineage.read(job / CHECKPOINT) == document
    assert lineage.FILE in checksums.read(job / CHECKPOINT).files
    assert checksums.find_problems(job / CHECKPOINT, contents=True) == []
    assert document["kind"] == "import" and document["class"] == "tests.cli.wide_experiments.Wide"
    (parent,) = document["parents"]
    assert parent["kind"] == "hugging face" and parent["directory"] == str(source)
    assert parent["files"] == fingerprints.hash_files([source / "model.safetensors"])
    assert (parent["mp_num"], parent["mp_num_by"]) == (4, "weights")
    assert any("lm_tpl" in line for line in document["snapshot"])
    assert not list(job.parent.glob("*.unfinished"))


@pytest.mark.parametrize("kind", ["hf", "gptj"])
def test_transformers_loads_what_is_exported(kind, source, job, tmp_path, capsys):
    folder = tmp_path / "export"
    assert (
        main(["export", kind, str(job), str(folder), "--module", "tests.cli.wide_experiments"]) == 0
    )
    assert "Wide of step 0 for transformers" in capsys.readouterr().out
    network, report = transformers.AutoModelForCausalLM.from_pretrained(
        folder, output_loading_info=True
    )
    assert not any(report.values()), report
    ids = np.random.default_rng(0).integers(0, WIDE.vocab_size, (2, 33))
    expected = logits(transformers.CodeGenForCausalLM.from_pretrained(source), ids)
    actual = logits(network, ids)
    if kind == "hf":
        np.testing.assert_array_equal(actual, expected)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-4)
    words = transformers.AutoTokenizer.from_pretrained(folder)
    text = "def f(x):\n    return x\n"
    assert words(text).input_ids == vocabulary("codegen_2048").encode(text)
    card = (folder / "README.md").read_text()
    parameters = sum(weight.numel() for weight in network.parameters())
    assert f"| parameters | {parameters:,} |" in card
    assert "# Wide" in card and lineage.read(folder)["parents"][0]["sha256"][:12] in card


def test_what_was_exported_comes_back(source, job, tmp_path):
    """Pax, Hugging Face, Pax; and the chain leads through both back to the first files."""
    folder, back = tmp_path / "export", tmp_path / "back"
    assert (
        main(["export", "hf", str(job), str(folder), "--module", "tests.cli.wide_experiments"]) == 0
    )
    name = "model.safetensors"
    assert (folder / name).read_bytes() == (source / name).read_bytes()
    assert main(["import", "hf", str(folder), *EXPERIMENT, "--output", str(back)]) == 0
    assert fingerprints.fingerprint(back / CHECKPOINT) == fingerprints.fingerprint(job / CHECKPOINT)
    kinds = [one["kind"] for one in lineage.chain(lineage.read(back))]
    assert kinds == ["hugging face", "pax", "hugging face"]


def test_a_folder_may_have_any_name(source, tmp_path, capsys):
    """Brackets are markup to what prints."""
    job = tmp_path / "[bold]a[/b]" / "job"
    assert main(["import", "hf", str(source), *EXPERIMENT, "--output", str(job)]) == 0
    assert (
        f"{job}: {network_parameters(4, 64, 2_048) + 64:,} parameters of" in capsys.readouterr().out
    )
    folder = tmp_path / "[i]" / "export"
    assert (
        main(["export", "hf", str(job), str(folder), "--module", "tests.cli.wide_experiments"]) == 0
    )
    message = capsys.readouterr().out
    assert f"{folder}: Wide of step 0" in message
    assert "exporting: 1.9 MB of 1.9 MB, 0 s left" in message


def test_show_tells_the_chain_of_an_export(job, tmp_path, capsys):
    folder = tmp_path / "export"
    main(
        [
            "export",
            "hf",
            str(job),
            str(folder),
            "--dtype=float16",
            "--module",
            "tests.cli.wide_experiments",
        ]
    )
    capsys.readouterr()
    assert main(["show", str(folder)]) == 0
    shown = capsys.readouterr().out
    assert "export" in shown and f"{job}" in shown and "model.safetensors" in shown


def test_a_run_without_lineage_is_exported_by_name(job, tmp_path, capsys):
    bare = tmp_path / "bare"
    shutil.copytree(job, bare)
    for path in bare.rglob(lineage.FILE):
        path.unlink()
    arguments = (
        "export",
        "hf",
        bare,
        tmp_path / "export",
        "--module",
        "tests.cli.wide_experiments",
    )
    assert "name its experiment with --experiment" in refused(capsys, *arguments)
    assert main([*map(str, arguments), "--experiment", "Wide"]) == 0
    assert main(["show", str(tmp_path / "export")]) == 0
    assert "unknown" in capsys.readouterr().out


def saved(source, tmp_path, **config) -> Path:
    """The folder with another configuration."""
    folder = tmp_path / "changed"
    shutil.copytree(source, folder)
    message = json.loads((folder / "config.json").read_text()) | config
    (folder / "config.json").write_text(json.dumps(message))
    return folder


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"vocab_size": 50_400}, "vocab_size 50400; expected 2048"),
        ({"n_head": 16}, "n_head 16; expected 8"),
        ({"rotary_dim": 8}, "rotary_dim 8; expected 4"),
        ({"model_type": "gptj"}, "model_type"),
        ({"activation_function": "relu"}, "activation_function"),
    ],
)
def test_another_network_is_refused_before_anything_is_written(
    config, message, source, tmp_path, capsys
):
    folder = saved(source, tmp_path, **config)
    output = tmp_path / "job"
    assert message in refused(capsys, "import", "hf", folder, *EXPERIMENT, "--output", output)
    assert [path.name for path in tmp_path.iterdir()] == ["changed"]


def test_a_full_disk_is_told_before_anything_is_written(source, job, tmp_path, capsys, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=1_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    for arguments in (
        ("import", "hf", source, *EXPERIMENT, "--output", tmp_path / "x"),
        ("export", "hf", job, tmp_path / "x", "--module", "tests.cli.wide_experiments"),
    ):
        assert "x: it needs 0.02 GB, and 0.00 GB are free in" in refused(capsys, *arguments)
    assert not list(tmp_path.iterdir())


def test_what_is_there_is_never_written_over(source, job, tmp_path, capsys):
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "mine").touch()
    for arguments in (
        ("import", "hf", source, *EXPERIMENT, "--output", tmp_path / "x"),
        ("export", "hf", job, tmp_path / "x", "--module", "tests.cli.wide_experiments"),
    ):
        assert "x already exists; expected a new folder" in refused(capsys, *arguments)
    assert [path.name for path in (tmp_path / "x").iterdir()] == ["mine"]


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (("export", "hf", "JOB", "new", "--dtype=float8"), 2, "no dtype of weights is called 'fl"),
        (("export", "hf", "JOB", "new", "--step=7"), 2, "has no checkpoint of step 7; it has 0"),
        (
            ("export", "hf", "JOB", "new", "--experiment=CodeGen350MMono"),
            2,
            "is a run of Wide, as its lineage.json says",
        ),
        (
            ("export", "hf", "nowhere", "new"),
            1,
            "nowhere is not a directory; expected a run's folder",
        ),
        (("export", "hf", "JOB", "gs://b/new"), 2, "gs://b/new is not a folder on this machine"),
        (("export", "keras", "JOB", "new"), 2, "argument kind: invalid choice: 'keras'"),
        (("import", "hf", "nowhere", *EXPERIMENT, "--output=new"), 1, "nowhere has no config.json"),
        (("import", "hf", "JOB", *EXPERIMENT, "--output=new"), 1, "job has no config.json"),
        (
            ("import", "hf", "nowhere", "--experiment=CodeGen350MMnoo", "--output=new"),
            2,
            "nearest: CodeGen350MMono",
        ),
        (("import", "hf", "x", *EXPERIMENT, "--output=gs://b/x"), 2, "gs://b/x is not a folder on"),
        (
            ("import", "jaxformer", "JOB", *EXPERIMENT, "--output=new"),
            1,
            "found no ckpt.json in it",
        ),
    ],
)
def test_bad_use_is_told(arguments, status, message, job, tmp_path, capsys, monkeypatch):
    arguments = [str(job) if word == "JOB" else word for word in arguments]
    if arguments[0] == "export":
        arguments += ["--module", "tests.cli.wide_experiments"]
    monkeypatch.syspath_prepend(HERE)
    monkeypatch.chdir(tmp_path)
    assert message in refused(capsys, *arguments, status=status)
    assert not list(tmp_path.iterdir())


def test_a_number_too_large_is_told_in_one_line(source, tmp_path, capsys):
    network = transformers.CodeGenForCausalLM.from_pretrained(source)
    with torch.no_grad():
        network.lm_head.bias[3] = 70_000
    network.save_pretrained(tmp_path / "source")
    arguments = [*EXPERIMENT, "--output", str(tmp_path / "job")]
    assert main(["import", "hf", str(tmp_path / "source"), *arguments]) == 0
    export = (
        "export",
        "hf",
        tmp_path / "job",
        tmp_path / "x",
        "--module",
        "tests.cli.wide_experiments",
    )
    message = refused(capsys, *export, "--dtype=float16")
    assert "lm_head.bias holds 70000, too large for float16" in message
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("name", ["transformer.wte.weight", "transformer.h.3.attn.qkv_proj.weight"])
def test_a_weight_that_is_no_number_is_told_in_one_line(name, source, tmp_path, capsys):
    network = transformers.CodeGenForCausalLM.from_pretrained(source)
    with torch.no_grad():
        network.get_parameter(name)[150, 2:4] = float("nan")
    network.save_pretrained(tmp_path / "source")
    arguments = ("import", "hf", tmp_path / "source", *EXPERIMENT, "--output", tmp_path / "job")
    message = refused(capsys, *arguments)
    assert (
        f"model.safetensors: {name} holds 2 numbers that are not finite, the first nan" in message
    )
    assert "nan at [150, 2]" in message
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_a_file_of_pytorch_without_pytorch(source, tmp_path, capsys, monkeypatch):
    folder = tmp_path / "source"
    network = transformers.CodeGenForCausalLM.from_pretrained(source)
    network.config.save_pretrained(folder)
    torch.save(network.state_dict(), folder / "pytorch_model.bin")
    arguments = ("import", "hf", folder, *EXPERIMENT, "--output", tmp_path / "job")
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "torch", None)
        message = refused(capsys, *arguments)
    assert "needs PyTorch, which is not installed: pip install 'codegen-pax[hf]'" in message
    assert main([*map(str, arguments)]) == 0


def test_a_checkpoint_that_is_removed_while_it_is_read(job, tmp_path, capsys, monkeypatch):
    """What is gone would read as zeros."""
    trained = tmp_path / "job"
    shutil.copytree(job, trained)
    run = exporting.run

    def removing(*arguments):
        shutil.rmtree(next((trained / CHECKPOINT / "state").glob("*final_ln.scale")))
        run(*arguments)

    monkeypatch.setattr(exporting, "run", removing)
    export = ("export", "hf", trained, tmp_path / "x", "--module", "tests.cli.wide_experiments")
    message = refused(capsys, *export)
    assert "was changed while it was read" in message or "final_ln.scale" in message
    assert not (tmp_path / "x").exists()


def test_a_chunk_that_is_removed_while_it_is_read(job, tmp_path, capsys, monkeypatch):
    trained = tmp_path / "job"
    shutil.copytree(job, trained)
    fingerprint = fingerprints.fingerprint

    def removing(checkpoint, stopped):
        actual = fingerprint(checkpoint, stopped)
        next((checkpoint / "state").glob("*final_ln.scale/0")).unlink()
        return actual

    monkeypatch.setattr(fingerprints, "fingerprint", removing)
    export = ("export", "hf", trained, tmp_path / "x", "--module", "tests.cli.wide_experiments")
    assert "was changed while it was read" in refused(capsys, *export)
    assert not (tmp_path / "x").exists()


def test_an_early_checkpoint_has_its_own_lineage(job, tmp_path):
    """The job has gone on since, and says so; the checkpoint it was imported as does not."""
    trained = tmp_path / "job"
    shutil.copytree(job, trained)
    document = lineage.read(trained)
    lineage.write(trained, document | {"kind": "training", "parents": []})
    arguments = ["--step=0", "--module", "tests.cli.wide_experiments"]
    assert main(["export", "hf", str(trained), str(tmp_path / "x"), *arguments]) == 0
    (parent,) = lineage.read(tmp_path / "x")["parents"]
    assert parent["lineage"] == document


def test_an_output_may_be_a_link(source, tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk" / "job")
    assert main(["import", "hf", str(source), *EXPERIMENT, "--output", str(tmp_path / "link")]) == 0
    assert lineage.read(tmp_path / "disk" / "job") == lineage.read(tmp_path / "link")
