"""Mixtures: what evaluation and training read of them, and what a receipt says of their data."""

import collections
import hashlib
import json
import platform

import numpy as np
import pytest
import seqio

import tasks  # noqa: F401  registers what is read here
from codegen_pax.data.mixtures import MixtureByTokens, describe_data
from codegen_pax.data.prepare.settings import Settings
from codegen_pax.data.seqio_sources import CorpusMissingError, PreparedCorpus, set_corpora_folder
from codegen_pax.data.stream import inputs
from codegen_pax.data.stream.schedule import BLOCK
from tasks import corpora, definition
from tests.data.prepared_corpora import prepare_corpus, write_corpus

T = 16
PAPER = "codegen_bigquery_paper"
# Of 1,000 rows: 165.27, 213.93, 80.54, 296.98, 81.38 and 161.91 by the paper's tokens.
SHARES = {"c": 165, "cpp": 214, "go": 81, "java": 297, "javascript": 81, "python": 162}
HELD_OUT = {"c": 7, "cpp": 1, "java": 12, "javascript": 2, "python": 30}  # none of Go


@pytest.fixture
def written(tmp_path, monkeypatch):
    """Records of the paper's languages."""
    set_corpora_folder(tmp_path)
    parts = {language: {"train": 40 + share % 7} for language, share in SHARES.items()}
    for language, count in HELD_OUT.items():
        parts[language]["validation"] = count
    return write_corpus(tmp_path / "bigquery", parts)


def evaluation(hosts=1, host=0):
    config = inputs.evaluation_input(PAPER, batch_size=4, row_length=T)
    config.set(num_infeed_hosts=hosts, infeed_host_index=host)
    return config.Instantiate()


def evaluated(made):
    """The rows that are scored in an epoch, in order."""
    actual = []
    while True:
        try:
            batch = made.get_next_padded()
        except StopIteration:
            made.reset()
            return actual
        actual += [row.tobytes() for row in batch.ids[batch.eval_sample_weights > 0]]


def every_row(written):
    return sorted(
        row["tokens"].astype(np.int32).tobytes()
        for language in HELD_OUT
        for row in written[language]["validation"]
    )


@pytest.mark.parametrize("hosts", [1, 2, 3])
def test_an_evaluation_has_every_row_of_every_language_once(hosts, written):
    actual = [row for host in range(hosts) for row in evaluated(evaluation(hosts, host))]
    assert sorted(actual) == every_row(written)


def test_an_evaluation_repeats_itself(written):
    made = evaluation()
    assert evaluated(made) == evaluated(made)


def test_training_has_the_papers_shares_in_every_block(written):
    language_of = {
        row["tokens"].tobytes(): language
        for language in SHARES
        for row in written[language]["train"]
    }
    config = inputs.training_input(PAPER, batch_size=BLOCK, row_length=T, seed=3)
    made = config.Instantiate()
    for _ in range(2):
        ids = made.get_next_padded().ids
        actual = collections.Counter(language_of[row.astype("<u2").tobytes()] for row in ids)
        assert actual == SHARES


def test_arguments_may_be_given_in_seqios_order(written):
    """Of a mixture seqio reads epochs without end, unless it is told how many."""
    rows = seqio.get_mixture_or_task(PAPER).get_dataset(
        {"targets": T}, "validation", False, False, num_epochs=1
    )
    assert len(list(rows.take(1_000))) == len(every_row(written))


def test_a_mixture_without_a_row_is_refused(tmp_path, monkeypatch):
    set_corpora_folder(tmp_path)
    write_corpus(tmp_path / "bigquery", {language: {"train": 3} for language in SHARES})
    with pytest.raises(
        CorpusMissingError, match=f"{PAPER}: none of its 6 tasks has a row in validation"
    ):
        evaluation().get_next_padded()


def test_a_language_without_a_row_to_train_on_is_refused(tmp_path, monkeypatch):
    set_corpora_folder(tmp_path)
    split = {language: "validation" if language == "go" else "train" for language in SHARES}
    write_corpus(tmp_path / "bigquery", {language: {split[language]: 3} for language in SHARES})
    config = inputs.training_input(PAPER, batch_size=4, row_length=T, seed=3)
    with pytest.raises(CorpusMissingError, match="bigquery/go: it has no row in train"):
        config.Instantiate().get_next_padded()


def test_a_language_alone_says_that_it_has_no_row(written):
    with pytest.raises(CorpusMissingError, match="it has no row in validation"):
        seqio.get_mixture_or_task("codegen_bigquery_go").get_dataset(
            {"targets": T}, split="validation"
        )


