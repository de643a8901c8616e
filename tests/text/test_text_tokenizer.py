"""The tokenizer files: what transformers' AutoTokenizer makes of them."""

import json
import random
import shutil
import sysconfig
import warnings
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer
from transformers.utils import logging

from codegen_pax.text import tokenizer
from codegen_pax.text.tokenizer import end_of_text_id, write_tokenizer
from codegen_pax.text.vocabulary import vocabulary

CLASSES = {
    "gpt2": "GPT2Tokenizer",
    "codegen": "CodeGenTokenizer",
    "codegen_2048": "CodeGenTokenizer",
}
CASES = [(name, kind) for name in CLASSES for kind in ("codegen", "gptj")]
BY_CASE = pytest.mark.parametrize("case", CASES, ids="-".join)
STDLIB = Path(sysconfig.get_path("stdlib"))
LONGEST = 512

pieces = st.one_of(
    st.text(st.characters(exclude_categories=["Cs", "Cn"])),
    st.integers(1, 70).map(lambda n: " " * n),
    st.integers(1, 25).map(lambda n: "\t" * n),
    st.text(" \t\n!a<|>'s", max_size=8),
    st.sampled_from(["\n", "\r\n", "\x00", "f(x):", " .", " n't", "<|endoftext|>", "é", "\xa0"]),
)
texts = st.lists(pieces, max_size=10).map("".join)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """{(vocabulary, model type): folder}, as an export makes it."""
    actual = {}
    for name, model_type in CASES:
        folder = actual[name, model_type] = tmp_path_factory.mktemp(f"{name}-{model_type}")
        assert write_tokenizer(folder, name, LONGEST) == CLASSES[name]
        message = {"model_type": model_type, "tokenizer_class": CLASSES[name]}
        (folder / "config.json").write_text(json.dumps(message))
    return actual


@pytest.fixture(scope="module")
def loaded(folders):
    """{(vocabulary, model type): (fast, slow)}."""
    actual = {}
    for case, folder in folders.items():
        pair = [AutoTokenizer.from_pretrained(folder, use_fast=fast) for fast in (True, False)]
        for one in pair:
            one.model_max_length = 10**9  # no warning about long texts
        actual[case] = pair
    return actual


@BY_CASE
def test_classes_and_special_tokens(case, folders, loaded):
    for one, ending in zip(loaded[case], ("Fast", ""), strict=True):
        assert type(one).__name__ == CLASSES[case[0]] + ending
        assert one.is_fast == bool(ending)
        assert len(one) == {"gpt2": 50257, "codegen": 50295, "codegen_2048": 2048}[case[0]]
        assert one.bos_token_id == one.eos_token_id == one.pad_token_id == one.unk_token_id
        assert one.eos_token_id == end_of_text_id(case[0])
        assert one.clean_up_tokenization_spaces is False
        assert one.encode("def f(x):") == vocabulary(case[0]).encode("def f(x):")
    assert AutoTokenizer.from_pretrained(folders[case]).model_max_length == LONGEST


@pytest.mark.parametrize("name", CLASSES)
def test_files_are_always_the_same(name, folders, tmp_path):
    folder = folders[name, "codegen"]
    expected = {"vocab.json", "merges.txt", "tokenizer.json", "tokenizer_config.json"}
    expected |= {"special_tokens_map.json"} | ({"added_tokens.json"} if name != "gpt2" else set())
    assert {path.name for path in folder.iterdir()} == expected | {"config.json"}
    tokenizer.load.cache_clear()
    write_tokenizer(tmp_path, name, LONGEST)
    for file in expected:
        assert (tmp_path / file).read_bytes() == (folder / file).read_bytes()


@pytest.mark.parametrize("name", ["gpt2", "codegen"])
def test_vocabulary_and_merges_are_gpt2s_own(name, folders):
    folder = folders[name, "codegen"]
    encoder, merges = tokenizer.vocabulary_files()
    assert (folder / "vocab.json").read_bytes() == encoder.read_bytes()
    assert (folder / "merges.txt").read_bytes() == merges.read_bytes()


def test_added_tokens_are_the_whitespace_of_the_released_model(folders):
    actual = json.loads((folders["codegen", "codegen"] / "added_tokens.json").read_text())
    spaces = {" " * n: 50257 + 31 - n for n in range(31, 1, -1)}
    assert actual == spaces | {"\t" * n: 50287 + 9 - n for n in range(9, 1, -1)}


@pytest.mark.parametrize("name", CLASSES)
def test_the_standard_library(name, loaded):
    """A sample of it: all ids of the fast one, the first of each file of the slow one."""
    paths = [path for path in sorted(STDLIB.rglob("*.py")) if "site-packages" not in path.parts]
    fast, slow = loaded[name, "codegen"]
    for path in random.Random(0).sample(paths, 60):
        try:
            text = path.read_bytes().decode("utf-8")
        except UnicodeDecodeError:
            continue
        ids = vocabulary(name).encode(text)
        assert fast.encode(text) == ids
        assert fast.decode(ids) == text
        assert slow.encode(text[:3_000]) == vocabulary(name).encode(text[:3_000])


@BY_CASE
@given(text=texts)
@settings(max_examples=150, deadline=None)
def test_any_text(case, text, loaded):
    fast, slow = loaded[case]
    ids = vocabulary(case[0]).encode(text)
    assert fast.encode(text) == ids == slow.encode(text)
    assert fast.decode(ids) == text == slow.decode(ids, spaces_between_special_tokens=False)


@BY_CASE
def test_batches_are_padded_before_the_prompt(case, loaded):
    short, long = vocabulary(case[0]).encode("a"), vocabulary(case[0]).encode("if a:\n        b")
    missing = len(long) - len(short)
    for one in loaded[case]:
        batch = one(["a", "if a:\n        b"], padding=True)
        assert batch["input_ids"] == [[end_of_text_id(case[0])] * missing + short, long]
        assert batch["attention_mask"] == [[0] * missing + [1] * len(short), [1] * len(long)]


@BY_CASE
def test_loads_without_a_warning_and_saves_the_same(case, folders, tmp_path, caplog, monkeypatch):
    """Fast and slow; and what transformers saves, it loads as the same tokenizer."""
    monkeypatch.setattr(logging.get_logger("transformers"), "propagate", True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for fast in (True, False):
            AutoTokenizer.from_pretrained(folders[case], use_fast=fast).save_pretrained(tmp_path)
            again = AutoTokenizer.from_pretrained(tmp_path, use_fast=fast)
            text = "  a\t\t<|endoftext|> \n"
            assert again.encode(text) == vocabulary(case[0]).encode(text)
            shutil.rmtree(tmp_path)
    assert not caplog.records


def test_unknown_vocabulary_is_answered_with_the_nearest(tmp_path):
    with pytest.raises(ValueError, match=r"'codgen'.*nearest: codegen"):
        write_tokenizer(tmp_path, "codgen", LONGEST)
    assert not list(tmp_path.iterdir())
