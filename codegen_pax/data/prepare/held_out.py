"""What a part holds out for validation if the requested share would leave it too little.

Every document has a key in [0, 2**64), of its repository or of itself (`Settings.validation_key`),
and the share holds out the documents with the lowest keys. If these fill less than a row, as in a
small language, the documents with the next keys are held out too, until a row is full, provided
that half of the part remains for training: whole repositories, if the corpus holds out by
repository and they meet this condition, else single documents. If neither is possible, one document
of two or more is held out: the one with the lowest key, or the smallest if training would otherwise
lose its only row. This is decided from the documents that are kept in the end, after duplicates and
benchmark problems are dropped.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator

from codegen_pax.data import TRAIN, VALIDATION
from codegen_pax.data.format.documents import Document
from codegen_pax.data.prepare.settings import Settings

_SLACK = 4  # keys are pruned when there are this many times as many as are needed


@dataclasses.dataclass(frozen=True)
class KeyRange:
    """A range of keys whose documents are held out besides the share.

    Attributes:
        by_repository: whether the keys are of repositories; else they are of documents.
        last: the last key, included.
        first: the first key.
    """

    by_repository: bool
    last: int
    first: int = 0

    def holds(self, settings: Settings, repository: str, digest: bytes) -> bool:
        """Return whether the key of a document is in the range."""
        key = settings.validation_key(repository if self.by_repository else "", digest)
        return self.first <= key <= self.last


@dataclasses.dataclass
class PartTotals:
    """What a part holds. Sizes are in tokens; for conversations, each of which is a row, in rows.

    Attributes:
        documents: split -> number of documents.
        sizes: split -> size.
        lowest: whether by repository -> key -> size: the lowest keys in training, as many as fill a
            row.
        smallest: (size, key) of the smallest document of training; None if nothing is held out.
    """

    documents: dict[str, int]
    sizes: dict[str, int]
    lowest: dict[bool, dict[int, int]]
    smallest: tuple[int, int] | None = None

    def add(self, other: PartTotals) -> None:
        """Add the totals of other documents of the part."""
        _add(self.documents, other.documents)
        _add(self.sizes, other.sizes)
        for by_repository, sizes in other.lowest.items():
            _add(self.lowest.setdefault(by_repository, {}), sizes)
        candidates = [one for one in (self.smallest, other.smallest) if one]
        self.smallest = min(candidates, default=None)

    def prune(self, row_size: int) -> None:
        """Drop the keys beyond those that fill a row."""
        for by_repository, sizes in self.lowest.items():
            self.lowest[by_repository] = dict(_fill_row(sizes, row_size))


def _add(total: dict, values: dict) -> None:
    for key, value in values.items():
        total[key] = total.get(key, 0) + value


def _fill_row(sizes: dict[int, int], row_size: int) -> Iterator[tuple[int, int]]:
    """Yield the lowest keys with their sizes, up to the one that fills a row."""
    size = 0
    for key in sorted(sizes):
        yield key, sizes[key]
        size += sizes[key]
        if size >= row_size:
            return


def _row_size(settings: Settings) -> int:
    return 1 if settings.kind.answers else settings.row_length


def add_document(
    totals: dict[str, PartTotals],
    settings: Settings,
    document: Document,
    digest: bytes,
    num_tokens: int,
) -> None:
    """Add a document that is kept to the totals of its part."""
    split = settings.split(document, digest)
    size = 1 if settings.kind.answers else num_tokens
    lowest: dict[bool, dict[int, int]] = {}
    smallest = None
    if split == TRAIN and settings.validation:
        key = settings.validation_key("", digest)
        lowest, smallest = {False: {key: size}}, (size, key)
        if settings.kind.by_repository:
            lowest[True] = {settings.validation_key(document.repository, digest): size}
    part = totals.setdefault(settings.part(document), PartTotals({}, {}, {}))
    part.add(PartTotals({split: 1}, {split: size}, lowest, smallest))
    if any(len(sizes) > _SLACK * settings.row_length for sizes in part.lowest.values()):
        part.prune(_row_size(settings))


def merge_totals(
    several: Iterable[dict[str, PartTotals]], settings: Settings
) -> dict[str, PartTotals]:
    """Add up the totals of several partitions, by part."""
    merged: dict[str, PartTotals] = {}
    for totals in several:
        for part, part_totals in totals.items():
            merged.setdefault(part, PartTotals({}, {}, {})).add(part_totals)
    for part_totals in merged.values():
        part_totals.prune(_row_size(settings))
    return merged


def extra_key_ranges(totals: dict[str, PartTotals], settings: Settings) -> dict[str, KeyRange]:
    """Return part -> the keys to hold out besides the share, for the parts that need it."""
    ranges = {part: _extra_key_range(one, _row_size(settings)) for part, one in totals.items()}
    return {part: key_range for part, key_range in ranges.items() if key_range}


def _extra_key_range(part: PartTotals, row_size: int) -> KeyRange | None:
    held_out, train = (part.sizes.get(split, 0) for split in (VALIDATION, TRAIN))
    if held_out >= row_size or not part.lowest:
        return None
    for by_repository in (True, False):
        filling = [*_fill_row(part.lowest.get(by_repository, {}), row_size - held_out)]
        extra = sum(size for _, size in filling)
        if filling and held_out + extra >= row_size and held_out + extra <= train - extra:
            return KeyRange(by_repository, filling[-1][0])
    if VALIDATION in part.documents or part.documents[TRAIN] < 2:
        return None
    key, size = min(part.lowest[False].items())
    if part.smallest and train - size < row_size <= train:  # training would lose its only row
        _, key = part.smallest
        return KeyRange(False, key, first=key)
    return KeyRange(False, key)
