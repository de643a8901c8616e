"""The model card: read back by Hugging Face's own reader and by a Markdown parser."""

import unicodedata

import pytest
from huggingface_hub import ModelCard
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from codegen_pax.weights.model_card import card

HASHES = [f"{n}{'0123456789abcdef' * 4}"[:64] for n in range(6)]
SIZES = ["1,000", "2,048,000"]  # rows and tokens of what is prepared below
FACTS = {"sha256": HASHES[5], "step": 300, "dtype": "bfloat16", "num_parameters": 356_712_448}


def training(name, parents, data):
    return {
        "format": 1,
        "kind": "training",
        "experiment": name,
        "class": f"experiments.{name}",
        "recipe": "jaxformer",
        "mixture": "bigpython",
        "steps": 1000,
        "batch_tokens": 524_288,
        "data": data,
        "parents": parents,
        "versions": {},
    }


def pax(name, step, digest, lineage):
    return {
        "kind": "pax",
        "experiment": name,
        "job": "/mnt/secret/jobs/one",
        "step": step,
        "sha256": digest,
        "lineage": lineage,
    }


def prepared(corpus, part, digest, licences):
    return {
        "task": f"{corpus}.{part}",
        "corpus": corpus,
        "part": part,
        "folder": f"/mnt/secret/{corpus}",
        "manifest_sha256": digest,
        "fingerprint": digest,
        "rows": 1_000,
        "tokens": 2_048_000,
        "licences": licences,
        "vocabulary": "codegen",
    }


FILES = [{"name": f"model-{n}.safetensors", "bytes": 9, "sha256": HASHES[n]} for n in (3, 4)]
IMPORTED = {
    **training("CodeGen350MNL", [], []),
    "kind": "import",
    "parents": [
        {
            "kind": "hugging face",
            "directory": "/mnt/secret/codegen-350M-nl",
            "files": FILES,
            "lineage": None,
        }
    ],
}
MULTI = training(
    "CodeGen350MMulti",
    [pax("CodeGen350MNL", 0, HASHES[2], IMPORTED)],
    [
        prepared("bigquery", "java", HASHES[5], {"MIT": 1_200, "none": 3}),
        {"task": "bigquery.go", "missing": "there is no folder /mnt/secret/bigquery"},
    ],
)
MONO = training(
    "CodeGen350MMono",
    [pax("CodeGen350MMulti", 150_000, HASHES[1], MULTI)],
    [
        prepared("bigpython", "", HASHES[0], {}),
        {"task": "english", "source": "installed", "corpus": "python", "python": "3.11.9"},
        {"task": "mine", "source": "seqio.TfdsDataSource"},
    ],
)


def tables(text):
    """Of each table the rows, of each row the cells, as a reader sees them."""
    actual, in_cell = [], False
    for token in MarkdownIt("commonmark").enable("table").parse(ModelCard(text).text):
        if token.type == "table_open":
            actual.append([])
        elif token.type == "tr_open":
            actual[-1].append([])
        elif token.type in {"th_open", "td_open"}:
            in_cell = True
        elif token.type == "inline" and in_cell:
            assert {child.type for child in token.children} <= {"text", "code_inline"}
            actual[-1][-1].append("".join(child.content for child in token.children))
            in_cell = False
    return actual


def test_what_was_not_looked_at_or_not_checked_is_said():
    actual = prepared("ours", "solidity", HASHES[0], {"MIT": 2, "none": 1})
    old = prepared("theirs", "", HASHES[0], {"none": 59})
    checked = prepared("bigquery", "go", HASHES[0], {"MIT": 3}) | {"licences_checked": True}
    data = [actual | {"licences_checked": False}, old, checked]
    text = card("x", model_type="gptj", lineage=training("X", [], data), **FACTS)
    *_, table = tables(text)
    assert [row[-1] for row in table[1:]] == ["MIT: 2; none: 1", "not looked at: 59", "MIT: 3"]
    warning = ModelCard(text).text.partition("Warning: nothing was dropped for its licence")[2]
    assert "ours/solidity" in warning and "theirs" not in warning and "bigquery" not in warning
    assert "Warning" not in card("x", model_type="gptj", lineage=MONO, **FACTS)


@pytest.mark.parametrize("model_type", ["codegen", "gptj"])
@pytest.mark.parametrize("lineage", [None, MONO], ids=["none", "lineage"])
def test_front_matter_is_read_by_the_hub(model_type, lineage):
    text = card("CodeGen350MMono", model_type=model_type, lineage=lineage, **FACTS)
    assert ModelCard(text).data.to_dict() == {
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["code", model_type],
    }
    facts = dict(tables(text)[0][1:])
    assert facts["step"] == "300"
    assert facts["type of the weights"] == "bfloat16"
    assert facts["SHA-256 of the checkpoint"] == "50123456789a"
    assert facts["parameters"] == "356,712,448"
    assert (
        facts["class"] == {"codegen": "CodeGenForCausalLM", "gptj": "GPTJForCausalLM"}[model_type]
    )


