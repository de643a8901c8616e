"""Experiments of one's own: their names, what of them reaches Pax, and where they start."""

import dataclasses
import json
import types
from dataclasses import replace

import pytest
import seqio
import tensorflow as tf
from etils import epath
from praxis.layers.checkpoint_policy import AutodiffCheckpointType

import codegen
from codegen_pax.cli.core import training
from codegen_pax.compare import ExperimentConfig, snapshot
from codegen_pax.data.format import rows
from codegen_pax.data.seqio_sources import PreparedCorpus
from codegen_pax.data.stream import row_readers
from codegen_pax.model.attention import Kind
from codegen_pax.runs import checkpoints, lineage
from codegen_pax.text import tokenizer
from codegen_pax.training import accumulation, optimizer
from codegen_pax.weights import hugging_face
from experiments import job_receipt, phases, recipes, sizes, start
from experiments.declaration import Declaration, find_declaration
from experiments.experiment import CodeGenExperiment
from experiments.phases import Phase
from experiments.registry import declare_phase
from experiments.report import report
from experiments.settings import Settings
from experiments.start import StartCheckpoint
from tests.runs import small_jobs

MONO = find_declaration("CodeGenNanoMono")
NL = find_declaration("CodeGen350MNL")


class NanoA(codegen.CodeGenNanoMono):
    DECLARATION = replace(MONO, steps=20)


class NanoB(NanoA):
    """Inherits what is declared."""


class FromNumbers(codegen.CodeGenNanoMono):
    DECLARATION = replace(NanoA.DECLARATION, steps=30).declared


class Constructed(CodeGenExperiment):
    DECLARATION = Declaration(size=MONO.size, phase=MONO.phase, steps=40)


class InMethods(codegen.CodeGenNanoMono):
    """Declares nothing."""

    def task(self):
        task = super().task()
        task.train.save_max_to_keep = 1
        return task


def made_in(module):
    return type("NanoA", (codegen.CodeGenNanoMono,), {"__module__": module})


@pytest.mark.parametrize(
    ("cls", "steps", "variant"),
    [
        (NanoA, 20, "a variant of CodeGenNanoMono, with steps=20."),
        (NanoB, 20, "a variant of CodeGenNanoMono, with steps=20."),
        (FromNumbers, 30, "a variant of CodeGenNanoMono, with steps=30."),
        (Constructed, 40, "a variant of CodeGenNanoMono, with steps=40."),
        (InMethods, MONO.steps, "a variant of CodeGenNanoMono."),
        (made_in("elsewhere.mine"), MONO.steps, "a variant of CodeGenNanoMono."),
    ],
)
def test_the_class_is_the_name_of_the_run(cls, steps, variant, tmp_path):
    actual = cls().declaration()
    assert (actual.name, actual.module, actual.steps) == (cls.__name__, cls.__module__, steps)
    assert actual.table_name == "CodeGenNanoMono"
    message = report(actual)
    assert message.startswith(f"{cls.__name__}: ") and variant in " ".join(message.split())
    run = f"python -m paxml.main --exp={cls.__module__}.{cls.__name__} --job_log_dir=DIR"
    assert " ".join(message.split()).endswith(f"Command: {run}")
    job_receipt.keep(epath.Path(tmp_path), cls())
    document = lineage.read(tmp_path)
    assert document["experiment"] == cls.__name__
    assert document["class"] == f"{cls.__module__}.{cls.__name__}"


def test_registered_experiments_keep_theirs():
    actual = codegen.CodeGen16BMono.DECLARATION
    assert actual == replace(find_declaration("CodeGen16BMono"), name="CodeGen16BMono")
    assert not actual.is_variant and actual.module == "codegen"
    assert codegen.CodeGen16BMono.__doc__ == report(actual)


@pytest.mark.parametrize("declared", ["CodeGenNanoMono", {"steps": 20}, CodeGenExperiment])
def test_a_declaration_that_is_none_is_one_line(declared):
    with pytest.raises(ValueError, match=r"Wrong: DECLARATION=.* expected a declaration") as error:
        type("Wrong", (CodeGenExperiment,), {"DECLARATION": declared})
    assert "\n" not in str(error.value)


