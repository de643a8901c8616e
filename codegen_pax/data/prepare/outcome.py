"""What is to be said of a corpus besides its counts, and whether there is anything in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from codegen_pax.data.format import counts as account
from codegen_pax.data.format.manifest import Manifest
from codegen_pax.data.prepare.examine import GIT_LFS_POINTER
from codegen_pax.data.prepare.settings import Settings
from codegen_pax.data.rules import languages, licences
from codegen_pax.data.sources import reading, sniffing, storage
from codegen_pax.data.sources.errors import InputsError, UnreadableInputError
from codegen_pax.data.sources.partitions import Partition
from codegen_pax.errors import UserError

# What the manifest's counts have only where there is some.
COUNTED = ("defects", "unread_fields")


class NothingKeptError(UserError):
    """Not one document was kept, or not one row to train on came of them."""


def check(
    by_rule: Mapping[str, list[int]],
    rows: Mapping[str, Mapping[str, Mapping[str, int]]],
    additions: Mapping[str, Any],
    settings: Settings,
    hint: str,
) -> None:
    """Raises NothingKeptError if there is nothing to train on.

    A part without a row, of a corpus that has some, is no error: `remarks` names it.

    Args:
      by_rule: rule -> [documents, bytes, tokens].
      rows: part -> split -> 'tokens', and those 'in_rows'.
      additions: of `COUNTED`, those that there are.
      settings: of the corpus.
      hint: what helps if no document was kept, or ''.
    """
    if account.KEPT not in by_rule:
        found, *_ = by_rule.get(account.IN, [0])
        dropped = ", ".join(
            f"{documents:,} by {rule}"
            for rule, (documents, *_) in by_rule.items()
            if rule != account.IN
        )
        reasons = "".join(f"; {line}" for line in _of_counts(by_rule, additions))
        if licences.RULES[0] in by_rule:
            reasons += "; --licences any keeps those of which no licence is known"
        raise NothingKeptError(
            f"no document was kept: found {found:,} in the inputs"
            f"{f', dropped {dropped}' if dropped else ''}{reasons};"
            f" {settings.output} is unfinished{f'; {hint}' if hint else ''}"
        )
    if not any(splits["train"]["in_rows"] for splits in rows.values() if "train" in splits):
        documents, _, total = by_rule[account.KEPT]
        by_part = ", ".join(
            f"{tokens['tokens']:,}{f' of {part}' if part else ''} for {split}"
            for part, splits in rows.items()
            for split, tokens in splits.items()
        )
        raise NothingKeptError(
            f"no row came of {documents:,} documents: found {total:,} tokens ({by_part}), and a"
            f" row takes {settings.row_length:,}; wanted more text, a shorter --row-length, or"
            f" --validation 0, which holds nothing out; {settings.output} is unfinished"
        )


def faulty_inputs(
    damaged: Mapping[str, str], corpus: str, lines: Mapping[tuple[str, bool], int]
) -> dict[str, str]:
    """Source -> what is wrong with it, of those that are damaged or mostly unreadable.

    Args:
      corpus: what they are read as.
      damaged, lines: see `examine.Examined`.

    Raises ValueError, with all that is wrong, where more than half of the inputs are mostly
    unreadable, and where of all inputs none can be read.
    """
    sources = {source for source, _ in lines}
    mostly = {}
    for source in sorted(sources - damaged.keys()):
        records = (lines.get((source, is_readable), 0) for is_readable in (True, False))
        if complaint := reading.explain_unreadable(corpus, storage.unescape_path(source), *records):
            mostly[source] = complaint
    found = dict(sorted((dict(damaged) | mostly).items()))
    if 2 * len(mostly) > len(sources) or (found and not any(readable for _, readable in lines)):
        wrong = [*found.values()]
        raise InputsError(wrong) if len(wrong) > 1 else UnreadableInputError(wrong[0])
    return found


def check_languages(settings: Settings, partitions: Sequence[Partition]) -> None:
    """Raises NothingKeptError for trees without a file that is in a language that is kept."""
    endings = languages.count_extensions(
        storage.escape_path(file.path) for partition in partitions for file in partition.files
    )
    kept = {end for name in settings.languages for end in languages.LANGUAGES[name].extensions}
    if endings and not kept & endings.keys():
        wanted = ", ".join(settings.languages)
        raise NothingKeptError(
            f"no file is in a language that is kept ({wanted});"
            f" {languages.describe_extensions(endings, settings.languages)}"
        )


def remarks(manifest: Manifest) -> list[str]:
    """A line for each thing that a person should know, besides what is damaged."""
    by_rule = account.by_rule(manifest.counts["documents"])
    return [*_of_counts(by_rule, manifest.counts), *_short_parts(manifest)]


def _of_counts(by_rule: Mapping[str, list[int]], counts: Mapping[str, Any]) -> Iterator[str]:
    """The lines that need no rows.

    Args:
      by_rule: rule -> [documents, bytes, tokens].
      counts: of the manifest; `COUNTED` are looked at.
    """
    if GIT_LFS_POINTER in by_rule:
        number = by_rule[GIT_LFS_POINTER][0]
        yield f"git-LFS pointers in place of documents: {number:,}; {sniffing.GIT_LFS_REMEDY}"
    for line in counts.get("defects", ()):
        yield f"left out by a defect of this program: {line}"
    if unread := counts.get("unread_fields"):
        fields = ", ".join(f"{name} ({number:,})" for name, number in sorted(unread.items()))
        yield f"fields that were not read, and in how many records: {fields}"


def _short_parts(manifest: Manifest) -> Iterator[str]:
    for part, splits in manifest.counts["rows"].items():
        for split, tokens in splits.items():
            if not tokens["in_rows"]:
                yield (
                    f"{part or 'the corpus'} has no {split} row: its {tokens['tokens']:,} tokens"
                    f" there fill none of {manifest.row_length:,}"
                )