def test_lineage_goes_back_to_the_root():
    text = card("CodeGen350MMono", model_type="codegen", lineage=MONO, **FACTS)
    _, chain, data = tables(text)
    trained = ["training", "jaxformer", "bigpython", "524,288"]
    assert chain[1:] == [
        ["CodeGen350MMono", *trained, "300", "50123456789a"],
        ["CodeGen350MMulti", *trained, "150,000", "10123456789a"],
        ["CodeGen350MNL", "import", "—", "—", "—", "0", "20123456789a"],
        [
            "hugging face, codegen-350M-nl",
            *["—"] * 5,
            "30123456789a (model-3.safetensors, the first of 2 files)",
        ],
    ]
    assert data[1:] == [
        ["CodeGen350MMono", "bigpython.", "bigpython", HASHES[0][:12], *SIZES, "not recorded"],
        ["CodeGen350MMono", "english", "installed python", "—", "—", "—", "not recorded"],
        ["CodeGen350MMono", "mine", "seqio.TfdsDataSource", "—", "—", "—", "not recorded"],
        [
            *("CodeGen350MMulti", "bigquery.java", "bigquery/java", "50123456789a", *SIZES),
            "MIT: 1,200; none: 3",
        ],
        [
            *("CodeGen350MMulti", "bigquery.go", "could not be read when the run began"),
            *("—", "—", "—", "not recorded"),
        ],
    ]
    assert "secret" not in text


def foreign(kind, **more):
    return {"kind": kind, "directory": "weights", "files": FILES[:1], **more}


@pytest.mark.parametrize(
    "parents, roots",
    [
        ([], [["random weights", "—", "—"]]),
        (
            [pax("CodeGen350MNL", 7, HASHES[1], None)],
            [["CodeGen350MNL", "7", "10123456789a"], ["not recorded", "—", "—"]],
        ),
        (
            [pax(None, 7, HASHES[1], None)],
            [["unknown", "7", "10123456789a"], ["not recorded", "—", "—"]],
        ),
        (
            [foreign("jaxformer", step=350_000)],
            [["jaxformer, weights", "350,000", "30123456789a"]],
        ),
        (
            # An export of ours that was trained on elsewhere, and came back.
            [
                foreign(
                    "hugging face", lineage={"kind": "export", "parents": [pax("A", 1, "f", None)]}
                )
            ],
            [
                ["hugging face, weights", "—", "30123456789a"],
                ["A", "1", "f"],
                ["not recorded", "—", "—"],
            ],
        ),
    ],
    ids=["random", "without lineage", "of no name", "jaxformer", "exported"],
)
def test_roots(parents, roots):
    lineage = training("CodeGen350MMulti", parents, [])
    text = card("CodeGen350MMulti", model_type="codegen", lineage=lineage, **FACTS)
    _, chain = tables(text)
    assert [[row[0], *row[-2:]] for row in chain[2:]] == roots
    assert "No training data is recorded." in text
    assert "No licence of what they were trained on is recorded." in text


def test_an_export_that_came_back_tells_of_its_data_once():
    parents = [pax("CodeGen350MMulti", 150_000, HASHES[1], MULTI)]
    export = MULTI | {"kind": "export", "layout": "CodeGen", "parents": parents}
    imported = {
        **training("CodeGen350MMulti", [foreign("hugging face", lineage=export)], []),
        "kind": "import",
    }
    lineage = training("CodeGen350MMono", [pax("CodeGen350MMulti", 0, "f", imported)], [])
    _, chain, data = tables(card("CodeGen350MMono", model_type="codegen", lineage=lineage, **FACTS))
    assert [row[:2] for row in chain[1:]] == [
        ["CodeGen350MMono", "training"],
        ["CodeGen350MMulti", "import"],
        ["hugging face, weights", "—"],
        ["CodeGen350MMulti", "training"],
        ["CodeGen350MNL", "import"],
        ["hugging face, codegen-350M-nl", "—"],
    ]
    assert [row[:2] for row in data[1:]] == [
        ["CodeGen350MMulti", "bigquery.java"],
        ["CodeGen350MMulti", "bigquery.go"],
    ]


@pytest.mark.parametrize("lineage", [None, MONO], ids=["none", "lineage"])
def test_no_licence_is_claimed_for_the_weights(lineage):
    text = card("CodeGen350MMono", model_type="codegen", lineage=lineage, **FACTS)
    assert ModelCard(text).data.license is None
    assert "The licence of these weights is for whoever publishes them to decide" in text


words = st.one_of(
    st.text(st.characters(exclude_categories=["C"])),
    st.text(),  # with what cannot be printed, or written
    st.text(st.characters(categories=["C"])),
    st.text("\\`*_[](){}<>#|~&;!:/@$.-+ \n\t1ahtpsw", max_size=12),
    st.sampled_from(
        ["&lt;b&gt;", "<b>x</b>", "https://a.b", "[a](b)", "![a](b)", "a | b", "# a #"]
    ),
)


@given(words.filter(str.strip))
def test_words_of_others_are_shown_as_they_are(name):
    line = " ".join(name.split())
    shown = "".join("\ufffd" if unicodedata.category(c)[0] == "C" else c for c in line)
    lineage = training(name, [], [{"task": name, "source": name}])
    text = card(name, model_type="codegen", lineage=lineage, **FACTS)
    _, chain, data = tables(text)
    assert chain[1][0] == data[1][0] == data[1][1] == data[1][2] == shown
    text.encode()
    heading = MarkdownIt("commonmark").parse(ModelCard(text).text)[1]
    assert "".join(child.content for child in heading.children) == shown
    assert ModelCard(text).data.license is None


@pytest.mark.parametrize("name", ["www.a.b", "Www.a.b", "http://a.b", "a@b.c"])
def test_no_address_becomes_a_link(name):
    """Where a reader links bare addresses too, it finds none: what makes them is escaped."""
    text = card(name, model_type="codegen", lineage=None, **FACTS)
    assert name not in text
    heading = next(line for line in text.splitlines() if line.startswith("# "))
    assert heading.replace("\\", "") == f"# {name}"
