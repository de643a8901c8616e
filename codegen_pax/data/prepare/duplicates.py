"""Which documents are copies, or near copies, of an earlier one."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator

import numpy as np
from etils import epath

from codegen_pax.data.prepare import work
from codegen_pax.data.prepare.examine import BAND, DIGEST, signature_file
from codegen_pax.data.prepare.settings import Settings
from codegen_pax.data.rules import near_duplicates

EXACT, NEAR = "exact_duplicate", "near_duplicate"

_PAIR = np.dtype([("partition", "<i4"), ("place", "<i4")])
_EDGE = np.dtype([("first", _PAIR), ("other", _PAIR)])

# Of pairs that are compared, held at once: 64 MiB of MinHashes.
_HELD = 1 << 16
# Documents that share a band and are not like the first of them are compared with the first of
# those, and so on, this often (ours): a band that thousands share without being alike must end.
_ROUNDS = 64


def _load(files: Iterable[str], dtype: np.dtype) -> tuple[np.ndarray, np.ndarray]:
    """(records, number of the partition of each), in the order of partitions and places."""
    # partition, piece of it, path
    pieces = sorted((*map(int, epath.Path(path).name.split("-")), path) for path in files)
    arrays = [np.frombuffer(epath.Path(path).read_bytes(), dtype) for *_, path in pieces]
    partitions = [partition for partition, *_ in pieces]
    return np.concatenate(arrays), np.repeat(partitions, [len(array) for array in arrays])


def _told(
    rule: str, name: str, partitions: np.ndarray, places: np.ndarray, settings: Settings
) -> Iterator[tuple[int, tuple[str, str]]]:
    """Writes the places to drop of each partition; (partition, (rule, file))."""
    for partition in np.unique(partitions):
        path = str(settings.work / rule / name / f"{partition:06d}")
        work.write(path, np.sort(places[partitions == partition]).astype("<i4").tobytes())
        yield int(partition), (rule, path)


def place(keyed: tuple[int, Iterable[str]]) -> str:
    """What a range of digests is, in words."""
    return f"range {keyed[0]} of the digests"


def exact(
    keyed: tuple[int, Iterable[str]], settings: Settings
) -> Iterator[tuple[int, tuple[str, str]]]:
    """Of the documents of a range of digests, all but the first of equal ones.

    Args:
      keyed: (range, files of DIGEST).
      settings: of the corpus.

    Yields:
      (partition, (rule, file of places to drop)).
    """
    number, files = keyed
    records, partitions = _load(files, DIGEST)
    _, firsts = np.unique(records["digest"], return_index=True)
    others = np.ones(len(records), bool)
    others[firsts] = False
    yield from _told(EXACT, f"{number:05d}", partitions[others], records["place"][others], settings)


def edges(keyed: tuple[int, Iterable[str]], settings: Settings) -> str:
    """Near duplicates that share a band of a range, as a file of _EDGE; returns its path."""
    number, files = keyed
    records, partitions = _load(files, BAND)
    order = np.argsort(records["band"], kind="stable")
    bands = records["band"][order]
    documents = np.empty(len(records), _PAIR)
    documents["partition"], documents["place"] = partitions[order], records["place"][order]
    found = [np.empty(0, _EDGE)]
    for _ in range(_ROUNDS):
        first = np.searchsorted(bands, bands)  # where the run of equal bands begins
        others = np.flatnonzero(first != np.arange(len(bands)))
        if not len(others):
            break
        pairs = np.empty(len(others), _EDGE)
        pairs["first"], pairs["other"] = documents[first[others]], documents[others]
        # Most share more than one band.
        pairs, places = np.unique(pairs, return_inverse=True)
        similar = _similar(pairs, settings)
        found.append(pairs[similar])
        others = others[~similar[places]]
        bands, documents = bands[others], documents[others]
    path = str(settings.work / "edges" / f"{number:05d}")
    work.write(path, np.unique(np.concatenate(found)).tobytes())
    return path


def _similar(pairs: np.ndarray, settings: Settings) -> np.ndarray:
    """Which of `pairs` (_EDGE [n]) are near duplicates: bool [n]."""
    found = np.empty(len(pairs), bool)
    for start in range(0, len(pairs), _HELD):
        among = slice(start, start + _HELD)
        sides = (_signatures(pairs[side][among], settings) for side in ("first", "other"))
        found[among] = near_duplicates.are_similar(*sides)
    return found


def _signatures(documents: np.ndarray, settings: Settings) -> np.ndarray:
    """The MinHashes of documents (_PAIR [n]): uint32 [n, PERMUTATIONS]."""
    size = near_duplicates.SIGNATURE.itemsize
    found = np.empty((len(documents), near_duplicates.PERMUTATIONS), np.uint32)
    order = np.lexsort((documents["place"], documents["partition"]))
    partitions, places = documents["partition"][order].tolist(), documents["place"][order].tolist()
    wanted = zip(partitions, places, order.tolist(), strict=True)
    for partition, group in itertools.groupby(wanted, key=lambda one: one[0]):
        with epath.Path(signature_file(settings, partition)).open("rb") as file:
            for _, place, number in group:
                file.seek(place * size)
                found[number] = np.frombuffer(file.read(size), "<u4")
    return found


def near(files: Iterable[str], settings: Settings) -> Iterator[tuple[int, tuple[str, str]]]:
    """Of each cluster that edges connect all but the first; as `exact`.

    Holds all pairs at once: some hundred bytes for each near duplicate of the corpus.
    """
    pairs = (
        (tuple(edge["first"].tolist()), tuple(edge["other"].tolist()))
        for path in sorted(files)
        for edge in np.frombuffer(epath.Path(path).read_bytes(), _EDGE)
    )
    dropped = np.array(sorted(near_duplicates.all_but_first(pairs)), np.int32).reshape(-1, 2)
    yield from _told(NEAR, "all", dropped[:, 0], dropped[:, 1], settings)
