"""Near duplicates by MinHash and locality-sensitive hashing, with datasketch.

A file is the set of its shingles of five tokens: words, and runs of other characters, so that files
that differ only in operators are different. Two files with a band of their MinHashes in common are
compared by all of their MinHashes; if the Jaccard similarity that these estimate is `THRESHOLD` or
more, the files fall into one cluster, of which the first is kept. The threshold and the shingles of
five are those of BigCode's The Stack (arXiv 2211.15533, section 3.3), whose tokens are words only.

The result depends on chance: the estimate has a standard error of 0.03 (sqrt(s (1 - s) / 128)), and
two files may have no band in common. Of 40,000 simulated pairs of similarity s, this share was
joined:

    s        0.70     0.75    0.80   0.85   0.90   0.95
    joined   0.00%    0.3%    8%     52%    96%    99.98%

A cluster is a chain of similar pairs: its ends may be less similar than its neighbours are.
"""

from __future__ import annotations

import collections
import itertools
import re
import zlib
from collections.abc import Iterable, Iterator
from typing import TypeVar

import numpy as np

THRESHOLD = 0.85
PERMUTATIONS = 128  # ours: datasketch's own default
SHINGLE_TOKENS = 5
SEED = 1
# Two texts of similarity s share one of b bands of r values with probability 1 - (1 - s^r)^b. Of
# all b and r with b r <= PERMUTATIONS, these minimise, at the threshold t,
#     0.1 * integral from 0 to t of 1 - (1 - s^r)^b  +  0.9 * integral from t to 1 of (1 - s^r)^b,
# which is what datasketch does (`MinHashLSH`, `weights=(0.1, 0.9)`). The first term, false
# positives, only costs comparisons; the second, missed pairs, is never corrected (Leskovec,
# Rajaraman and Ullman, Mining of Massive Datasets, section 3.4).
BANDS, BAND_VALUES = 11, 11
_BATCH_SHINGLES = 4_096  # hashed at once

# A MinHash: for each permutation, the smallest hash of a shingle.
SIGNATURE = np.dtype(("<u4", PERMUTATIONS))
_NO_SHINGLE = np.iinfo(np.uint32).max  # the MinHash of a text without shingles, in every place

_TOKEN = re.compile(r"\w+|[^\w\s]+")

Key = TypeVar("Key", int, tuple[int, int])


def _shingles(text: str) -> Iterator[bytes]:
    """Yield every shingle, with repeats, which do not change the smallest hash."""
    tokens: collections.deque[str] = collections.deque(maxlen=SHINGLE_TOKENS)
    is_short = True
    for match in _TOKEN.finditer(text):
        tokens.append(match[0])
        if len(tokens) == SHINGLE_TOKENS:
            is_short = False
            yield " ".join(tokens).encode()
    if tokens and is_short:
        yield " ".join(tokens).encode()


def signature(text: str) -> np.ndarray:
    """Return the MinHash of a text: uint32 [PERMUTATIONS]."""
    from datasketch import MinHash

    sketch = MinHash(num_perm=PERMUTATIONS, seed=SEED, hashfunc=zlib.crc32)
    shingles = _shingles(text)
    # datasketch holds several KB for each shingle of a batch: 30 GB for 16 MiB of single letters.
    while batch := set(itertools.islice(shingles, _BATCH_SHINGLES)):
        sketch.update_batch(batch)
    return sketch.hashvalues.astype("<u4")


def bands(signature: np.ndarray) -> list[bytes]:
    """Return the bands of a MinHash; near duplicates usually share at least one.

    A band begins with its number, so that bands at different places never match. A text without
    tokens has no bands and is a near duplicate of no other.

    Args:
        signature: uint32 [PERMUTATIONS].
    """
    if (signature == _NO_SHINGLE).all():
        return []
    return [
        band.to_bytes(1, "big") + signature[band * BAND_VALUES : (band + 1) * BAND_VALUES].tobytes()
        for band in range(BANDS)
    ]


def are_similar(first: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return which pairs of MinHashes [n, PERMUTATIONS] belong to near duplicates: bool [n]."""
    return (first == other).mean(axis=1) >= THRESHOLD


def all_but_first(pairs: Iterable[tuple[Key, Key]]) -> set[Key]:
    """Return all but the smallest key of each cluster that `pairs` connect."""
    parents: dict[Key, Key] = {}

    def root(key: Key) -> Key:
        while (parent := parents.setdefault(key, key)) != key:
            parents[key] = parents[parent]
            key = parent
        return key

    for left, right in pairs:
        first, second = sorted((root(left), root(right)))
        parents[second] = first
    return {key for key in parents if root(key) != key}
