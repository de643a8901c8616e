"""What a part holds out where the share that was asked for leaves it nothing to validate on.

Every document has a place in [0, 2**64), of its repository or of itself (`Settings.place`), and the
share holds out those with the lowest. Where a part gets less than a row of them, of a small
language say, the next ones by their places follow until a row is full: whole repositories, if the
corpus is held out by them and half of the part stays, else documents; if there is no row to be had,
one document of two or more, the smallest where training would lose its only row by another. It is
decided from what was kept in the end, after duplicates and benchmarks are gone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator

from codegen_pax.data.format.documents import Document
from codegen_pax.data.prepare.settings import Settings

TRAIN, VALIDATION = "train", "validation"
_SLACK = 4  # times what is needed is held before it is cut down


@dataclasses.dataclass(frozen=True)
class Limit:
    """From which place to which more is held out: of repositories, or of documents."""

    by_repository: bool
    last: int
    first: int = 0

    def holds(self, settings: Settings, repository: str, digest: bytes) -> bool:
        """Whether a document is among what is held out by it."""
        place = settings.place(repository if self.by_repository else "", digest)
        return self.first <= place <= self.last


@dataclasses.dataclass
class Totals:
    """What a part holds. Sizes are in tokens; of conversations, of which a row is one, in rows.

    Attributes:
      documents, sizes: of each split.
      nearest: of training, by repository (if True) or by document, place -> size: the lowest
        places, as many as fill a row.
      smallest: document of training: (size, place); none where nothing is to be held out.
    """

    documents: dict[str, int]
    sizes: dict[str, int]
    nearest: dict[bool, dict[int, int]]
    smallest: tuple[int, int] | None = None

    def add(self, other: Totals) -> None:
        """Adds what another, of the same part, holds."""
        for mine, others in (
            (self.documents, other.documents),
            (self.sizes, other.sizes),
            *((self.nearest.setdefault(by, {}), found) for by, found in other.nearest.items()),
        ):
            for key, value in others.items():
                mine[key] = mine.get(key, 0) + value
        self.smallest = min(filter(None, (self.smallest, other.smallest)), default=None)

    def cut(self, row: int) -> None:
        """Forgets the places beyond those that fill a row of `row`."""
        for by, nearest in self.nearest.items():
            self.nearest[by] = dict(_filling(nearest, row))


def _filling(nearest: dict[int, int], row: int) -> Iterator[tuple[int, int]]:
    """The lowest places with their sizes, up to the one that fills a row."""
    size = 0
    for place in sorted(nearest):
        yield place, nearest[place]
        size += nearest[place]
        if size >= row:
            return


def _row(settings: Settings) -> int:
    return 1 if settings.kind.answers else settings.row_length


def add(
    totals: dict[str, Totals], settings: Settings, document: Document, digest: bytes, tokens: int
) -> None:
    """Adds a document that is kept to the totals of its part."""
    split = settings.split(document, digest)
    size = 1 if settings.kind.answers else tokens
    nearest: dict[bool, dict[int, int]] = {}
    smallest = None
    if split == TRAIN and settings.validation:
        place = settings.place("", digest)
        nearest, smallest = {False: {place: size}}, (size, place)
        if settings.kind.by_repository:
            nearest[True] = {settings.place(document.repository, digest): size}
    mine = totals.setdefault(settings.part(document), Totals({}, {}, {}))
    mine.add(Totals({split: 1}, {split: size}, nearest, smallest))
    if any(len(found) > _SLACK * settings.row_length for found in mine.nearest.values()):
        mine.cut(_row(settings))


def merged(several: Iterable[dict[str, Totals]], settings: Settings) -> dict[str, Totals]:
    """The totals of all, by part."""
    total: dict[str, Totals] = {}
    for one in several:
        for part, found in one.items():
            total.setdefault(part, Totals({}, {}, {})).add(found)
    for found in total.values():
        found.cut(_row(settings))
    return total


def limits(totals: dict[str, Totals], settings: Settings) -> dict[str, Limit]:
    """Of the parts that are to hold out more than the share, up to which place."""
    found = {part: _limit(one, _row(settings)) for part, one in totals.items()}
    return {part: limit for part, limit in found.items() if limit}


def _limit(part: Totals, row: int) -> Limit | None:
    held, train = (part.sizes.get(split, 0) for split in (VALIDATION, TRAIN))
    if held >= row or not part.nearest:
        return None
    for by_repository in (True, False):
        filling = [*_filling(part.nearest.get(by_repository, {}), row - held)]
        more = sum(size for _, size in filling)
        if filling and held + more >= row and held + more <= train - more:
            return Limit(by_repository, filling[-1][0])
    if VALIDATION in part.documents or part.documents[TRAIN] < 2:
        return None
    place, size = min(part.nearest[False].items())
    if not train - size < row <= train:
        return Limit(False, place)
    _, place = part.smallest
    return Limit(False, place, first=place)
