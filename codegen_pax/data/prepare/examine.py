"""The reading of each partition: rules that need one document alone, and document hashes."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Iterator

from codegen_pax import git_lfs
from codegen_pax.data.format import manifest
from codegen_pax.data.format.documents import Document, Dropped
from codegen_pax.data.prepare import inputs, steps
from codegen_pax.data.prepare.chunks import Chunk, ChunkWriter
from codegen_pax.data.prepare.settings import Settings
from codegen_pax.data.rules import filters, languages, licences
from codegen_pax.data.sources import reading, storage
from codegen_pax.data.sources.errors import DamagedInputError, UnreadableInputError
from codegen_pax.data.sources.partitions import Partition

UNREADABLE_FILE = "unreadable_file"  # the rule that drops an input without readable records
GIT_LFS_POINTER = "git_lfs_pointer"


@dataclasses.dataclass
class Examined:
    """The result of the reading of a partition, or of several.

    Attributes:
        report: what came in and what was dropped.
        chunks: the documents that passed, in order.
        hashes: hashes of the inputs, or of their parts, that were hashed as they were read.
    """

    report: steps.Report
    chunks: list[Chunk] = dataclasses.field(default_factory=list)
    hashes: list[inputs.Hashed] = dataclasses.field(default_factory=list)


def merge(several: Iterable[Examined]) -> Examined:
    """Put results together; what comes out does not depend on their order."""
    several = list(several)
    return Examined(
        steps.merge_reports(one.report for one in several),
        sorted(chunk for one in several for chunk in one.chunks),
        sorted(hashed for one in several for hashed in one.hashes),
    )


@dataclasses.dataclass(frozen=True)
class _Verdict:
    """The rule that drops a document, if any, and the document's hash if it passes.

    Attributes:
        document: the document, with its language.
        licence: its licence in SPDX spelling.
        rule: the rule that drops it, or None.
        digest: SHA-256 of its content.
    """

    document: Document
    licence: str
    rule: str | None
    digest: bytes = b""


def content_bytes(document: Document) -> bytes:
    """Return the content of a document; equal documents have equal content."""
    if document.turns:
        turns = [(turn.role, turn.content) for turn in document.turns]
        return json.dumps(turns, ensure_ascii=False).encode()
    return document.text.encode()


def identify_language(document: Document, settings: Settings) -> Document:
    """Return the document with its language set; '' if documents of the language are not kept."""
    if not settings.kind.code:
        return document
    language = languages.detect(document.path, document.text, settings.languages)
    return dataclasses.replace(document, language=language or "")


def rejection(document: Document, settings: Settings) -> str | None:
    """Return the first rule that drops a document, among those that need one document alone."""
    if settings.kind.code:
        if not document.language:
            return "language"
        if git_lfs.is_pointer(document.text):
            return GIT_LFS_POINTER
        if rule := filters.rejection(document.text):
            return rule
    return licences.rejection(document.licence, settings.allowed_licences)


def _judge(document: Document, settings: Settings) -> _Verdict:
    document = identify_language(document, settings)
    licence = licences.normalise(document.licence)
    if rule := rejection(document, settings):
        return _Verdict(document, licence, rule)
    return _Verdict(document, licence, None, hashlib.sha256(content_bytes(document)).digest())


def _passing(
    partition: Partition, settings: Settings, report: steps.Report, opener: storage.Opener
) -> Iterator[tuple[int, _Verdict]]:
    """Yield (bytes, verdict) of the documents that pass; count all records in `report`."""
    source = partition.source
    progress = steps.Progress(settings, "examine", partition.number, partition.size, [source])
    for record in steps.read_documents(partition, opener):
        progress.add(record.size)
        rule: str | None
        verdict = None
        if isinstance(record, Dropped):
            rule, defect = record.rule, record.defect
            if record.damage:
                error = DamagedInputError(storage.unescape_path(record.source), record.damage)
                report.damaged.setdefault(record.source, str(error))
        else:
            report.unread_fields.update(record.unread_fields)
            with steps.DefectGuard() as guard:
                verdict = _judge(record, settings)
            rule = verdict.rule if verdict else guard.rule
            defect = guard.defect
        if defect:
            report.add_defect(record, defect, partition.place_format)
        if not partition.files:  # the files of a tree are inputs of their own
            is_readable = not isinstance(record, Dropped) or not (
                record.rule in reading.UNREADABLE_RULES or record.damage
            )
            report.records[storage.escape_path(partition.source), is_readable] += 1
        language, licence = (verdict.document.language, verdict.licence) if verdict else ("", "")
        manifest.add_count(report.counts, language, licence, manifest.IN, record.size)
        if rule:
            manifest.add_count(report.counts, language, licence, rule, record.size)
        elif verdict:
            yield record.size, verdict
    progress.finish()


def examine(partition: Partition, settings: Settings) -> Examined:
    """Read a partition once, and write the documents that pass in chunks, with their digests.

    If the input turns out to be unreadable, none of it is kept, not even documents already read.
    """
    hashing = storage.HashingOpener(partition.start, partition.end)
    opener = hashing if partition.is_hashed else storage.open_file
    try:
        examined = _examine(partition, settings, opener)
    except UnreadableInputError as error:
        report = steps.Report()
        for rule in (manifest.IN, UNREADABLE_FILE):
            is_first = partition.start == 0  # the partitions of an input are one document
            manifest.add_count(
                report.counts, "", "", rule, partition.size, num_documents=int(is_first)
            )
        source = storage.escape_path(partition.source)
        report.records[source, False] = 1
        report.damaged[source] = str(error)
        examined = Examined(report)
    if partition.is_hashed:
        digest = hashing.sha256(storage.File(partition.source, partition.size))
        examined.hashes.append(inputs.Hashed.of(partition, digest))
    return examined


def _examine(partition: Partition, settings: Settings, opener: storage.Opener) -> Examined:
    report = steps.Report()
    writer = ChunkWriter(settings, partition)
    for num_bytes, verdict in _passing(partition, settings, report, opener):
        document = verdict.document
        key = settings.part(document), settings.split(document, verdict.digest)
        report.sizes[key] += num_bytes
        writer.add(document, verdict.digest, num_bytes)
    return Examined(report, writer.finish())


def describe(partition: Partition) -> str:
    """Describe a partition."""
    return storage.escape_path(partition.source)
