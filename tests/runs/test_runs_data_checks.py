"""What a run reads is checked before it starts: every task, in both splits, and the prompts."""

import pytest
import seqio
import tensorflow as tf

import tasks  # noqa: F401  (registers what is read)
from codegen_pax.data.seqio_sources import set_corpora_folder
from codegen_pax.errors import UserError
from codegen_pax.runs import data_checks
from tasks.definition import prompt_task, text_task
from tests.data.prepared_corpora import write_corpus

LANGUAGES = ("python", "java", "javascript", "go", "cpp", "rust")


@pytest.fixture
def corpora(tmp_path, monkeypatch):
    set_corpora_folder(tmp_path)
    return tmp_path


def bigquery(corpora, held_out=1, **more):
    """Six languages with 3 rows each to train on."""
    parts = {language: {"train": 3, "validation": held_out} for language in LANGUAGES}
    write_corpus(corpora / "bigquery", parts | more)


def refusal(check, *arguments) -> str:
    with pytest.raises(UserError) as error:
        check(*arguments)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_rows_are_counted_over_all_tasks(corpora):
    bigquery(corpora, held_out=2)
    assert str(data_checks.check_training("codegen_bigquery", 16)) == "codegen_bigquery, 18 rows"
    assert data_checks.check_evaluation("codegen_bigquery_go", 16).rows == {
        "codegen_bigquery_go": 2
    }


def test_a_corpus_that_is_not_there_is_named_with_its_command(corpora):
    message = refusal(data_checks.check_training, "codegen_pile", 16)
    assert f"codegen-pax prepare pile --input ... --output {corpora}/pile" in message


def test_one_language_of_a_mixture_without_rows_is_refused_for_training(corpora):
    bigquery(corpora, rust={"train": 0, "validation": 0})
    message = refusal(data_checks.check_training, "codegen_bigquery", 16)
    assert "codegen_bigquery_rust has not one row" in message and "prepare bigquery" in message


def test_rows_of_another_length_are_refused(corpora):
    bigquery(corpora)
    message = refusal(data_checks.check_training, "codegen_bigquery", 2048)
    assert "rows of 16 tokens; expected 2048" in message and "--row-length 2048" in message


@pytest.mark.parametrize("damage", ["missing", "short"])
def test_a_shard_that_is_not_as_it_was_written_is_found_before_it_is_read(damage, corpora):
    bigquery(corpora)
    shard = corpora / "bigquery" / "go" / "train-00001-of-00002.tfrecord"
    if damage == "missing":
        shard.unlink()
    else:
        shard.write_bytes(shard.read_bytes()[:-1])
    message = refusal(data_checks.check_training, "codegen_bigquery", 16)
    assert str(shard) in message and ("is missing" if damage == "missing" else "bytes") in message
    data_checks.check_evaluation("codegen_bigquery", 16)  # whose shards are complete


def test_an_evaluation_on_nothing_is_refused_with_the_command(corpora):
    bigquery(corpora, held_out=0)
    for mixture in ("codegen_bigquery", "codegen_bigquery_rust"):
        message = refusal(data_checks.check_evaluation, mixture, 16)
        assert f"{mixture} has no row to evaluate on" in message
        command = "prepare bigquery --input ... --validation 0.01 --row-length 16 --output"
        folder = corpora / "bigquery"
        assert f"{command} {folder} (once {folder} is moved away); or train" in message
        assert "or train without --eval_on_test" in message
    data_checks.check_training("codegen_bigquery", 16)  # which needs none


def test_a_language_without_held_out_rows_is_not_silent(corpora):
    bigquery(corpora, rust={"train": 3, "validation": 0})
    available = data_checks.check_evaluation("codegen_bigquery", 16)
    assert available.empty == ("codegen_bigquery_rust",) and len(available.rows) == 5


def texts(name: str, **splits: list[str]) -> str:
    """Registers a task of a person's own over a few texts."""

    def read(split, shuffle_files, seed=None):
        return tf.data.Dataset.from_tensor_slices(
            {"targets": tf.constant(splits[split], tf.string)}
        )

    text_task(name, seqio.FunctionDataSource(read, splits=list(splits)), "codegen")
    return name


def test_tasks_of_ones_own_are_looked_into():
    long, short = "def f(x):\n    return x\n" * 20, "x"
    name = texts("own_texts", train=[long], validation=[short])
    assert data_checks.check_training(name, 16).uncounted == (name,)
    message = refusal(data_checks.check_evaluation, name, 16)  # its texts do not fill a row
    assert message == f"{name} has no row to evaluate on; or train without --eval_on_test"
    message = refusal(data_checks.check_evaluation, texts("own_training_texts", train=[long]), 16)
    assert "no split 'validation'; it has train" in message


def test_prompts_are_read():
    assert data_checks.check_prompts("codegen_nano_prompts_instruct", 64) == 8
    message = refusal(data_checks.check_prompts, "codegen_nano_prompts", 4)
    assert "expected at most 4" in message


def test_no_prompt_is_no_decoding():
    empty = tf.constant([], tf.string)

    def read(split, shuffle_files, seed=None):
        return tf.data.Dataset.from_tensor_slices({"inputs": empty, "targets": empty})

    prompt_task("no_prompts", seqio.FunctionDataSource(read, splits=["validation"]), "codegen")
    assert "has no prompt" in refusal(data_checks.check_prompts, "no_prompts", 64)
