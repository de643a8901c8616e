"""Which documents are copies, or near copies, of an earlier one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from etils import epath

from codegen_pax.corpus import near_duplicates
from codegen_pax.corpus.prepare import work
from codegen_pax.corpus.prepare.examine import BAND, DIGEST
from codegen_pax.corpus.prepare.settings import Settings

EXACT, NEAR = "exact_duplicate", "near_duplicate"

_PAIR = np.dtype([("split", "<i4"), ("place", "<i4")])
_EDGE = np.dtype([("first", _PAIR), ("other", _PAIR)])


def _load(files: Iterable[str], dtype: np.dtype) -> tuple[np.ndarray, np.ndarray]:
    """(records, number of the split of each), in the order of splits and places."""
    paths = sorted(files, key=lambda path: int(epath.Path(path).name))
    arrays = [np.frombuffer(epath.Path(path).read_bytes(), dtype) for path in paths]
    splits = [int(epath.Path(path).name) for path in paths]
    return np.concatenate(arrays), np.repeat(splits, [len(array) for array in arrays])


def _told(
    rule: str, name: str, splits: np.ndarray, places: np.ndarray, settings: Settings
) -> Iterator[tuple[int, tuple[str, str]]]:
    """Writes the places to drop of each split; (split, (rule, file))."""
    for split in np.unique(splits):
        path = str(settings.work / rule / name / f"{split:06d}")
        work.write(path, np.sort(places[splits == split]).astype("<i4").tobytes())
        yield int(split), (rule, path)


def exact(
    keyed: tuple[int, Iterable[str]], settings: Settings
) -> Iterator[tuple[int, tuple[str, str]]]:
    """Of the documents of a range of digests, all but the first of equal ones.

    Args:
      keyed: (range, files of DIGEST).
      settings: of the corpus.

    Yields:
      (split, (rule, file of places to drop)).
    """
    number, files = keyed
    records, splits = _load(files, DIGEST)
    _, firsts = np.unique(records["digest"], return_index=True)
    others = np.ones(len(records), bool)
    others[firsts] = False
    yield from _told(EXACT, f"{number:05d}", splits[others], records["place"][others], settings)


def edges(keyed: tuple[int, Iterable[str]], settings: Settings) -> str:
    """The pairs of documents that share a band of a range, as a file of _EDGE; returns its path."""
    number, files = keyed
    records, splits = _load(files, BAND)
    order = np.argsort(records["band"], kind="stable")
    bands = records["band"][order]
    first = np.searchsorted(bands, bands)  # where the run of equal bands begins
    found = np.empty(len(records), _EDGE)
    for side, places in (("first", order[first]), ("other", order)):
        found[side]["split"], found[side]["place"] = splits[places], records["place"][places]
    found = np.unique(found[found["first"] != found["other"]])
    path = str(settings.work / "edges" / f"{number:05d}")
    work.write(path, found.tobytes())
    return path


def near(files: Iterable[str], settings: Settings) -> Iterator[tuple[int, tuple[str, str]]]:
    """Of each cluster that edges connect all but the first; as `exact`.

    Holds all pairs at once: some hundred bytes for each near duplicate of the corpus.
    """
    pairs = (
        (tuple(edge["first"].tolist()), tuple(edge["other"].tolist()))
        for path in sorted(files)
        for edge in np.frombuffer(epath.Path(path).read_bytes(), _EDGE)
    )
    dropped = np.array(sorted(near_duplicates.dropped(pairs)), np.int32).reshape(-1, 2)
    yield from _told(NEAR, "all", dropped[:, 0], dropped[:, 1], settings)
