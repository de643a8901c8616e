"""Rows of tasks, against what was written and against seqio's reading of the same."""

import numpy as np
import pytest
import seqio
import tensorflow as tf
from etils import epath

from codegen_pax.data.format import manifest
from codegen_pax.data.format.tfrecords import RowFormat
from codegen_pax.data.seqio_sources import CorpusMissingError, PreparedCorpus, set_corpora_folder
from codegen_pax.data.stream import row_readers, rows_in_memory
from codegen_pax.text.vocabulary import vocabulary
from tasks import definition
from tests.data.prepared_corpora import write_corpus
from tests.data.written_rows import ANSWERS, TEXT, T, open_corpus, write_rows

END = 50256


@pytest.fixture
def written(tmp_path):
    """Records of `TEXT` and `ANSWERS`."""
    return write_rows(tmp_path)


@pytest.fixture
def register():
    """Registers a task for the time of a test."""
    names = []

    def add(function, name, *arguments, **kwargs):
        names.append(name)
        return function(name, *arguments, **kwargs)

    yield add
    for name in names:
        seqio.TaskRegistry.remove(name)


@pytest.mark.parametrize("source", [TEXT, ANSWERS], ids=["text", "conversations"])
def test_rows_are_what_was_written_in_any_order(source, written):
    rows, records = open_corpus(source), written[source]
    assert rows.num_rows == len(records)
    order = np.random.default_rng(0).integers(0, rows.num_rows, 100)
    for numbers in (np.arange(rows.num_rows), order, order[:1]):
        ids, lengths, is_predicted = rows.take(numbers)
        assert (ids.dtype, lengths.dtype) == (np.int32, np.int64)
        np.testing.assert_array_equal(ids, records["tokens"][numbers])
        if source is TEXT:
            assert is_predicted is None
            assert lengths.tolist() == [T] * len(numbers)
        else:
            assert is_predicted.dtype == bool
            np.testing.assert_array_equal(is_predicted, records["answer"][numbers] == 1)
            np.testing.assert_array_equal(lengths, records["length"][numbers])


def test_text_is_the_same_through_seqio(written, register):
    task = register(definition.rows_task, "test_rows_text", TEXT)
    dataset = task.get_dataset({"targets": T}, split="train", shuffle=False)
    expected = [example["targets"] for example in dataset.as_numpy_iterator()]
    rows = row_readers.open_task(task, "train", T)
    assert isinstance(rows, row_readers.PreparedRows)
    np.testing.assert_array_equal(rows.take(np.arange(rows.num_rows))[0], expected)


def test_conversations_are_the_same_through_seqio(written, register):
    task = register(definition.conversation_task, "test_rows_talks", ANSWERS)
    dataset = task.get_dataset({"targets": T, "answers": T}, split="train", shuffle=False)
    rows = row_readers.open_task(task, "train", T)
    ids, lengths, is_predicted = rows.take(np.arange(rows.num_rows))
    for number, example in enumerate(dataset.as_numpy_iterator()):
        np.testing.assert_array_equal(ids[number, : lengths[number]], example["targets"])
        np.testing.assert_array_equal(is_predicted[number], example["answers"])
    assert number == rows.num_rows - 1


def shard_of(source, number):
    return epath.Path(source.list_shards("train")[number])


@pytest.mark.parametrize("place", [12, 40, -5, -1])
def test_a_flipped_byte_is_found_and_its_row_named(place, written):
    shard = shard_of(TEXT, 1)  # rows 8 to 15
    content, size = bytearray(shard.read_bytes()), RowFormat(T).record_bytes
    row = bytearray(content[2 * size : 3 * size])
    row[place] ^= 4
    shard.write_bytes(bytes(content[: 2 * size] + row + content[3 * size :]))
    rows = open_corpus(TEXT)
    others = np.delete(np.arange(23), 10)
    np.testing.assert_array_equal(rows.take(others)[0], written[TEXT]["tokens"][others])
    with pytest.raises(
        manifest.DamagedShardError,
        match=rf"row 2 of {shard} is damaged.*prepare the corpus again",
    ):
        rows.take(np.array([0, 10, 20]))


