"""Pax inputs over the tasks: batches of training, evaluation and decoding, and resume."""

import numpy as np
import pytest
import seqio
import tensorflow as tf

import tasks  # noqa: F401  registers what is read here
from codegen_pax.data import installed, seqio_sources
from codegen_pax.data.seqio_sources import set_corpora_folder
from codegen_pax.data.stream import inputs
from codegen_pax.data.stream.batches import FIELD_DTYPES
from codegen_pax.data.stream.schedule import BLOCK, Schedule
from codegen_pax.text.vocabulary import vocabulary
from tasks import definition, prompt_texts

T = 32
WORDS = [f"w{n}\n!\n" * (n % 9 + 1) for n in range(40)]


@pytest.fixture(scope="module", autouse=True)
def small_tasks(tmp_path_factory):
    """`small_text`, `small_pairs`: forty files, a quarter of them held out; `small_mix` of text."""
    folder = tmp_path_factory.mktemp("small")
    files = []
    for n, text in enumerate(WORDS):
        path = folder / f"{n:02}.py"
        path.write_text(text)
        split = "validation" if n % 4 == 0 else "train"
        files.append(installed.InstalledFile(path.name, path, split, len(text)))
    source = seqio_sources.InstalledText("small", lambda: files, installed.text_document)
    for name in ("small_text", "small_more"):
        definition.text_task(name, source, "codegen")
    seqio.MixtureRegistry.add("small_mix", [("small_text", 3.0), ("small_more", 1.0)])
    pairs = seqio_sources.InstalledText(
        "pairs",
        lambda: files,
        lambda path: [(f"say {path.stem}", path.read_text())],
        fields=("inputs", "targets"),
    )
    definition.pair_task("small_pairs", pairs, "codegen")
    yield
    seqio.MixtureRegistry.remove("small_mix")
    for name in ("small_text", "small_more", "small_pairs"):
        seqio.TaskRegistry.remove(name)


def all_batches(config):
    return list(epoch(config.Instantiate()))


def epoch(created):
    """Every batch of an input that ends."""
    while True:
        try:
            yield created.get_next_padded()
        except StopIteration:
            return


def stream(split):
    """The documents of a split as one list of ids, worked out without seqio."""
    held_out = split == "validation"
    vocab = vocabulary("codegen")
    texts = [text for n, text in enumerate(WORDS) if (n % 4 == 0) == held_out]
    return [i for text in texts for i in [*vocab.encode(text), 50256]]


def test_training_batches_have_the_fields_of_the_contract():
    config = inputs.training_input("small_text", batch_size=4, row_length=T, seed=1)
    batch = config.Instantiate().get_next_padded()
    for name, dtype in FIELD_DTYPES.items():
        assert batch[name].shape == (4, T), name
        assert batch[name].dtype == dtype, name
    np.testing.assert_array_equal(batch.labels[:, :-1], batch.ids[:, 1:])
    np.testing.assert_array_equal(batch.weights, [[1.0] * (T - 1) + [0.0]] * 4)
    assert not batch.paddings.any()
    assert (batch.ids == 0).any()  # `!` is text: its weight is 1 above and its padding 0


@pytest.mark.parametrize(
    ("name", "length", "packing"),
    [("small_text", 5, False), ("small_text", T, True), ("small_pairs", 40, False)],
)
def test_training_reads_the_rows_of_an_evaluation_once_an_epoch(name, length, packing):
    evaluation = inputs.evaluation_input(
        name, batch_size=1, row_length=length, split="train", packing=packing
    )
    rows = all_batches(evaluation)
    size = {name: len(rows)}
    order = Schedule(size, {name: BLOCK}, size, 1).rows(np.arange(2 * len(rows)))[1]
    assert [sorted(half) for half in np.split(order, 2)] == [list(range(len(rows)))] * 2
    config = inputs.training_input(
        name, batch_size=2 * len(rows), row_length=length, seed=1, packing=packing
    )
    batch = config.Instantiate().get_next_padded()
    for field in FIELD_DTYPES:
        expected = np.concatenate([rows[row][field] for row in order])
        np.testing.assert_array_equal(batch[field], expected, err_msg=field)


