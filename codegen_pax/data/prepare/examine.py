"""The first reading of each partition: rules that need one document alone, and document hashes."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator

import numpy as np
from etils import epath

from codegen_pax import git_lfs
from codegen_pax.data.format import manifest
from codegen_pax.data.format.documents import Document, Dropped
from codegen_pax.data.prepare import steps
from codegen_pax.data.prepare.settings import Settings
from codegen_pax.data.rules import filters, languages, licences, near_duplicates
from codegen_pax.data.sources import reading, storage
from codegen_pax.data.sources.errors import DamagedInputError, UnreadableInputError
from codegen_pax.data.sources.partitions import Partition

UNREADABLE_FILE = "unreadable_file"  # the rule that drops an input without readable records
GIT_LFS_POINTER = "git_lfs_pointer"

# A document that passed: its number among the records of its partition, and the SHA-256 of its
# content.
PASSED = np.dtype([("number", "<i8"), ("digest", "V32")])
# The records by which duplicates are found; `index` is the document's index in PASSED. Both begin
# with the hash, whose first 8 bytes choose the range.
DIGEST = np.dtype([("digest", "V32"), ("index", "<i4")])
BAND = np.dtype([("band", "<u8"), ("index", "<i4")])

# Bytes of DIGEST, and of BAND, that are held for one partition before they are written.
BUFFER_BYTES = 16 << 20


@dataclasses.dataclass
class Examined:
    """The result of the first reading of a partition.

    Attributes:
        report: what came in and what was dropped.
        digests: (range, file of DIGEST) of the documents that passed.
        bands: (range, file of BAND), if near duplicates are dropped.
    """

    report: steps.Report
    digests: list[tuple[int, str]] = dataclasses.field(default_factory=list)
    bands: list[tuple[int, str]] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True)
class _Verdict:
    """The rule that drops a document, if any, and the document's hashes if it passes.

    Attributes:
        document: the document, with its language.
        licence: its licence in SPDX spelling.
        rule: the rule that drops it, or None.
        digest: SHA-256 of its content.
        signature: its MinHash, if near duplicates are dropped.
    """

    document: Document
    licence: str
    rule: str | None
    digest: bytes = b""
    signature: np.ndarray | None = None


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


def passed_file(settings: Settings, partition: int) -> epath.Path:
    """Return the path of a partition's file of PASSED."""
    return settings.work_folder / "passed" / f"{partition:06d}"


def signature_file(settings: Settings, partition: int) -> epath.Path:
    """Return the path of the MinHashes of a partition, in the order of PASSED."""
    return settings.work_folder / "signatures" / f"{partition:06d}"


def _judge(document: Document, settings: Settings) -> _Verdict:
    document = identify_language(document, settings)
    licence = licences.normalise(document.licence)
    if rule := rejection(document, settings):
        return _Verdict(document, licence, rule)
    content = content_bytes(document)
    signature = near_duplicates.signature(content.decode()) if settings.near_duplicates else None
    return _Verdict(document, licence, None, hashlib.sha256(content).digest(), signature)


def _passing(
    partition: Partition, settings: Settings, report: steps.Report
) -> Iterator[tuple[int, int, _Verdict]]:
    """Yield (number, bytes, verdict) of the documents that pass; count all records in `report`."""
    progress = steps.Progress(settings, "examine", partition)
    for number, record in steps.read_documents(partition):
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
            report.add_defect(record, defect, partition)
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
            yield number, record.size, verdict
    progress.finish()


class _RangeWriter:
    """Writes entries of a partition to one file for each range of their hashes.

    Attributes:
        files: (range, file) of what was written.
    """

    def __init__(self, folder: str, dtype: np.dtype, partition: Partition, settings: Settings):
        self._folder, self._dtype = settings.work_folder / folder, dtype
        self._num_ranges, self._partition = settings.ranges, partition.number
        self._buffer = bytearray()
        self._num_flushes = 0
        self.files: list[tuple[int, str]] = []

    def add(self, entry: bytes) -> None:
        self._buffer += entry
        if len(self._buffer) >= BUFFER_BYTES:
            self.flush()

    def flush(self) -> None:
        if not self._buffer:
            return
        data, self._buffer = np.frombuffer(self._buffer, np.uint8), bytearray()
        entries = data.view(self._dtype)
        hashes = data.reshape(-1, self._dtype.itemsize)[:, :8].copy().view("<u8").ravel()
        ranges = hashes % np.uint64(self._num_ranges)
        name = f"{self._partition:06d}-{self._num_flushes:04d}"
        for number in np.unique(ranges).tolist():
            path = str(self._folder / f"{number:05d}" / name)
            steps.write(path, entries[ranges == number].tobytes())
            self.files.append((number, path))
        self._num_flushes += 1


def examine(partition: Partition, settings: Settings) -> Examined:
    """Read a partition once, and write PASSED, MinHashes, and DIGEST and BAND of each range.

    If the input turns out to be unreadable, none of it is kept, not even documents already read.
    """
    try:
        return _examine(partition, settings)
    except UnreadableInputError as error:
        for file in (passed_file, signature_file):
            steps.write(file(settings, partition.number), b"")
        report = steps.Report()
        for rule in (manifest.IN, UNREADABLE_FILE):
            is_first = partition.start == 0  # the partitions of an input are one document
            manifest.add_count(
                report.counts, "", "", rule, partition.size, num_documents=int(is_first)
            )
        source = storage.escape_path(partition.source)
        report.records[source, False] = 1
        report.damaged[source] = str(error)
        return Examined(report)


def _examine(partition: Partition, settings: Settings) -> Examined:
    report = steps.Report()
    digests = _RangeWriter("digests", DIGEST, partition, settings)
    bands = _RangeWriter("bands", BAND, partition, settings)
    with (
        steps.atomic_file(passed_file(settings, partition.number)) as passed,
        steps.atomic_file(signature_file(settings, partition.number)) as signatures,
    ):
        documents = _passing(partition, settings, report)
        for index, (number, num_bytes, verdict) in enumerate(documents):
            part = settings.part(verdict.document)
            report.sizes[part, settings.split(verdict.document, verdict.digest)] += num_bytes
            passed.write(number.to_bytes(8, "little") + verdict.digest)
            index_bytes = index.to_bytes(4, "little")
            digests.add(verdict.digest + index_bytes)
            if verdict.signature is not None:
                signatures.write(verdict.signature.tobytes())
                for band in near_duplicates.bands(verdict.signature):
                    bands.add(hashlib.blake2b(band, digest_size=8).digest() + index_bytes)
    digests.flush()
    bands.flush()
    return Examined(report, digests.files, bands.files)


def describe(partition: Partition) -> str:
    """Describe a partition."""
    return storage.escape_path(partition.source)
