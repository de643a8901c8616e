"""Mixtures of prepared corpora at fixed rates: what an evaluation and a training read of them."""

import collections

import numpy as np
import pytest
import seqio

import tasks  # noqa: F401  registers what is read here
from codegen_pax.data import prepared
from codegen_pax.data.prepared import set_corpora_folder
from codegen_pax.data.stream import inputs
from codegen_pax.data.stream.schedule import BLOCK
from tests.data.prepared_corpora import write_corpus

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
    found = []
    while True:
        try:
            batch = made.get_next_padded()
        except StopIteration:
            made.reset()
            return found
        found += [row.tobytes() for row in batch.ids[batch.eval_sample_weights > 0]]


def every_row(written):
    return sorted(
        row["tokens"].astype(np.int32).tobytes()
        for language in HELD_OUT
        for row in written[language]["validation"]
    )


@pytest.mark.parametrize("hosts", [1, 2, 3])
def test_an_evaluation_has_every_row_of_every_language_once(hosts, written):
    found = [row for host in range(hosts) for row in evaluated(evaluation(hosts, host))]
    assert sorted(found) == every_row(written)


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
        found = collections.Counter(language_of[row.astype("<u2").tobytes()] for row in ids)
        assert found == SHARES


def test_arguments_may_be_given_in_seqios_order(written):
    """Of a mixture seqio reads epochs without end, unless it is told how many."""
    rows = seqio.get_mixture_or_task(PAPER).get_dataset(
        {"targets": T}, "validation", False, False, num_epochs=1
    )
    assert len(list(rows.take(1_000))) == len(every_row(written))


def test_a_mixture_without_a_row_is_told(tmp_path, monkeypatch):
    set_corpora_folder(tmp_path)
    write_corpus(tmp_path / "bigquery", {language: {"train": 3} for language in SHARES})
    with pytest.raises(
        prepared.CorpusMissingError, match=f"{PAPER}: none of its 6 tasks has a row in validation"
    ):
        evaluation().get_next_padded()


def test_a_language_without_a_row_to_train_on_is_told(tmp_path, monkeypatch):
    set_corpora_folder(tmp_path)
    split = {language: "validation" if language == "go" else "train" for language in SHARES}
    write_corpus(tmp_path / "bigquery", {language: {split[language]: 3} for language in SHARES})
    config = inputs.training_input(PAPER, batch_size=4, row_length=T, seed=3)
    with pytest.raises(prepared.CorpusMissingError, match="bigquery/go: it has no row in train"):
        config.Instantiate().get_next_padded()


def test_a_language_alone_says_that_it_has_no_row(written):
    with pytest.raises(prepared.CorpusMissingError, match="it has no row in validation"):
        seqio.get_mixture_or_task("codegen_bigquery_go").get_dataset(
            {"targets": T}, split="validation"
        )