def test_what_follows_reaches_pax():
    class Short(codegen.CodeGen350MNL):
        DECLARATION = replace(NL, steps=1_000, row_length=64)

    task = Short().task()
    schedule = task.train.learner.optimizer.lr_schedule
    assert (schedule.warmup_steps, schedule.decay_end) == (100, 1_000)
    assert task.train.num_train_steps == 1_000
    assert task.train.learner.stochastic_gradient.accumulation_steps == 32
    train, evaluation = Short().datasets()
    assert (train.batch_size, train.row_length) == (8_192, 64)
    assert (evaluation.batch_size, evaluation.row_length) == (256, 64)
    specs = Short().get_input_specs_provider_params()
    assert (specs.batch_size, specs.row_length) == (8_192, 64)
    # The network is that of the context: an export says so.
    size = Short().declaration().size
    words = {"model_type": "codegen", "dtype": "float32", "tokenizer_class": "CodeGenTokenizer"}
    words |= {"end_of_text_id": 50_256}
    assert hugging_face.config(size, **words)["n_positions"] == 2_048
    assert str(Short().network()) == str(codegen.CodeGen350MNL().network())


def test_rows_of_another_vocabulary_are_refused():
    class Mixed(codegen.CodeGen350MMono):
        DECLARATION = replace(
            find_declaration("CodeGen350MMono"),
            phase=replace(find_declaration("CodeGen350MMono").phase, vocabulary="gpt2"),
        )

    with pytest.raises(ValueError, match=r"codegen_bigpython is tokenised by 'codegen'.*'gpt2'"):
        Mixed().datasets()


def test_a_corpus_of_other_rows_names_both_settings(monkeypatch):
    """To be prepared anew, or to be declared: training and evaluation say the same."""
    task = seqio.TaskRegistry.get("codegen_bigpython")
    manifest = types.SimpleNamespace(row_length=64)
    monkeypatch.setattr(PreparedCorpus, "manifest", lambda self: manifest)
    dataset = tf.data.Dataset.from_tensors({"targets": tf.zeros([64], tf.int32)})
    for read in (
        lambda: row_readers.open_task(task, "train", 2_048),
        lambda: rows.check_length(dataset, {"targets": 2_048}),
    ):
        with pytest.raises(ValueError, match="rows of 64") as error:
            read()
        assert "--row-length 2048" in str(error.value) and "row_length=64" in str(error.value)


class Later(codegen.CodeGenNanoMono):
    DECLARATION = replace(MONO, start="Earlier")


class LaterElsewhere(codegen.CodeGenNanoMono):
    DECLARATION = replace(MONO, start="mine.Earlier")


@pytest.mark.parametrize(
    ("cls", "experiment", "name", "fits"),
    [
        (codegen.CodeGenNanoMono, "CodeGenNanoMulti", "codegen.CodeGenNanoMulti", True),
        (codegen.CodeGenNanoMono, "Earlier", "mine.Earlier", False),
        (NanoA, "CodeGenNanoMulti", "codegen.CodeGenNanoMulti", True),
        (NanoA, "Earlier", "mine.Earlier", False),
        (Later, "Earlier", "mine.Earlier", True),
        (Later, "CodeGenNanoMulti", "codegen.CodeGenNanoMulti", False),
        (LaterElsewhere, "Earlier", "mine.Earlier", True),
        (LaterElsewhere, "Earlier", "other.Earlier", False),
        # An older receipt calls a class of one's own as the experiment of the tables.
        (Later, "CodeGenNanoMulti", "mine.Earlier", True),
        (codegen.CodeGenNanoMono, "CodeGenNanoMulti", "mine.Earlier", True),
    ],
)
def test_a_phase_starts_from_the_experiment_it_declares(cls, experiment, name, fits, tmp_path):
    document = job_receipt.document(codegen.CodeGenNanoMulti(), name, [], "training", [])
    if experiment != name.rpartition(".")[2]:
        del document["declared"]
    lineage.write(tmp_path, document | {"experiment": experiment})
    (tmp_path / "checkpoints" / "checkpoint_00000003").mkdir(parents=True)
    checkpoint = StartCheckpoint(epath.Path(tmp_path), 3)
    if fits:
        start.check_parent(cls().declaration(), checkpoint)
        return
    with pytest.raises(ValueError, match=f"holds {experiment}; expected a job of") as error:
        start.check_parent(cls().declaration(), checkpoint)
    assert f"start={experiment!r}" in str(error.value)


