"""The names that are registered, what each offers, and that none touches data unasked."""

import subprocess
import sys
from pathlib import Path

import pytest
import seqio

import tasks  # noqa: F401  (registers them)
from codegen_pax.data import installed, seqio_sources
from codegen_pax.data.seqio_sources import set_corpora_folder
from codegen_pax.text.vocabulary import vocabulary
from tasks import corpora, nano, prompt_texts

ROOT = Path(__file__).parents[2]
SIX = ("python", "java", "javascript", "go", "cpp", "rust")
NANO = ("nl", "multi", "multi_python", "mono")

EXPECTED = [
    ("codegen_pile", ["targets"], "gpt2"),
    ("codegen_bigquery", ["targets"], "codegen"),
    ("codegen_bigquery_paper", ["targets"], "codegen"),
    *((f"codegen_bigquery_{name}", ["targets"], "codegen") for name in (*SIX, "c")),
    ("codegen_bigpython", ["targets"], "codegen"),
    ("codegen_instruction", ["answers", "targets"], "codegen"),
    *((f"codegen_nano_{name}", ["targets"], "codegen_2048") for name in NANO),
    ("codegen_nano_instruct", ["inputs", "targets"], "codegen_2048"),
    ("codegen_nano_nl_gpt2", ["targets"], "gpt2"),
    *((f"codegen_nano_{name}_codegen", ["targets"], "codegen") for name in NANO[1:]),
    ("codegen_nano_instruct_codegen", ["inputs", "targets"], "codegen"),
    ("codegen_nano_prompts_2048", ["inputs", "targets"], "codegen_2048"),
    ("codegen_nano_prompts_2048_instruct", ["inputs", "targets"], "codegen_2048"),
    ("codegen_nano_prompts_2048_nl", ["inputs", "targets"], "codegen_2048"),
    ("codegen_nano_prompts", ["inputs", "targets"], "codegen"),
    ("codegen_nano_prompts_instruct", ["inputs", "targets"], "codegen"),
    ("codegen_nano_prompts_nl", ["inputs", "targets"], "gpt2"),
    ("codegen_nano_prompts_nl_instruct", ["inputs", "targets"], "gpt2"),
]


@pytest.mark.parametrize(("name", "features", "vocabulary"), EXPECTED)
def test_registered_with_its_features_and_vocabulary(name, features, vocabulary):
    actual = seqio.get_mixture_or_task(name).output_features
    assert sorted(actual) == features
    words = {feature.vocabulary.name for key, feature in actual.items() if key != "answers"}
    assert words == {vocabulary}


def test_languages_are_mixed_by_their_tokens():
    paper = seqio.MixtureRegistry.get("codegen_bigquery_paper")
    rates = {task.name.rpartition("_")[2]: paper.get_rate(task) for task in paper.tasks}
    assert rates == {
        "c": 19.7,
        "cpp": 25.5,
        "go": 9.6,
        "java": 35.4,
        "javascript": 9.7,
        "python": 19.3,
    }
    assert sum(rates.values()) == pytest.approx(119.2)
    default = seqio.MixtureRegistry.get("codegen_bigquery")
    assert sorted(task.name.rpartition("_")[2] for task in default.tasks) == sorted(SIX)


LARGE = [
    ("codegen_pile", "train", "pile"),
    ("codegen_bigquery", "train", "bigquery/"),
    ("codegen_bigpython", "validation", "bigpython"),
    ("codegen_instruction", "train", "instruction"),
]


@pytest.mark.parametrize(("name", "split", "message"), LARGE)
def test_reading_a_missing_corpus_names_it(name, split, message, monkeypatch):
    set_corpora_folder(None)
    provider = seqio.get_mixture_or_task(name)
    with pytest.raises(seqio_sources.CorpusMissingError, match=rf"cannot read {message}.*"):
        provider.get_dataset({"inputs": 8, "targets": 8}, split=split)


def test_a_new_language_is_one_call_and_the_call_can_be_repeated():
    try:
        created = corpora.language_mixture("codegen_test_solidity", {"solidity": 1.0, "rust": 2})
        assert (
            corpora.language_mixture("codegen_test_solidity", {"rust": 2.0, "solidity": 1.0})
            is created
        )
        assert corpora.language_task("solidity") is corpora.language_task("solidity")
        assert created.get_rate(corpora.language_task("rust")) == 2.0
        with pytest.raises(ValueError, match="codegen_test_solidity is registered as"):
            corpora.language_mixture("codegen_test_solidity", {"solidity": 1.0})
    finally:
        seqio.MixtureRegistry.remove("codegen_test_solidity")
        seqio.TaskRegistry.remove("codegen_bigquery_solidity")


