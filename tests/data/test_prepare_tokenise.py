"""The second reading: of documents that changed meanwhile, and of one that cannot be tokenised."""

import json

import pytest

from codegen_pax.data.prepare import examine, output, tokenise
from codegen_pax.data.prepare.settings import Settings
from codegen_pax.data.sources import discovery, errors, partitions
from codegen_pax.text import tokenizer

TEXTS = [f"text {n}\n" for n in range(9)]
LINES = [json.dumps({"text": text}) + "\n" for text in TEXTS]


@pytest.fixture
def begun(tmp_path):
    """An input, its one partition, and the settings of a preparation that has begun."""
    raw = tmp_path / "raw.jsonl"
    raw.write_text("".join(LINES))
    settings = Settings("pile", str(tmp_path / "out"), row_length=8, validation=0.0)
    (partition,) = partitions.plan("pile", discovery.find("pile", [str(raw)]))
    output.begin(settings)
    return raw, partition, settings


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (
            [*LINES[:4], LINES[4].replace("4", "5"), *LINES[5:]],
            "the line at byte {place} is another",
        ),
        ([*LINES[:4], "[]\n", *LINES[5:]], "the line at byte {place} is another"),
        (LINES[1:], "the line at byte 0 is another"),
        (LINES[:4], "it holds fewer records"),
        ([], "it holds fewer records"),
    ],
)
def test_an_input_that_changed_between_the_readings_is_named(begun, lines, message):
    raw, partition, settings = begun
    examine.examine(partition, settings)
    raw.write_text("".join(lines))
    message = message.format(place=sum(map(len, LINES[:4])))
    with pytest.raises(errors.ChangedInputError, match=rf"raw.jsonl changed while .*{message}"):
        tokenise.tokenise((partition, []), settings, {("", "train"): 1})


def test_a_batch_with_a_document_that_cannot_be_tokenised_loses_that_alone(tmp_path, monkeypatch):
    raw = tmp_path / "raw.jsonl"
    raw.write_text("".join(json.dumps({"text": f"text {n} " * 20}) + "\n" for n in range(9)))
    settings = Settings("pile", str(tmp_path / "out"), row_length=32, validation=0.0)
    (partition,) = partitions.plan("pile", discovery.find("pile", [str(raw)]))
    output.begin(settings)
    examine.examine(partition, settings)
    bpe = tokenizer.load("gpt2", literal=True)

    class Broken:
        def encode_batch_fast(self, texts, **options):
            if any("text 5" in text for text in texts):
                raise ValueError("no")
            return bpe.encode_batch_fast(texts, **options)

    monkeypatch.setattr(tokenizer, "load", lambda *_, **options: Broken())
    made = tokenise.tokenise((partition, []), settings, {("", "train"): 1}).report
    ((rules,),) = (by_licence.values() for by_licence in made.counts.values())
    assert {rule: values[0] for rule, values in rules.items()} == {"kept": 8, "internal_error": 1}
    record = sum(len(line) for line in raw.read_text().splitlines(keepends=True)[:5])
    assert made.defects == [f"{raw}, the line at byte {record}: ValueError: no"]
