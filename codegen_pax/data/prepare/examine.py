"""The first look at each document: what can be told from it alone, and its digests."""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import json
from collections.abc import Iterator

import numpy as np
from etils import epath

from codegen_pax import git_lfs
from codegen_pax.data.format import counts as account
from codegen_pax.data.format.documents import Document, Dropped
from codegen_pax.data.prepare import work
from codegen_pax.data.prepare.settings import Settings
from codegen_pax.data.rules import filters, languages, licences, near_duplicates
from codegen_pax.data.sources import reading, storage
from codegen_pax.data.sources.errors import DamagedInputError, UnreadableInputError
from codegen_pax.data.sources.partitions import Partition

UNREADABLE_FILE = "unreadable_file"  # the rule that drops an input of which nothing can be read
GIT_LFS_POINTER = "git_lfs_pointer"

# A document that passed: its number in its partition, and SHA-256 of its content.
KEPT = np.dtype([("number", "<i8"), ("digest", "V32")])
# The same, where duplicates are looked for: the place is that in KEPT. Both begin with what is
# looked for, of which the first 8 bytes choose the range.
DIGEST = np.dtype([("digest", "V32"), ("place", "<i4")])
BAND = np.dtype([("band", "<u8"), ("place", "<i4")])

# Of the records of a partition, of each kind, that are held before they are written.
HELD_BYTES = 16 << 20


@dataclasses.dataclass
class Examined:
    """What is known of a partition after the first look.

    Attributes:
      partition: its number.
      counts: of what came in, and of what was dropped.
      sizes: (part, 'train' or 'validation') -> bytes of text that passed.
      lines: (source, whether they can be read) -> how many records (`read.complaint`).
      unread: field of conversations that was not read -> how many have it.
      damaged: source -> what is wrong with it, if all or some of it cannot be read.
      defects: of documents that a rule failed on, what went wrong, a line each.
      digests: (range, file of DIGEST) of the documents that passed.
      bands: (range, file of BAND), if near duplicates are looked for.
    """

    partition: int
    counts: account.Counts = dataclasses.field(default_factory=dict)
    sizes: dict[tuple[str, str], int] = dataclasses.field(default_factory=collections.Counter)
    lines: dict[tuple[str, bool], int] = dataclasses.field(default_factory=collections.Counter)
    unread: dict[str, int] = dataclasses.field(default_factory=collections.Counter)
    damaged: dict[str, str] = dataclasses.field(default_factory=dict)
    defects: list[str] = dataclasses.field(default_factory=list)
    digests: list[tuple[int, str]] = dataclasses.field(default_factory=list)
    bands: list[tuple[int, str]] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True)
class _Look:
    """A document as it was told, and what it gives if it passes.

    Attributes:
      document: with its language.
      licence: its own as SPDX spells it.
      rule: by which it is dropped, or None.
      digest: SHA-256 of its content.
      signature: its MinHashes, if near duplicates are looked for.
    """

    document: Document
    licence: str
    rule: str | None
    digest: bytes = b""
    signature: np.ndarray | None = None


def content(document: Document) -> bytes:
    """What makes two documents the same."""
    if document.turns:
        turns = [(turn.role, turn.content) for turn in document.turns]
        return json.dumps(turns, ensure_ascii=False).encode()
    return document.text.encode()


def told(document: Document, settings: Settings) -> Document:
    """The document with its language; '' if it is in none of those that are kept."""
    if not settings.kind.code:
        return document
    found = languages.detect(document.path, document.text, settings.languages)
    return dataclasses.replace(document, language=found or "")


def rejection(document: Document, settings: Settings) -> str | None:
    """The first rule by which a document is dropped, of those that look at it alone."""
    if settings.kind.code:
        if not document.language:
            return "language"
        if git_lfs.is_pointer(document.text):
            return GIT_LFS_POINTER
        if rule := filters.rejection(document.text):
            return rule
    return licences.rejection(document.licence, settings.allowed_licences)


def kept_file(settings: Settings, partition: int) -> epath.Path:
    """Where KEPT of a partition lies."""
    return settings.work / "kept" / f"{partition:06d}"


def signature_file(settings: Settings, partition: int) -> epath.Path:
    """Where the MinHashes lie, in the order of KEPT, if near duplicates are looked for."""
    return settings.work / "signatures" / f"{partition:06d}"


def _look(found: Document, settings: Settings) -> _Look:
    document = told(found, settings)
    licence = licences.normalise(document.licence)
    if rule := rejection(document, settings):
        return _Look(document, licence, rule)
    words = content(document)
    signature = near_duplicates.signature(words.decode()) if settings.near_duplicates else None
    return _Look(document, licence, None, hashlib.sha256(words).digest(), signature)


