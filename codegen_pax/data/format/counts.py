"""The account of a prepared corpus: what came in, what each rule dropped, what was kept.

Counts are kept for each language and licence, and for each rule: documents, bytes of text, and
tokens where a document was tokenised (the end of text included). `IN` and `KEPT` are rules too.
A licence counts as SPDX spells it (`licences.normalise`), so that a corpus has no more of them than
there are: what a document itself says of it is in its provenance.

Files that are not read are no documents: `left_out` in the manifest has how many of them there are
for each reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from codegen_pax.data.format.documents import Document
from codegen_pax.data.rules import licences as spdx
from codegen_pax.errors import UserError

IN, KEPT = "in", "kept"

# language -> licence -> rule -> [documents, bytes, tokens]
Counts = dict[str, dict[str, dict[str, list[int]]]]


class AccountError(UserError):
    """The account does not come out even: the corpus must not be used. A defect of ours."""


def add(
    counts: Counts,
    language: str,
    licence: str,
    rule: str,
    size: int,
    tokens: int = 0,
    documents: int = 1,
) -> None:
    """Adds documents of `size` bytes and `tokens` in all to what `rule` decided."""
    entry = counts.setdefault(language, {}).setdefault(licence, {}).setdefault(rule, [0, 0, 0])
    for place, value in enumerate((documents, size, tokens)):
        entry[place] += value


def add_document(counts: Counts, document: Document, rule: str, size: int, tokens: int = 0) -> None:
    """Adds one document to what `rule` decided."""
    add(counts, document.language, spdx.normalise(document.licence), rule, size, tokens)


def merged(several: Iterable[Counts]) -> Counts:
    """The sum, with its keys in order."""
    total: Counts = {}
    for counts in several:
        for language, licences in counts.items():
            for licence, rules in licences.items():
                for rule, (documents, size, tokens) in rules.items():
                    add(total, language, licence, rule, size, tokens, documents)
    return {
        language: {licence: dict(sorted(rules.items())) for licence, rules in sorted(found.items())}
        for language, found in sorted(total.items())
    }


def by_rule(counts: Counts) -> dict[str, list[int]]:
    """rule -> [documents, bytes, tokens] over all languages and licences."""
    total: dict[str, list[int]] = {}
    for licences in counts.values():
        for rules in licences.values():
            for rule, values in rules.items():
                total[rule] = [a + b for a, b in zip(total.get(rule, [0] * 3), values, strict=True)]
    return total


def check(counts: Counts, rows: Mapping[str, Mapping[str, Mapping[str, int]]]) -> None:
    """Raises AccountError unless everything that came in is accounted for.

    For each language and licence, documents and bytes in = kept + dropped by each rule. For each
    part and split in `rows` (`tokens`, `in_rows`, `last_row`): tokens in = in rows + left over at
    the end; and the tokens of all parts are those of the documents kept.
    """
    for language, licences in counts.items():
        for licence, rules in licences.items():
            for place, what in enumerate(("documents", "bytes")):
                found = sum(values[place] for rule, values in rules.items() if rule != IN)
                wanted = rules.get(IN, [0, 0, 0])[place]
                if found != wanted:
                    raise AccountError(
                        f"{what} of {language or 'no language'} ({licence or 'no licence'}) do not"
                        f" add up: in {wanted:,}, kept and dropped {found:,}"
                    )
    total = 0
    for part, splits in rows.items():
        for split, said in splits.items():
            total += said["tokens"]
            if said["tokens"] != said["in_rows"] + said["last_row"]:
                raise AccountError(
                    f"tokens of {part or 'the corpus'} ({split}) do not add up: in"
                    f" {said['tokens']:,}, in rows {said['in_rows']:,}, left over"
                    f" {said['last_row']:,}"
                )
    kept = by_rule(counts).get(KEPT, [0, 0, 0])[2]
    if kept != total:
        raise AccountError(f"tokens do not add up: kept {kept:,}, cut into rows {total:,}")