def test_a_mixture_by_tokens_has_the_rates_of_what_is_prepared(tmp_path, monkeypatch):
    set_corpora_folder(tmp_path)
    parts = {"go": {"train": 30, "validation": 2}, "rust": {"train": 12, "validation": 0}}
    write_corpus(tmp_path / "many", parts, row_length=8)
    registered = [
        definition.rows_task(f"many_{part}", PreparedCorpus("many", part=part, raw="x"))
        for part in parts
    ]
    try:
        mixture = MixtureByTokens("many", [task.name for task in registered])
        assert mixture.rates("train") == {"many_go": 240.0, "many_rust": 96.0}
        assert mixture.rates("validation") == {"many_go": 16.0, "many_rust": 0.0}
        for split, rows in (("train", 42), ("validation", 2)):
            dataset = mixture.get_dataset({"targets": 8}, split=split, shuffle=False, num_epochs=1)
            assert len(list(dataset)) == rows
    finally:
        for task in registered:
            seqio.TaskRegistry.remove(task.name)


FILES = {"python": "py", "go": "go"}


@pytest.fixture
def data(tmp_path, monkeypatch):
    set_corpora_folder(tmp_path)
    return tmp_path


def test_the_data_of_a_corpus_that_was_prepared(data):
    """Three licences, of which one is not allowed; two of six languages."""
    records = [
        {
            "content": "".join(f"line {n} {number} of {language}\n" for n in range(30)),
            "path": f"src/{number}.{ending}",
            "repo_name": "owner/name",
            "license": licence,
        }
        for language, ending in FILES.items()
        for number, licence in enumerate(["mit", "mit", "apache-2.0", "mit", "gpl-3.0"])
    ]
    raw, folder = data / "raw.jsonl", data / "bigquery"
    raw.write_text("".join(json.dumps(record) + "\n" for record in records))
    settings = Settings("bigquery", str(folder), row_length=T, languages=tuple(FILES))
    manifest = prepare_corpus(settings, raw)
    actual = {entry["task"]: entry for entry in describe_data("codegen_bigquery")}
    assert set(actual) == {f"codegen_bigquery_{language}" for language in corpora.LANGUAGES}
    for language in FILES:
        rows = sum(shard.rows for shard in manifest.parts[language]["train"])
        assert actual[f"codegen_bigquery_{language}"] == {
            "task": f"codegen_bigquery_{language}",
            "corpus": "bigquery",
            "part": language,
            "folder": str(folder),
            "manifest_sha256": hashlib.sha256((folder / "manifest.json").read_bytes()).hexdigest(),
            "fingerprint": manifest.fingerprint("train", language),
            "rows": rows,
            "tokens": rows * T,
            "licences": {"MIT": 3, "Apache-2.0": 1},
            "licences_checked": True,
            "vocabulary": "codegen",
        }
    assert actual["codegen_bigquery_python"]["rows"] > 0
    missing = actual["codegen_bigquery_rust"]
    assert set(missing) == {"task", "missing"}
    assert "it has no part 'rust': found" in missing["missing"]


def test_the_licences_of_a_corpus_in_one_part_are_of_all_languages(data):
    write_corpus(data / "pile", {"": {"train": 4, "validation": 1}}, vocabulary="gpt2")
    path = data / "pile" / "manifest.json"
    manifest = json.loads(path.read_text())
    kept = {"in": [9, 9, 0], "kept": [5, 5, 5]}
    manifest["counts"]["documents"] = {
        "prose": {"": kept, "MIT": {"in": [1, 1, 0], "duplicate": [1, 1, 0]}},
        "other": {"": {"in": [2, 2, 0], "kept": [2, 2, 2]}, "ISC": kept | {"kept": [9, 9, 9]}},
    }
    path.write_text(json.dumps(manifest))
    (actual,) = describe_data("codegen_pile")
    assert actual["licences"] == {"ISC": 9, "not looked at": 7} and actual["rows"] == 4


@pytest.mark.parametrize("setting", [None, "nowhere"])
def test_a_missing_corpus_is_described_in_one_line(setting, data, monkeypatch):
    if setting is None:
        set_corpora_folder(None)
    (actual,) = describe_data("codegen_bigpython")
    assert set(actual) == {"task", "missing"}
    assert actual["missing"].startswith("cannot read bigpython: ") and "\n" not in actual["missing"]
    assert "codegen-pax prepare bigpython" in actual["missing"]


def test_the_data_of_installed_text_and_of_any_other_source():
    assert describe_data("codegen_nano_mono") == [
        {
            "task": "codegen_nano_mono",
            "source": "installed",
            "corpus": "standard library",
            "python": platform.python_version(),
        }
    ]
    entries = describe_data("codegen_nano_multi")
    assert len(entries) == 9 and {entry["source"] for entry in entries} == {"installed"}
    assert describe_data("codegen_nano_prompts") == [
        {"task": "codegen_nano_prompts", "source": "tasks.prompts.PromptSource"}
    ]