@pytest.mark.parametrize("extra_bytes", [-1, -1000, 1])
def test_a_shard_of_another_size_is_named(extra_bytes, written):
    shard = shard_of(TEXT, 2)
    expected = 7 * RowFormat(T).record_bytes
    size = max(0, expected + extra_bytes)
    shard.write_bytes((shard.read_bytes() + b"x")[:size])
    message = f"{shard} is damaged: found {size:,} bytes, expected {expected:,}"
    with pytest.raises(manifest.DamagedShardError, match=message):
        open_corpus(TEXT).take(np.array([22]))
    open_corpus(TEXT).take(np.array([0, 15]))  # the other shards can be read


def test_a_shard_that_is_gone_is_named(written):
    shard = shard_of(TEXT, 0)
    shard.unlink()
    with pytest.raises(FileNotFoundError, match=str(shard)):
        open_corpus(TEXT).take(np.array([0]))


def test_rows_of_another_length_are_refused(written):
    with pytest.raises(
        ValueError,
        match=r"small/go was prepared with rows of 16 tokens; expected 8.*--row-length 8",
    ):
        open_corpus(TEXT, 8)


WORDS = [f"w{n}\n!\n" * (n % 5 + 1) for n in range(12)]


def texts(*columns):
    """A source of documents: of `targets`, or of `inputs` and `targets`."""
    names = ("inputs", "targets")[-len(columns) :]

    def read(split, shuffle_files, seed=None):
        columns_ = dict(zip(names, map(list, columns), strict=True))
        return tf.data.Dataset.from_tensor_slices(columns_)

    return seqio.FunctionDataSource(read, splits=["train"])


