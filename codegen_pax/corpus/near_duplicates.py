"""Near duplicates by MinHash and locality-sensitive hashing, with datasketch.

Two files whose sets of shingles have a Jaccard similarity of about `THRESHOLD` or more fall into
one cluster, of which the first file is kept. The threshold and the shingles of five words are those
of BigCode's The Stack (arXiv 2211.15533, section 3.3).
"""

from __future__ import annotations

import functools
import re
import zlib
from collections.abc import Hashable, Iterable
from typing import TypeVar

THRESHOLD = 0.85
PERMUTATIONS = 128  # ours: datasketch's own default
SHINGLE_WORDS = 5
SEED = 1

_WORD = re.compile(r"\w+")

Key = TypeVar("Key", bound=Hashable)


@functools.cache
def _bands() -> tuple[int, int]:
    """How many bands, and values in each, tell pairs at the threshold apart best."""
    from datasketch import MinHashLSH

    index = MinHashLSH(threshold=THRESHOLD, num_perm=PERMUTATIONS)
    return index.b, index.r


def _shingles(text: str) -> set[bytes]:
    words = _WORD.findall(text)
    count = max(1, len(words) - SHINGLE_WORDS + 1)
    return {" ".join(words[n : n + SHINGLE_WORDS]).encode() for n in range(count)}


def bands(text: str) -> list[bytes]:
    """The bands of a text's MinHash: near duplicates have one or more in common.

    A band begins with its number, so bands of different places never meet.
    """
    from datasketch import MinHash

    sketch = MinHash(num_perm=PERMUTATIONS, seed=SEED, hashfunc=zlib.crc32)
    sketch.update_batch(_shingles(text))
    number, size = _bands()
    values = sketch.hashvalues
    return [
        band.to_bytes(1, "big") + values[band * size : (band + 1) * size].astype("<u4").tobytes()
        for band in range(number)
    ]


def dropped(pairs: Iterable[tuple[Key, Key]]) -> set[Key]:
    """All but the first (by the keys' order) of each cluster that `pairs` connect."""
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
