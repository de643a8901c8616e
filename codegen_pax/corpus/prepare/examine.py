"""The first look at each document: what can be told from it alone, and its digests."""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import json
from collections.abc import Iterator

import numpy as np

from codegen_pax.corpus import counts as account
from codegen_pax.corpus import filters, languages, licences, near_duplicates
from codegen_pax.corpus.documents import Document, Dropped
from codegen_pax.corpus.prepare import work
from codegen_pax.corpus.prepare.settings import Settings
from codegen_pax.corpus.raw import read
from codegen_pax.corpus.raw.splits import Split

# A document that passed: its number in its split, and SHA-256 of its content.
KEPT = np.dtype([("number", "<i8"), ("digest", "V32")])
# The same, where duplicates are looked for: the place is that in KEPT.
DIGEST = np.dtype([("digest", "V32"), ("place", "<i4")])
BAND = np.dtype([("band", "<u8"), ("place", "<i4")])


@dataclasses.dataclass(frozen=True)
class Examined:
    """What is known of a split after the first look.

    Attributes:
      split: its number.
      counts: of what came in, and of what was dropped.
      sizes: (part, 'train' or 'validation') -> bytes of text that passed.
      digests: (range, file of DIGEST) of the documents that passed.
      bands: (range, file of BAND), if near duplicates are looked for.
    """

    split: int
    counts: account.Counts
    sizes: dict[tuple[str, str], int]
    digests: list[tuple[int, str]]
    bands: list[tuple[int, str]]


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
    found = languages.by_path(document.path, document.text, settings.languages)
    return dataclasses.replace(document, language=found or "")


def rejection(document: Document, settings: Settings) -> str | None:
    """The first rule by which a document is dropped, of those that look at it alone."""
    if settings.kind.code:
        if not document.language:
            return "language"
        if rule := filters.rejection(document.text):
            return rule
    if settings.kind.licensed:
        return licences.rejection(document.licence, settings.licences)
    return None


def kept_file(settings: Settings, split: int) -> str:
    """Where KEPT of a split lies."""
    return str(settings.work / "kept" / f"{split:06d}")


def _passed(
    split: Split, settings: Settings, counts: account.Counts
) -> Iterator[tuple[int, int, Document]]:
    """(number, bytes, document) of those that pass; all are counted."""
    progress = work.Progress(settings.work, "examine", split)
    for number, found in enumerate(read.documents(split)):
        progress.add(found.size)
        if isinstance(found, Dropped):
            account.add(counts, "", "", account.IN, found.size)
            account.add(counts, "", "", found.rule, found.size)
            continue
        document = told(found, settings)
        account.add(counts, document.language, document.licence, account.IN, found.size)
        if rule := rejection(document, settings):
            account.add(counts, document.language, document.licence, rule, found.size)
        else:
            yield number, found.size, document
    progress.finish()


def examine(split: Split, settings: Settings) -> Examined:
    """Reads a split once, and writes KEPT, and DIGEST and BAND for each range."""
    counts: account.Counts = {}
    sizes: collections.Counter[tuple[str, str]] = collections.Counter()
    kept: list[tuple[int, bytes]] = []
    bands: list[tuple[int, int]] = []
    for number, size, document in _passed(split, settings, counts):
        digest = hashlib.sha256(content(document)).digest()
        sizes[settings.part(document), settings.split(document, digest)] += size
        if settings.near_duplicates:
            place = len(kept)
            for band in near_duplicates.bands(content(document).decode()):
                short = hashlib.blake2b(band, digest_size=8).digest()
                bands.append((int.from_bytes(short, "little"), place))
        kept.append((number, digest))
    records = np.array(kept, KEPT)
    work.write(kept_file(settings, split.number), records.tobytes())
    digests = np.empty(len(kept), DIGEST)
    digests["digest"], digests["place"] = records["digest"], np.arange(len(kept))
    first = np.frombuffer(records["digest"].tobytes(), ">u4")[::8]
    band_records = np.array(bands, BAND)
    return Examined(
        split=split.number,
        counts=counts,
        sizes=dict(sizes),
        digests=_by_range(digests, first, "digests", split, settings),
        bands=_by_range(band_records, band_records["band"], "bands", split, settings),
    )


def _by_range(
    records: np.ndarray, keys: np.ndarray, folder: str, split: Split, settings: Settings
) -> list[tuple[int, str]]:
    """Writes the records of each range to a file of its own; (range, file) of those with any."""
    places = keys % np.asarray(settings.ranges, keys.dtype)
    files = []
    for place in np.unique(places):
        path = str(settings.work / folder / f"{place:05d}" / f"{split.number:06d}")
        work.write(path, records[places == place].tobytes())
        files.append((int(place), path))
    return files