def _passed(
    partition: Partition, settings: Settings, seen: Examined
) -> Iterator[tuple[int, int, _Look]]:
    """(number, bytes, look) of those that pass; all are counted."""
    progress = work.Progress(settings.work, "examine", partition)
    for number, found in work.named(reading.documents(partition), partition):
        progress.add(found.size)
        language = licence = ""
        look = None
        if isinstance(found, Dropped):
            rule, why = found.rule, found.defect
            if found.damage:
                error = DamagedInputError(storage.unescape_path(found.source), found.damage)
                seen.damaged.setdefault(found.source, str(error))
        else:
            seen.unread.update(found.unread)
            with work.Guard() as guard:
                look = _look(found, settings)
            rule, why = guard.rule, guard.why
        if look:
            language, licence, rule = look.document.language, look.licence, look.rule
        if why and len(seen.defects) < work.MOST_DEFECTS:
            seen.defects.append(work.of_record(found, why, partition))
        if not partition.files:  # a file of a tree is no record of another
            is_readable = not isinstance(found, Dropped) or not (
                found.rule in reading.UNREADABLE_RULES or found.damage
            )
            seen.lines[storage.escape_path(partition.source), is_readable] += 1
        account.add(seen.counts, language, licence, account.IN, found.size)
        if rule:
            account.add(seen.counts, language, licence, rule, found.size)
        else:
            yield number, found.size, look
    progress.finish()


class _Ranges:
    """Records of a partition on their way to files by range, a piece of them held at once.

    Attributes:
      files: (range, file) of what was written.
    """

    def __init__(self, folder: str, dtype: np.dtype, partition: Partition, settings: Settings):
        self._folder, self._dtype = settings.work / folder, dtype
        self._ranges, self._partition = settings.ranges, partition.number
        self._held = bytearray()
        self._piece = 0
        self.files: list[tuple[int, str]] = []

    def add(self, record: bytes) -> None:
        self._held += record
        if len(self._held) >= HELD_BYTES:
            self.flush()

    def flush(self) -> None:
        if not self._held:
            return
        held, self._held = np.frombuffer(self._held, np.uint8), bytearray()
        records = held.view(self._dtype)
        keys = held.reshape(-1, self._dtype.itemsize)[:, :8].copy().view("<u8").ravel()
        places = keys % np.uint64(self._ranges)
        for place in np.unique(places).tolist():
            path = str(self._folder / f"{place:05d}" / f"{self._partition:06d}-{self._piece:04d}")
            work.write(path, records[places == place].tobytes())
            self.files.append((place, path))
        self._piece += 1


def examine(partition: Partition, settings: Settings) -> Examined:
    """Reads a partition once, and writes KEPT, MinHashes, and DIGEST and BAND for each range.

    Of an input that turns out to be unreadable nothing is kept, what was read of it included.
    """
    try:
        return _examine(partition, settings)
    except UnreadableInputError as error:
        for path in (
            kept_file(settings, partition.number),
            signature_file(settings, partition.number),
        ):
            work.write(path, b"")
        counts: account.Counts = {}
        for rule in (account.IN, UNREADABLE_FILE):
            is_first = partition.start == 0  # of the pieces of an input, which is one
            account.add(counts, "", "", rule, partition.size, documents=int(is_first))
        source = storage.escape_path(partition.source)
        lines = {(source, False): 1}
        return Examined(partition.number, counts, lines=lines, damaged={source: str(error)})


def _examine(partition: Partition, settings: Settings) -> Examined:
    seen = Examined(partition.number)
    digests = _Ranges("digests", DIGEST, partition, settings)
    bands = _Ranges("bands", BAND, partition, settings)
    kept = work.whole(kept_file(settings, partition.number))
    signatures = work.whole(signature_file(settings, partition.number))
    with kept as file, signatures as signature_bytes:
        for place, (number, size, look) in enumerate(_passed(partition, settings, seen)):
            part = settings.part(look.document)
            seen.sizes[part, settings.split(look.document, look.digest)] += size
            file.write(number.to_bytes(8, "little") + look.digest)
            place_bytes = place.to_bytes(4, "little")
            digests.add(look.digest + place_bytes)
            if look.signature is not None:
                signature_bytes.write(look.signature.tobytes())
                for band in near_duplicates.bands(look.signature):
                    bands.add(hashlib.blake2b(band, digest_size=8).digest() + place_bytes)
    digests.flush()
    bands.flush()
    seen.digests, seen.bands = digests.files, bands.files
    return seen
