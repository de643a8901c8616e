"""A document that cannot be tokenised takes no other with it."""

import json

from codegen_pax.data.prepare import tokenise
from codegen_pax.data.prepare.settings import Settings
from codegen_pax.text import tokenizer
from tests.data.prepared_corpora import survey_corpus


def test_a_batch_with_a_document_that_cannot_be_tokenised_loses_that_alone(tmp_path, monkeypatch):
    raw = tmp_path / "raw.jsonl"
    raw.write_text("".join(json.dumps({"text": f"text {n} " * 20}) + "\n" for n in range(9)))
    settings = Settings("pile", str(tmp_path / "out"), row_length=32, validation=0.0)
    (batch,) = survey_corpus(settings, raw).batches
    bpe = tokenizer.load("gpt2", literal=True)

    class Broken:
        def encode_batch_fast(self, texts, **options):
            if any("text 5" in text for text in texts):
                raise ValueError("no")
            return bpe.encode_batch_fast(texts, **options)

    monkeypatch.setattr(tokenizer, "load", lambda *_, **options: Broken())
    made = tokenise.tokenise((batch, []), settings, {("", "train"): 1}).report
    ((rules,),) = (by_licence.values() for by_licence in made.counts.values())
    assert {rule: values[0] for rule, values in rules.items()} == {"kept": 8, "internal_error": 1}
    record = sum(len(line) for line in raw.read_text().splitlines(keepends=True)[:5])
    assert made.defects == [f"{raw}, the line at byte {record}: ValueError: no"]