@pytest.fixture
def two_languages():
    """A mixture of C, which this machine has, and Solidity, which Python's packages do not."""
    yield nano.language_mixture("codegen_test_languages", ["c", "solidity"])
    seqio.MixtureRegistry.remove("codegen_test_languages")
    seqio.TaskRegistry.remove("codegen_nano_multi_solidity")


LENGTH = {"targets": 64}


def test_a_mixture_of_absent_languages_names_them(two_languages):
    with pytest.raises(
        installed.TextMissingError,
        match=r"found c; nothing of solidity; expected at least 2 of its 2 languages",
    ):
        two_languages.get_dataset(LENGTH, split="train", num_epochs=1)
    with pytest.raises(installed.TextMissingError, match=r"no text for solidity \(train\)"):
        seqio.TaskRegistry.get("codegen_nano_multi_solidity").get_dataset(LENGTH, split="train")


def test_a_mixture_registered_again_must_be_the_same(two_languages):
    assert nano.language_mixture("codegen_test_languages", ["solidity", "c"]) is two_languages
    with pytest.raises(ValueError, match="codegen_test_languages is registered with"):
        nano.language_mixture("codegen_test_languages", ["c"])


def test_an_unknown_language_is_refused_at_once():
    with pytest.raises(ValueError, match=r"'pyton'.*nearest: python"):
        nano.language_mixture("codegen_test_unknown", ["pyton"])


def test_multi_needs_three_languages():
    multi = seqio.MixtureRegistry.get("codegen_nano_multi")
    assert multi.min_languages == 3
    assert sum(task.source.size("train") > 0 for task in multi.tasks) >= 3


@pytest.fixture
def small_and_absent():
    """The two smallest held-out languages of this machine, and one it does not have."""
    sizes = {
        language: nano.language_task(language).source.size("validation")
        for language in nano.MULTI_LANGUAGES
    }
    small = sorted(filter(sizes.get, sizes), key=sizes.get)[:2]
    yield nano.language_mixture("codegen_test_small", [*small, "solidity"], min_languages=2), small
    seqio.MixtureRegistry.remove("codegen_test_small")
    seqio.TaskRegistry.remove("codegen_nano_multi_solidity")


def test_absent_languages_are_left_out_and_the_others_read_to_their_end(small_and_absent):
    mixture, languages = small_and_absent

    def rows(provider):
        dataset = provider.get_dataset(
            {"targets": 512}, split="validation", shuffle=False, num_epochs=1
        )
        return sum(1 for _ in dataset)

    counts = [rows(nano.language_task(language)) for language in languages]
    assert all(counts)
    assert rows(mixture) == sum(counts)


def test_there_are_eight_prompts():
    dataset = seqio.get_mixture_or_task("codegen_nano_prompts").get_dataset(
        split="validation", shuffle=False
    )
    vocab = vocabulary("codegen")
    actual = [vocab.decode(example["inputs"]) for example in dataset.as_numpy_iterator()]
    assert actual == list(prompt_texts.NANO_PROMPTS)
    assert len(set(actual)) == 8


PROBE = """
import sys
import seqio, tokenizers
from paxml import seqio_input

touched = []

def watch(event, arguments):
    if event in ("os.scandir", "os.walk", "glob.glob"):
        touched.append((event, str(arguments[0])))
    if event == "open":
        path = str(arguments[0])
        read_as_data = path.endswith((".json", ".bpe", ".txt", ".h", ".c", "METADATA"))
        if read_as_data or (path.endswith(".py") and "/lib/python" in path):
            touched.append((event, path))

sys.addaudithook(watch)
import tasks  # noqa: F401  (registers them)
from codegen_pax.data.stream import inputs

for name in ("codegen_pile", "codegen_bigquery", "codegen_bigquery_paper", "codegen_bigpython",
             "codegen_instruction", "codegen_nano_nl", "codegen_nano_multi", "codegen_nano_mono",
             "codegen_nano_instruct"):
    inputs.training_input(name, batch_size=1, row_length=8, seed=0)
    inputs.evaluation_input(name, batch_size=1, row_length=8)
for name in ("codegen_nano_prompts", "codegen_nano_prompts_instruct"):
    inputs.decoding_input(name, batch_size=1, prompt_length=8)
assert not touched, touched
from codegen_pax.text.vocabulary import vocabulary
vocabulary("gpt2").encode("now the files are read")
assert touched
"""


def test_registering_and_building_touch_no_data_and_print_nothing(tmp_path):
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROBE],
        env={
            "PYTHONPATH": str(ROOT),
            "CODEGEN_DATA": str(tmp_path / "absent"),
            "JAX_PLATFORMS": "cpu",
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "HOME": str(tmp_path),
        },
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr[-2000:]
    assert result.stdout == ""