@pytest.mark.parametrize(
    ("name", "step", "start_from", "words"),
    [
        ("CodeGenNanoMono", None, None, "random weights"),
        ("CodeGenNanoMono", None, "scratch", "random weights"),
        ("CodeGenNanoMono", None, "/jobs/multi", "the weights of /jobs/multi"),
        ("CodeGenNanoMono", 1_500, "scratch", "its own step 1,500"),
        ("CodeGenNanoMono", 0, None, "its own step 0"),  # an import
        ("CodeGenNanoNL", None, "/jobs/multi", "random weights"),
    ],
)
def test_a_run_says_which_weights_it_begins_with(name, step, start_from, words, tmp_path):
    if step is not None:
        (tmp_path / "checkpoints" / f"checkpoint_{step:08d}").mkdir(parents=True)
    settings = Settings(start_from=start_from)
    assert training.weights_of(find_declaration(name), tmp_path, settings) == words


@pytest.mark.parametrize(
    ("phase", "message"),
    [
        (Phase("Orphan", start="NL", tokens=1), "no task or mixture is called 'codegen_orphan'"),
        (
            Phase("Orphan", start="NL", tokens=1, mixture="codegen_pil"),
            "mixture: no task or mixture is called 'codegen_pil'; nearest: codegen_pile",
        ),
        (Phase("Lost", start="Multy", tokens=1, languages=("go",)), "nearest: Multi"),
        (Phase("Multi", start="NL", tokens=1), "'Multi' is there already"),
    ],
)
def test_a_phase_that_cannot_be_read_is_not_declared(phase, message):
    with pytest.raises(ValueError) as error:
        declare_phase(phase)
    assert message in str(error.value)


def test_choices_are_those_of_what_they_choose():
    assert [*sizes.Remat] == [policy.value for policy in AutodiffCheckpointType]
    assert [*sizes.Attention] == [*Kind]
    assert [*recipes.Decay] == [*optimizer.DECAYS]
    assert [*recipes.SumDtype] == [*accumulation.DTYPES]
    assert [*phases.Vocabulary] == [*tokenizer.SIZES]
    assert json.dumps([*phases.LossOn]) == '["all", "answer"]'


def test_building_twice_gives_the_same_whatever_environment_and_disk_become(tmp_path, monkeypatch):
    """All that is read is read when the experiment is made."""
    parent = tmp_path / "parent"
    for path in (parent, checkpoints.path(parent, 3)):
        lineage.write(path, small_jobs.make_receipt("CodeGenNanoMulti"))
    (tmp_path / "prompts.txt").write_text("def f():")
    for name, value in {
        "CODEGEN_START_FROM": parent,
        "CODEGEN_PROMPTS": tmp_path / "prompts.txt",
        "CODEGEN_MESH": "1x2x1",
        "CODEGEN_RECIPE": "paper",
        "CODEGEN_EVALUATE": "codegen_nano_nl",
        "CODEGEN_SCHEDULE": "declared",
    }.items():
        monkeypatch.setenv(name, str(value))
    experiment = codegen.CodeGenNanoMono()
    before = snapshot(ExperimentConfig.of("any", experiment))
    assert f"{parent}/checkpoints" in before and "step = 3" in before
    lineage.write(checkpoints.path(parent, 9), small_jobs.make_receipt("CodeGenNanoMulti"))
    (tmp_path / "prompts.txt").unlink()
    for name, text in {
        "CODEGEN_START_FROM": "scratch",
        "CODEGEN_MESH": "1x1x4",
        "CODEGEN_NOTHING": "1",
    }.items():
        monkeypatch.setenv(name, text)
    assert snapshot(ExperimentConfig.of("any", experiment)) == before
    with pytest.raises(KeyError, match="CODEGEN_NOTHING"):
        codegen.CodeGenNanoMono()
    again = codegen.CodeGenNanoMono(dataclasses.replace(experiment.settings, prompts=None))
    assert again.start == StartCheckpoint(epath.Path(parent), 9)