@pytest.mark.parametrize("batch_rows", [1, 3, 1_024])
def test_text_in_memory_is_the_documents_cut_into_rows(register, monkeypatch, batch_rows):
    monkeypatch.setattr(rows_in_memory, "BATCH_ROWS", batch_rows)
    task = register(definition.text_task, "test_rows_text", texts(WORDS), "codegen")
    rows = row_readers.open_task(task, "train", T)
    assert isinstance(rows, rows_in_memory.RowsInMemory)
    stream = [i for text in WORDS for i in [*vocabulary("codegen").encode(text), END]]
    expected = np.array(stream[: len(stream) // T * T]).reshape(-1, T)
    assert rows.num_rows == len(expected)
    for numbers in (np.arange(rows.num_rows), np.array([3, 0, 3])):
        ids, lengths, is_predicted = rows.take(numbers)
        np.testing.assert_array_equal(ids, expected[numbers])
        assert lengths.tolist() == [T] * len(numbers) and is_predicted is None
        assert ids.dtype == np.int32
    dataset = task.get_dataset({"targets": T}, split="train", shuffle=False)
    np.testing.assert_array_equal(expected, [row["targets"] for row in dataset.as_numpy_iterator()])


@pytest.mark.parametrize("batch_rows", [1, 3, 1_024])
def test_pairs_in_memory_are_the_prompt_and_its_answer(register, monkeypatch, batch_rows):
    monkeypatch.setattr(rows_in_memory, "BATCH_ROWS", batch_rows)
    prompts = [f"say {n}" * (n % 2) for n in range(len(WORDS))]  # every other one is empty
    task = register(definition.pair_task, "test_rows_pairs", texts(prompts, WORDS), "codegen")
    encode = vocabulary("codegen").encode
    pairs = [(encode(a), [*encode(b), END]) for a, b in zip(prompts, WORDS, strict=True)]
    pairs = [(a, b) for a, b in pairs if len(a) + len(b) <= T]
    assert 3 < len(pairs) < len(WORDS)
    rows = row_readers.open_task(task, "train", T)
    ids, lengths, is_predicted = rows.take(np.arange(rows.num_rows))
    assert rows.num_rows == len(pairs)
    for number, (prompt, answer) in enumerate(pairs):
        size = len(prompt) + len(answer)
        assert ids[number].tolist() == [*prompt, *answer] + [0] * (T - size)
        assert lengths[number] == size
        actual = is_predicted[number, :size].tolist()
        assert actual == [False] * len(prompt) + [True] * len(answer)


def test_a_fingerprint_is_of_the_rows_alone(written, tmp_path, monkeypatch):
    def text(words, length=T):
        task = definition.text_task("test_rows_print", texts(words), "codegen")
        seqio.TaskRegistry.remove(task.name)
        return row_readers.open_task(task, "train", length).fingerprint

    def pairs(prompt, answer):
        task = definition.pair_task("test_rows_print", texts([prompt], [answer]), "codegen")
        seqio.TaskRegistry.remove(task.name)
        return row_readers.open_task(task, "train", T).fingerprint

    assert text(WORDS) == text(WORDS)
    other = [WORDS[1], WORDS[0], *WORDS[2:]]
    fingerprints = [
        text(WORDS),
        text(other),
        text(WORDS, 8),
        pairs("a b", " c"),
        pairs("a", " b c"),
    ]
    assert len(set(fingerprints)) == len(fingerprints)

    before = open_corpus(TEXT).fingerprint
    assert before == open_corpus(TEXT).fingerprint
    assert row_readers.PreparedRows(TEXT, "validation", T).fingerprint != before
    for folder, seed in (("same", 0), ("other", 7)):
        parts = {"go": {"train": 23, "validation": 4}}
        write_corpus(tmp_path / folder / "small", parts, shards=3, seed=seed)
    set_corpora_folder(tmp_path / "same")
    assert open_corpus(TEXT).fingerprint == before
    set_corpora_folder(tmp_path / "other")
    assert open_corpus(TEXT).fingerprint != before


def test_what_memory_cannot_hold_is_refused(register, monkeypatch):
    task = register(definition.text_task, "test_rows_text", texts(WORDS * 30), "codegen")
    rows = row_readers.open_task(task, "train", T)
    monkeypatch.setattr(
        rows_in_memory, "MAX_BYTES_IN_MEMORY", 4 * T * rows.num_rows
    )  # ids of 4 bytes
    assert row_readers.open_task(task, "train", T).num_rows == rows.num_rows
    monkeypatch.setattr(rows_in_memory, "MAX_BYTES_IN_MEMORY", 4 * T * rows.num_rows - 1)
    with pytest.raises(ValueError, match=r"test_rows_text \(train\) has more than .*MiB.*prepare"):
        row_readers.open_task(task, "train", T)


def test_a_task_without_a_row_is_refused(register):
    task = register(definition.text_task, "test_rows_text", texts(["short"]), "codegen")
    with pytest.raises(ValueError, match=r"test_rows_text \(train\) has not one row of 16 tokens"):
        row_readers.open_task(task, "train", T)


def test_an_answer_that_would_be_cut_is_refused(register):
    source = texts(["w " * 10], ["w " * 10])
    task = register(definition.prompt_task, "test_rows_long", source, "codegen")
    size = 2 * len(vocabulary("codegen").encode("w " * 10))
    with pytest.raises(ValueError, match=f"a row of {size} tokens; expected at most 16"):
        row_readers.open_task(task, "train", T)


FEATURES = ("targets", "answers", "inputs")


def task_over(register, source, *steps, names=("targets",), **kwargs):
    """A task of somebody's own, with preprocessors of their own."""
    return register(
        seqio.TaskRegistry.add,
        "test_rows_own",
        source=source,
        preprocessors=list(steps),
        output_features=dict.fromkeys(
            names, seqio.Feature(vocabulary("codegen"), add_eos=False, **kwargs)
        ),
    )


def test_features_that_are_not_understood_are_refused(register):
    task = task_over(register, texts(WORDS), names=FEATURES)
    message = r"test_rows_own has the features answers, inputs, targets; expected"
    with pytest.raises(ValueError, match=message):
        row_readers.open_task(task, "train", T)


@seqio.map_over_dataset
def reversed_rows(example):
    return {name: values[::-1] for name, values in example.items()}


def first_halves(dataset):
    """Other rows, and fewer: what no reader of single rows could do."""
    return dataset.take(5).map(lambda example: {"targets": example["targets"][: T // 2]})


@seqio.map_over_dataset(num_seeds=1)
def noisy(example, seed):
    return example | {"targets": tf.random.stateless_uniform([T], seed, 0, 100, tf.int32)}


def noisy_without_seeds(dataset):
    return dataset.map(lambda example: {"targets": tf.random.uniform([T], 0, 100, tf.int32)})


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (reversed_rows, lambda rows: rows[:, ::-1]),
        (first_halves, lambda rows: rows[:5, : T // 2]),
    ],
)
def test_what_a_task_does_to_its_rows_is_done(step, expected, written, register):
    task = task_over(register, TEXT, seqio.CacheDatasetPlaceholder(), step)
    rows = row_readers.open_task(task, "train", T)
    expected = expected(written[TEXT]["tokens"])
    ids, lengths, _ = rows.take(np.arange(rows.num_rows))
    np.testing.assert_array_equal(ids[:, : expected.shape[1]], expected)
    assert lengths.tolist() == [expected.shape[1]] * len(expected)


def test_what_is_done_to_conversations_is_done_to_their_answers(written, register):
    task = task_over(register, ANSWERS, reversed_rows, names=FEATURES[:2])
    rows = row_readers.open_task(task, "train", T)
    ids, lengths, is_predicted = rows.take(np.arange(rows.num_rows))
    for number, record in enumerate(written[ANSWERS]):
        size = record["length"]
        assert lengths[number] == size
        assert ids[number, :size].tolist() == record["tokens"][:size][::-1].tolist()
        # `answer` has one for each token of the row, padding included.
        assert is_predicted[number, :size].tolist() == (record["answer"][::-1][:size] == 1).tolist()


def test_randomness_with_seeds_is_the_same_when_it_is_read_again(written, register):
    task = task_over(register, TEXT, noisy)
    one, other = (row_readers.open_task(task, "train", T) for _ in range(2))
    assert one.fingerprint == other.fingerprint
    ids = one.take(np.arange(one.num_rows))[0]
    assert ids.max() < 100 and len(np.unique(ids, axis=0)) == one.num_rows


def test_randomness_without_seeds_is_refused_by_name(written, register):
    task = task_over(register, TEXT, noisy_without_seeds)
    with pytest.raises(ValueError, match="noisy_without_seeds makes other rows each time"):
        row_readers.open_task(task, "train", T)


def test_more_than_memory_holds_names_the_preprocessor(written, register, monkeypatch):
    monkeypatch.setattr(rows_in_memory, "MAX_BYTES_IN_MEMORY", 4 * T)
    task = task_over(register, TEXT, reversed_rows)
    with pytest.raises(
        ValueError, match=r"because reversed_rows is applied to a prepared corpus: apply it before"
    ):
        row_readers.open_task(task, "train", T)


@pytest.mark.parametrize(
    ("steps", "kwargs", "message"),
    [
        ([], {"dtype": tf.int64}, r"test_rows_own \(train\): .*incorrect type"),
        (
            [seqio.CacheDatasetPlaceholder(required=True)],
            {},
            "test_rows_own can only be read from seqio's cache, and no folder",
        ),
    ],
)
def test_a_task_that_seqio_refuses_is_refused(steps, kwargs, message, written, register):
    with pytest.raises(ValueError, match=message):
        row_readers.open_task(task_over(register, TEXT, *steps, **kwargs), "train", T)


def test_only_what_leaves_rows_alone_is_read_where_it_lies(written, register):
    task = task_over(register, TEXT, seqio.CacheDatasetPlaceholder())
    assert isinstance(row_readers.open_task(task, "train", T), row_readers.PreparedRows)


def test_every_corpus_is_checked_against_its_task(written):
    wrong = PreparedCorpus("talks", raw="a test's rows")
    with pytest.raises(CorpusMissingError, match="it holds conversations"):
        open_corpus(wrong)
