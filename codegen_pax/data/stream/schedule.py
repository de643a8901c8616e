"""Which row stands at which position of an endless training stream.

- Positions come in blocks of `BLOCK`. In each block every task has exactly its share of them, and
  the order of the tasks in it is a permutation of its own.
- The rows of a task are counted from the beginning of the stream. Each time all have been counted
  is an epoch, and every row is seen once an epoch.
- A task is read by pages of consecutive rows, so that a bucket is asked for pages and not for rows.
  Each epoch has a permutation of its own of the pages, and one of the rows of every page; a last
  page that is short comes last. A task that is one page has all its rows permuted together.

A permutation is a Feistel network on the smallest power of four that holds the numbers; what falls
outside is sent through again until it falls inside (cycle walking: Black and Rogaway, 2002). All of
it is integer arithmetic on arrays of 64 bits: the same on any machine and for any version.

grain (0.2.16) has shuffling and mixing by index ready made, a row at a time: 0.76 ms each here.
This works on whole batches: in one of 512 rows a row takes a fiftieth of that.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping

import numpy as np

from codegen_pax.errors import InvalidValueError

BLOCK = 1_000
_ROUNDS = 6

# splitmix64 (Steele, Lea and Flood, 2014): its increment and its two multipliers.
_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_MIX = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))


def _mixed(values: np.ndarray) -> np.ndarray:
    """A hash of 64 bits of each value: uint64 in and out."""
    values = values + _GAMMA
    values = (values ^ (values >> np.uint64(30))) * _MIX[0]
    values = (values ^ (values >> np.uint64(27))) * _MIX[1]
    return values ^ (values >> np.uint64(31))


def _key(*numbers: int | np.ndarray) -> np.ndarray:
    """One key out of several numbers; arrays give a key each."""
    key = np.zeros(1, np.uint64)
    for number in numbers:
        key = _mixed(key ^ np.asarray(number, np.uint64))
    return key


def permuted(values: np.ndarray, size: int, key: np.ndarray) -> np.ndarray:
    """Where each value goes in a permutation of 0 ... size - 1.

    Args:
      values: int64 [n], each from 0 to size - 1.
      size: of the permutation.
      key: uint64 [n] or [1]: which permutation; two values with the same key never meet.

    Returns:
      int64 [n].
    """
    half = np.uint64(max(1, (int(size - 1).bit_length() + 1) // 2))
    mask = np.uint64((1 << int(half)) - 1)
    out = values.astype(np.uint64)
    keys = np.broadcast_to(key, out.shape)
    rounds = np.arange(_ROUNDS, dtype=np.uint64) * _GAMMA
    walking = np.arange(out.size)
    while walking.size:
        left, right = out[walking] >> half, out[walking] & mask
        for number in range(_ROUNDS):
            round_key = _mixed(keys[walking] + rounds[number])
            left, right = right, left ^ (_mixed(right ^ round_key) & mask)
        out[walking] = left << half | right
        walking = walking[out[walking] >= size]
    return out.astype(np.int64)


def _rows_of_epoch(
    places: np.ndarray, size: int, page_rows: int, *numbers: int | np.ndarray
) -> np.ndarray:
    """The row at each place of an epoch.

    Args:
      places: int64 [n], each from 0 to size - 1.
      size: how many rows the task has.
      page_rows: how many of them a page has.
      numbers: which order, as for `_key`.

    Returns:
      int64 [n].
    """
    page, inside = np.divmod(places, page_rows)
    pages, rest = divmod(size, page_rows)
    whole = page < pages
    keys = np.broadcast_to(_key(*numbers), page.shape)
    page[whole] = permuted(page[whole], pages, keys[whole])
    keys = np.broadcast_to(_key(*numbers, page), page.shape)
    for part, rows in ((whole, page_rows), (~whole, rest)):
        inside[part] = permuted(inside[part], rows, keys[part])
    return page * page_rows + inside


def shares(rates: Mapping[str, float]) -> dict[str, int]:
    """How many of `BLOCK` positions each task has: by largest remainder, at least one each.

    A task whose rate asks for less than one position has its rows repeated more often than that.

    Raises ValueError for no task, a rate that is not above 0, or more tasks than positions.
    """
    if not rates or len(rates) > BLOCK or min(rates.values()) <= 0:
        raise InvalidValueError(
            f"rates of 1 to {BLOCK} tasks, above 0, were wanted; found {dict(rates)}"
        )
    total = sum(rates.values())
    exact = {name: BLOCK * rate / total for name, rate in rates.items()}
    found = {name: max(1, int(value)) for name, value in exact.items()}
    while (over := sum(found.values()) - BLOCK) != 0:
        step = 1 if over < 0 else -1
        movable = [name for name in found if step > 0 or found[name] > 1]
        # The one that is furthest below, or above, what it should have; the first of equal ones.
        name = max(movable, key=lambda name: step * (exact[name] - found[name]))
        found[name] += step
    return found


@dataclasses.dataclass(frozen=True)
class Schedule:
    """A stream over several tasks.

    Attributes:
      sizes: task -> how many rows it has.
      shares: task -> how many of `BLOCK` positions it has.
      page_rows: task -> how many of its rows a page has.
      seed: of all permutations.
    """

    sizes: Mapping[str, int]
    shares: Mapping[str, int]
    page_rows: Mapping[str, int]
    seed: int

    @functools.cached_property
    def _pattern(self) -> tuple[np.ndarray, np.ndarray]:
        """A block with its tasks one after another: their numbers, and each one's count in it."""
        counts = [self.shares[name] for name in self.sizes]
        tasks = np.repeat(np.arange(len(counts)), counts)
        return tasks, np.concatenate([np.arange(count) for count in counts])

    def _ordered(self, blocks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """At each place of some blocks: the task, and how often it is in the block before that.

        int64 [blocks, BLOCK] each.
        """
        tasks, counts = self._pattern
        shape = (len(blocks), BLOCK)
        inside = np.broadcast_to(np.arange(BLOCK), shape).ravel()
        keys = np.repeat(_key(self.seed, 0, blocks), BLOCK)
        task = tasks[permuted(inside, BLOCK, keys)].reshape(shape)
        before = np.empty_like(task)
        # The places of the first task in their order, then those of the second, and so on.
        places = np.argsort(task, axis=1, kind="stable")
        np.put_along_axis(before, places, np.broadcast_to(counts, shape), axis=1)
        return task, before

    def rows(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(number of the task in `sizes`, row of it) at each position: int64 [n] each."""
        block, inside = np.divmod(positions.astype(np.int64), BLOCK)
        blocks, which = np.unique(block, return_inverse=True)
        tasks, before = self._ordered(blocks)
        task, before = tasks[which, inside], before[which, inside]
        row = np.empty_like(task)
        for number, (name, size) in enumerate(self.sizes.items()):
            of_task = task == number
            count = block[of_task] * self.shares[name] + before[of_task]
            epoch, within = np.divmod(count, size)
            row[of_task] = _rows_of_epoch(
                within, size, self.page_rows[name], self.seed, number + 1, epoch
            )
        return task, row