def test_training_depends_on_the_seed_alone():
    def first(seed):
        config = inputs.training_input("small_text", batch_size=4, row_length=T, seed=seed)
        return config.Instantiate().get_next_padded().ids

    np.testing.assert_array_equal(first(1), first(1))
    assert (first(1) != first(2)).any()


@pytest.mark.parametrize("batch_size", [1, 4, 7])
def test_evaluation_scores_every_row_once(batch_size):
    config = inputs.evaluation_input("small_text", batch_size=batch_size, row_length=T)
    batches = all_batches(config)
    rows = np.concatenate([batch.ids[batch.eval_sample_weights > 0] for batch in batches])
    expected = stream("validation")
    assert rows.ravel().tolist() == expected[: len(expected) // T * T]
    weights = np.concatenate([batch.weights for batch in batches])
    assert weights.sum() == (len(expected) // T) * (T - 1)
    for batch in batches:
        filler = batch.eval_sample_weights == 0
        assert batch.ids.shape == (batch_size, T)
        assert not batch.weights[filler].any()
        assert batch.paddings[filler].all()


def test_evaluation_repeats_itself_after_reset():
    created = inputs.evaluation_input("small_text", batch_size=4, row_length=T).Instantiate()
    first = [batch.ids for batch in epoch(created)]
    created.reset()
    np.testing.assert_array_equal(first, [batch.ids for batch in epoch(created)])


@pytest.mark.parametrize(("name", "length"), [("small_text", 5), ("small_pairs", 40)])
def test_hosts_together_evaluate_the_rows_of_one(name, length):
    def batches(hosts, host):
        config = inputs.evaluation_input(name, batch_size=12 // hosts, row_length=length)
        config.set(num_infeed_hosts=hosts, infeed_host_index=host)
        return all_batches(config)

    alone, hosts = batches(1, 0), [batches(3, host) for host in range(3)]
    assert {len(actual) for actual in hosts} == {len(alone)}
    for whole, *parts in zip(alone, *hosts, strict=True):
        for field, values in whole.items():
            together = np.concatenate([part[field] for part in parts])
            np.testing.assert_array_equal(together, values, err_msg=field)


def test_metrics_of_scores_are_refused():
    def accuracy(targets, scores):
        return {}

    task = seqio.TaskRegistry.get("small_text")
    try:
        seqio.TaskRegistry.add_provider(
            "small_scored", task.replace(name="small_scored", metric_fns=[accuracy])
        )
        with pytest.raises(ValueError, match=r"small_scored has metrics of its scores \(accuracy"):
            inputs.evaluation_input("small_scored", batch_size=1, row_length=8)
    finally:
        seqio.TaskRegistry.remove("small_scored")


def test_hosts_train_on_different_rows():
    def batch(hosts, host):
        config = inputs.training_input("small_text", batch_size=12 // hosts, row_length=T, seed=1)
        config.set(num_infeed_hosts=hosts, infeed_host_index=host)
        return config.Instantiate().get_next_padded()

    parts = [batch(3, host) for host in range(3)]
    for field, values in batch(1, 0).items():
        np.testing.assert_array_equal(np.concatenate([part[field] for part in parts]), values)
    assert (parts[0].ids != parts[1].ids).any()


def test_pairs_are_scored_on_the_answer():
    config = inputs.evaluation_input("small_pairs", batch_size=1, row_length=200)
    vocab = vocabulary("codegen")
    for batch, n in zip(all_batches(config), range(0, 40, 4), strict=True):
        answer = [*vocab.encode(WORDS[n]), 50256]
        assert batch.labels[batch.weights > 0].tolist() == answer
        size = len(vocab.encode(f"say {n:02}")) + len(answer)
        assert batch.paddings.sum() == 200 - size
        assert batch.ids[0, :size].tolist() == [*vocab.encode(f"say {n:02}"), *answer]


def test_packing_keeps_the_ids_and_separates_the_documents():
    apart, together = (
        all_batches(
            inputs.evaluation_input("small_text", batch_size=1, row_length=T, packing=packing)
        )
        for packing in (True, False)
    )
    for one, other in zip(apart, together, strict=True):
        np.testing.assert_array_equal(one.ids, other.ids)
        ends = one.ids[0, :-1] == 50256
        np.testing.assert_array_equal(np.diff(one.segment_ids[0]), ends.astype(np.int32))
        assert (one.segment_pos[0, 1:][ends] == 0).all()
    assert any(batch.segment_ids.max() > 1 for batch in apart)


def test_decoding_reads_the_eight_prompts_in_order():
    config = inputs.decoding_input("codegen_nano_prompts", batch_size=3, prompt_length=40)
    created = config.Instantiate()
    batches = [created.get_next_padded() for _ in range(3)]
    vocab = vocabulary("codegen")
    texts = []
    for batch in batches:
        assert {name: batch[name].dtype for name in FIELD_DTYPES} == FIELD_DTYPES
        assert batch.prefix_lengths.dtype == np.int32
        np.testing.assert_array_equal(batch.prefix_lengths, (1 - batch.paddings).sum(axis=1))
        real = batch.eval_sample_weights > 0
        texts += created.ids_to_strings(batch.ids[real], batch.prefix_lengths[real])
        assert (batch.prefix_lengths[~real] > 0).all()  # fillers are prompts, and can be decoded
    assert texts == list(prompt_texts.NANO_PROMPTS)
    longest = max(len(vocab.encode(text)) for text in prompt_texts.NANO_PROMPTS)
    assert max(int(batch.prefix_lengths.max()) for batch in batches) == longest


def test_a_prompt_that_does_not_fit_is_an_error():
    config = inputs.decoding_input("codegen_nano_prompts", batch_size=8, prompt_length=10)
    with pytest.raises(tf.errors.InvalidArgumentError):
        config.Instantiate().get_next_padded()


@pytest.mark.parametrize("name", ["small_text", "small_pairs", "small_mix"])
def test_resume_gives_the_same_next_batches(name, tmp_path):
    def make():
        config = inputs.training_input(name, batch_size=2, row_length=64, seed=5)
        config.input_checkpointing_enabled = True
        return config.Instantiate()

    running = make()
    running.peek_padded()  # as the trainer does to learn the shapes
    for _ in range(5):
        running.get_next_padded()
    running.save(tmp_path / "input")
    expected = [running.get_next_padded() for _ in range(20)]

    resumed = make()
    resumed.peek_padded()
    resumed.restore(tmp_path / "input")
    for batch in expected:
        again = resumed.get_next_padded()
        for field in FIELD_DTYPES:
            np.testing.assert_array_equal(again[field], batch[field])


def test_unknown_names_are_answered_with_near_ones():
    with pytest.raises(ValueError, match=r"'codegen_nano_momo'.*nearest: codegen_nano_mono"):
        inputs.training_input("codegen_nano_momo", batch_size=1, row_length=8, seed=0)


def test_what_does_not_fit_the_task_is_refused():
    with pytest.raises(ValueError, match=r"small_text has no prompts.*expected inputs"):
        inputs.decoding_input("small_text", batch_size=1, prompt_length=8)
    message = r"small_pairs has one example a row \(features: inputs, targets\).*expected False"
    with pytest.raises(ValueError, match=message):
        inputs.evaluation_input("small_pairs", batch_size=1, row_length=8, packing=True)
    with pytest.raises(ValueError, match=message):
        inputs.training_input("small_pairs", batch_size=1, row_length=8, seed=0, packing=True)


def test_a_missing_corpus_is_named_when_it_is_first_read(monkeypatch):
    set_corpora_folder(None)
    message = (
        r"cannot read bigquery/.*CODEGEN_DATA is not set; prepare it from .*codegen-pax prepare"
    )
    training = inputs.training_input("codegen_bigquery", batch_size=1, row_length=8, seed=0)
    created = training.Instantiate()
    with pytest.raises(seqio_sources.CorpusMissingError, match=message):
        created.get_next_padded()
    evaluation = inputs.evaluation_input("codegen_bigquery", batch_size=1, row_length=8)
    created = evaluation.Instantiate()
    with pytest.raises(seqio_sources.CorpusMissingError, match=message):
        created.get_next_padded()
