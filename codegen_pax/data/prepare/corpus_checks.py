"""Whether what was read and kept makes a corpus, and what the user should know about it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from codegen_pax.data import TRAIN
from codegen_pax.data.format import manifest as manifests
from codegen_pax.data.format.manifest import IN, KEPT, Manifest
from codegen_pax.data.prepare.examine import GIT_LFS_POINTER
from codegen_pax.data.prepare.settings import Settings
from codegen_pax.data.rules import languages, licences
from codegen_pax.data.sources import reading, sniffing, storage
from codegen_pax.data.sources.errors import InputsError, UnreadableInputError
from codegen_pax.data.sources.partitions import Partition
from codegen_pax.errors import UserError
from codegen_pax.messages import counted


class NothingKeptError(UserError):
    """No document was kept, or they do not fill one row to train on."""


def check_languages(settings: Settings, partitions: Sequence[Partition]) -> None:
    """Check that trees have a file in a language that is kept.

    Raises:
        NothingKeptError: They have no such file.
    """
    endings = languages.count_extensions(
        storage.escape_path(file.path) for partition in partitions for file in partition.files
    )
    kept = {end for name in settings.languages for end in languages.LANGUAGES[name].extensions}
    if endings and not kept & endings.keys():
        raise NothingKeptError(
            f"no file is in a language that is kept ({', '.join(settings.languages)});"
            f" {languages.describe_extensions(endings, settings.languages)}"
        )


def faulty_inputs(
    damaged: Mapping[str, str], corpus: str, records: Mapping[tuple[str, bool], int]
) -> dict[str, str]:
    """Describe the inputs that are damaged or mostly unreadable.

    Args:
        damaged: See `steps.Report`.
        corpus: What the inputs are read as.
        records: See `steps.Report`.

    Returns:
        source -> description.

    Raises:
        InvalidValueError: More than half of the inputs are mostly unreadable, or no record of any
            of them can be read; the message describes every fault.
    """
    sources = {source for source, _ in records}
    mostly_unreadable = {}
    for source in sorted(sources - damaged.keys()):
        readable, unreadable = (records.get((source, one), 0) for one in (True, False))
        if complaint := reading.explain_unreadable(
            corpus, storage.unescape_path(source), readable, unreadable
        ):
            mostly_unreadable[source] = complaint
    faulty = dict(sorted((dict(damaged) | mostly_unreadable).items()))
    is_any_readable = any(is_readable for _, is_readable in records)
    if 2 * len(mostly_unreadable) > len(sources) or (faulty and not is_any_readable):
        complaints = [*faulty.values()]
        raise InputsError(complaints) if len(complaints) > 1 else UnreadableInputError(*complaints)
    return faulty


def check_kept(
    totals: Mapping[str, list[int]],
    rows: Mapping[str, Mapping[str, Mapping[str, int]]],
    optional_counts: Mapping[str, Any],
    settings: Settings,
    hint: str,
) -> None:
    """Check that there is something to train on.

    If other parts have rows, a part without a row is not an error: `remarks` names it.

    Args:
        totals: rule -> [documents, bytes, tokens].
        rows: part -> split -> 'tokens', and those 'in_rows'.
        optional_counts: Counts of the manifest that `remarks` looks at.
        settings: Settings of the corpus.
        hint: A remedy for the case that no document was kept, or ''.

    Raises:
        NothingKeptError: There is nothing to train on.
    """
    if KEPT not in totals:
        num_documents, *_ = totals.get(IN, [0])
        dropped = ", ".join(
            f"{number:,} by {rule}" for rule, (number, *_) in totals.items() if rule != IN
        )
        reasons = "".join(f"; {line}" for line in _remarks_on_documents(totals, optional_counts))
        if licences.RULES[0] in totals:
            reasons += "; --licences any keeps those of which no licence is known"
        raise NothingKeptError(
            f"no document was kept: found {num_documents:,} in the inputs"
            f"{f', dropped {dropped}' if dropped else ''}{reasons};"
            f" {settings.output} is unfinished{f'; {hint}' if hint else ''}"
        )
    if not any(splits[TRAIN]["in_rows"] for splits in rows.values() if TRAIN in splits):
        num_documents, _, num_tokens = totals[KEPT]
        by_part = ", ".join(
            f"{tokens['tokens']:,}{f' of {part}' if part else ''} for {split}"
            for part, splits in rows.items()
            for split, tokens in splits.items()
        )
        raise NothingKeptError(
            f"no row can be filled: found {num_tokens:,} tokens in"
            f" {counted(num_documents, 'document')} ({by_part}), and a row takes"
            f" {settings.row_length:,}; expected more text, a shorter --row-length, or --validation"
            f" 0, which holds nothing out; {settings.output} is unfinished"
        )


def remarks(manifest: Manifest) -> list[str]:
    """Return a line for each fact that the user should know, besides damaged inputs."""
    totals = manifests.totals_by_rule(manifest.counts["documents"])
    return [*_remarks_on_documents(totals, manifest.counts), *_remarks_on_rows(manifest)]


def _remarks_on_documents(
    totals: Mapping[str, list[int]], counts: Mapping[str, Any]
) -> Iterator[str]:
    """Yield the remarks that need no rows.

    Args:
        totals: rule -> [documents, bytes, tokens].
        counts: Counts of the manifest; `defects` and `unread_fields` are looked at.
    """
    if GIT_LFS_POINTER in totals:
        number = totals[GIT_LFS_POINTER][0]
        yield f"git-LFS pointers in place of documents: {number:,}; {sniffing.GIT_LFS_REMEDY}"
    for line in counts.get("defects", ()):
        yield f"left out by a defect of this program: {line}"
    if unread := counts.get("unread_fields"):
        fields = ", ".join(f"{name} ({number:,})" for name, number in sorted(unread.items()))
        yield f"fields that were not read, and in how many records: {fields}"


def _remarks_on_rows(manifest: Manifest) -> Iterator[str]:
    for part, splits in manifest.counts["rows"].items():
        for split, tokens in splits.items():
            if not tokens["in_rows"]:
                yield (
                    f"{part or 'the corpus'} has no {split} row: its {tokens['tokens']:,} tokens"
                    f" do not fill one of {manifest.row_length:,}"
                )
