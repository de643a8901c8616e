"""Which documents are copies, or near copies, of an earlier one."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator

import numpy as np
from etils import epath

from codegen_pax.data.prepare import steps
from codegen_pax.data.prepare.examine import BAND, DIGEST, signature_file
from codegen_pax.data.prepare.settings import Settings
from codegen_pax.data.rules import near_duplicates

EXACT, NEAR = "exact_duplicate", "near_duplicate"

# (rule, file of indices in PASSED of the documents that it drops)
Drops = tuple[str, str]

# One range holds the digests of about this much text; they are in memory at once.
RANGE_BYTES = 4 << 30

# Records of a document and, below, of a pair of near duplicates.
DOCUMENT = np.dtype([("partition", "<i4"), ("index", "<i4")])
PAIR = np.dtype([("first", DOCUMENT), ("other", DOCUMENT)])

# Pairs that are compared at once: 64 MiB of MinHashes.
PAIRS_AT_ONCE = 1 << 16
# Documents that share a band are compared with the first of them; those that are unlike it are
# compared with the first of those that remain, and so on, at most this many times (our choice).
# The limit bounds the time for a band that thousands of documents share without being alike.
_MAX_ROUNDS = 64


def num_ranges(num_bytes: int) -> int:
    """Return the number of ranges that the hashes of `num_bytes` of inputs are divided into."""
    return max(1, -(-num_bytes // RANGE_BYTES))


def _load(files: Iterable[str], dtype: np.dtype) -> tuple[np.ndarray, np.ndarray]:
    """Return (entries, number of the partition of each), in the order of partitions and indices."""
    # A file is named by its partition and its number in the partition.
    ordered = sorted(map(epath.Path, files), key=lambda path: [*map(int, path.name.split("-"))])
    arrays = [np.frombuffer(path.read_bytes(), dtype) for path in ordered]
    partitions = [int(path.name.partition("-")[0]) for path in ordered]
    return np.concatenate(arrays), np.repeat(partitions, [len(array) for array in arrays])


def _write_drops(
    rule: str, name: str, partitions: np.ndarray, indices: np.ndarray, settings: Settings
) -> Iterator[tuple[int, Drops]]:
    """Write the indices to drop of each partition; yield (partition, drops)."""
    for partition in np.unique(partitions):
        path = str(settings.work_folder / rule / name / f"{partition:06d}")
        steps.write(path, np.sort(indices[partitions == partition]).astype("<i4").tobytes())
        yield int(partition), (rule, path)


def describe(range_files: tuple[int, Iterable[str]]) -> str:
    """Describe a range."""
    return f"range {range_files[0]} of the digests"


def find_exact(
    range_files: tuple[int, Iterable[str]], settings: Settings
) -> Iterator[tuple[int, Drops]]:
    """Find all but the first of equal documents in a range of digests.

    Args:
        range_files: (range, its files of DIGEST).
        settings: Settings of the corpus.

    Yields:
        (partition, drops).
    """
    number, files = range_files
    entries, partitions = _load(files, DIGEST)
    _, firsts = np.unique(entries["digest"], return_index=True)
    is_copy = np.ones(len(entries), bool)
    is_copy[firsts] = False
    indices = entries["index"][is_copy]
    yield from _write_drops(EXACT, f"{number:05d}", partitions[is_copy], indices, settings)


def find_near_pairs(range_files: tuple[int, Iterable[str]], settings: Settings) -> str:
    """Find near duplicates that share a band in a range.

    Args:
        range_files: (range, its files of BAND).
        settings: Settings of the corpus.

    Returns:
        The path of a file of PAIR.
    """
    number, files = range_files
    entries, partitions = _load(files, BAND)
    order = np.argsort(entries["band"], kind="stable")
    bands = entries["band"][order]
    documents = np.empty(len(entries), DOCUMENT)
    documents["partition"], documents["index"] = partitions[order], entries["index"][order]
    near = [np.empty(0, PAIR)]
    for _ in range(_MAX_ROUNDS):
        first = np.searchsorted(bands, bands)  # where the documents of the same band begin
        others = np.flatnonzero(first != np.arange(len(bands)))
        if not len(others):
            break
        pairs = np.empty(len(others), PAIR)
        pairs["first"], pairs["other"] = documents[first[others]], documents[others]
        # Most pairs share more than one band.
        pairs, inverse = np.unique(pairs, return_inverse=True)
        is_near = _are_similar(pairs, settings)
        near.append(pairs[is_near])
        others = others[~is_near[inverse]]
        bands, documents = bands[others], documents[others]
    path = str(settings.work_folder / "pairs" / f"{number:05d}")
    steps.write(path, np.unique(np.concatenate(near)).tobytes())
    return path


def _are_similar(pairs: np.ndarray, settings: Settings) -> np.ndarray:
    """Return which of `pairs` (PAIR [n]) are near duplicates: bool [n]."""
    is_similar = np.empty(len(pairs), bool)
    for start in range(0, len(pairs), PAIRS_AT_ONCE):
        some = slice(start, start + PAIRS_AT_ONCE)
        first, other = (_signatures(pairs[side][some], settings) for side in ("first", "other"))
        is_similar[some] = near_duplicates.are_similar(first, other)
    return is_similar


def _signatures(documents: np.ndarray, settings: Settings) -> np.ndarray:
    """Return the MinHashes of documents (DOCUMENT [n]): uint32 [n, PERMUTATIONS]."""
    size = near_duplicates.SIGNATURE.itemsize
    signatures = np.empty((len(documents), near_duplicates.PERMUTATIONS), np.uint32)
    order = np.lexsort((documents["index"], documents["partition"]))
    columns = (documents["partition"][order], documents["index"][order], order)
    requests = zip(*(column.tolist() for column in columns), strict=True)
    for partition, group in itertools.groupby(requests, key=lambda request: request[0]):
        with signature_file(settings, partition).open("rb") as file:
            for _, index, row in group:
                file.seek(index * size)
                signatures[row] = np.frombuffer(file.read(size), "<u4")
    return signatures


def find_near(files: Iterable[str], settings: Settings) -> Iterator[tuple[int, Drops]]:
    """Find all but the first document of each cluster that pairs of near duplicates connect.

    All pairs are in memory at once: some hundred bytes for each near duplicate of the corpus.

    Args:
        files: Files of PAIR.
        settings: Settings of the corpus.

    Yields:
        (partition, drops).
    """
    pairs = (
        (tuple(pair["first"].tolist()), tuple(pair["other"].tolist()))
        for path in sorted(files)
        for pair in np.frombuffer(epath.Path(path).read_bytes(), PAIR)
    )
    dropped = np.array(sorted(near_duplicates.all_but_first(pairs)), np.int32).reshape(-1, 2)
    yield from _write_drops(NEAR, "all", dropped[:, 0], dropped[:, 1], settings)
