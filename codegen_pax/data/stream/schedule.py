"""Which row is at which position of an endless training stream.

- Positions are divided into blocks of `BLOCK`. In each block every task has exactly its share of
  the positions, and each block has its own permutation of the tasks.
- The rows of a task are counted from the beginning of the stream. An epoch ends each time all rows
  have been read, and every row is read once an epoch.
- A task is read in pages of consecutive rows, so that each request to object storage fetches a page
  and not a row. Each epoch has its own permutation of the pages, and of the rows of each page; a
  short last page comes last. If a task is a single page, all its rows are permuted together.

A permutation is a Feistel network on the smallest power of four that holds the numbers; a result
outside the range is permuted again until it falls inside (cycle walking: Black and Rogaway, 2002).
All of it is integer arithmetic on 64-bit arrays: the same on any machine and in any version.

grain (0.2.16) also has index-based shuffling and mixing, but one row at a time, at 0.76 ms each
here. This module works on whole batches: in a batch of 512 rows, a row takes 1/50 of that.
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


def _hash(values: np.ndarray) -> np.ndarray:
    """Return a 64-bit hash of each value: uint64 in and out."""
    values = values + _GAMMA
    values = (values ^ (values >> np.uint64(30))) * _MIX[0]
    values = (values ^ (values >> np.uint64(27))) * _MIX[1]
    return values ^ (values >> np.uint64(31))


def _key(*numbers: int | np.ndarray) -> np.ndarray:
    """Combine several numbers into one key, uint64 [1]; arrays [n] give keys [n]."""
    key = np.zeros(1, np.uint64)
    for number in numbers:
        key = _hash(key ^ np.asarray(number, np.uint64))
    return key


def permuted(values: np.ndarray, size: int, key: np.ndarray) -> np.ndarray:
    """Return where each value goes in a permutation of 0 ... size - 1.

    Args:
        values: int64 [n], each from 0 to size - 1.
        size: The size of the permutation.
        key: uint64 [n] or [1], which chooses the permutation; two values with the same key never
            go to the same place.

    Returns:
        int64 [n].
    """
    half = np.uint64(max(1, (int(size - 1).bit_length() + 1) // 2))
    mask = np.uint64((1 << int(half)) - 1)
    out = values.astype(np.uint64)
    keys = np.broadcast_to(key, out.shape)
    rounds = np.arange(_ROUNDS, dtype=np.uint64) * _GAMMA
    pending = np.arange(out.size)  # indices of the values that are still outside
    while pending.size:
        left, right = out[pending] >> half, out[pending] & mask
        for round_gamma in rounds:
            round_key = _hash(keys[pending] + round_gamma)
            left, right = right, left ^ (_hash(right ^ round_key) & mask)
        out[pending] = left << half | right
        pending = pending[out[pending] >= size]
    return out.astype(np.int64)


def _rows_of_epoch(
    places: np.ndarray, num_rows: int, page_rows: int, *key_numbers: int | np.ndarray
) -> np.ndarray:
    """Return the row at each place of an epoch.

    Args:
        places: int64 [n], each from 0 to num_rows - 1.
        num_rows: The number of rows of the task.
        page_rows: The number of rows of a page.
        *key_numbers: Choose the order, as in `_key`.

    Returns:
        int64 [n].
    """
    page, place_in_page = np.divmod(places, page_rows)
    num_full_pages, last_page_rows = divmod(num_rows, page_rows)
    in_full_page = page < num_full_pages
    keys = np.broadcast_to(_key(*key_numbers), page.shape)
    page[in_full_page] = permuted(page[in_full_page], num_full_pages, keys[in_full_page])
    keys = np.broadcast_to(_key(*key_numbers, page), page.shape)
    for selected, size in ((in_full_page, page_rows), (~in_full_page, last_page_rows)):
        place_in_page[selected] = permuted(place_in_page[selected], size, keys[selected])
    return page * page_rows + place_in_page


def shares(rates: Mapping[str, float]) -> dict[str, int]:
    """Return how many of `BLOCK` positions each task has: by largest remainder, at least one each.

    A task whose rate is less than one position is therefore read more often than its rate says.

    Raises:
        ValueError: There is no task, a rate is not above 0, or there are more tasks than positions.
    """
    if not rates or len(rates) > BLOCK or min(rates.values()) <= 0:
        raise InvalidValueError(
            f"found the rates {dict(rates)}; expected rates of 1 to {BLOCK} tasks, all above 0"
        )
    total = sum(rates.values())
    exact = {name: BLOCK * rate / total for name, rate in rates.items()}
    rounded = {name: max(1, int(value)) for name, value in exact.items()}
    while (excess := sum(rounded.values()) - BLOCK) != 0:
        step = 1 if excess < 0 else -1
        movable = [name for name in rounded if step > 0 or rounded[name] > 1]
        # The task furthest below, or above, its exact share; ties go to the first.
        name = max(movable, key=lambda name: step * (exact[name] - rounded[name]))
        rounded[name] += step
    return rounded


@dataclasses.dataclass(frozen=True)
class Schedule:
    """The order of a stream over several tasks.

    Attributes:
        num_rows: task -> the number of its rows.
        shares: task -> how many of `BLOCK` positions it has.
        page_rows: task -> the number of rows of a page.
        seed: The seed of all permutations.
    """

    num_rows: Mapping[str, int]
    shares: Mapping[str, int]
    page_rows: Mapping[str, int]
    seed: int

    @functools.cached_property
    def _unpermuted_block(self) -> tuple[np.ndarray, np.ndarray]:
        """A block with its tasks in order: (task, its count so far), int64 [BLOCK] each."""
        counts = [self.shares[name] for name in self.num_rows]
        tasks = np.repeat(np.arange(len(counts)), counts)
        return tasks, np.concatenate([np.arange(count) for count in counts])

    def _permuted_blocks(self, blocks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the tasks of some blocks in order.

        Args:
            blocks: The numbers of the blocks, int64 [blocks].

        Returns:
            The task at each place, and how often it occurs before that place in its block: int64
            [blocks, BLOCK] each.
        """
        tasks, counts = self._unpermuted_block
        shape = (len(blocks), BLOCK)
        places = np.broadcast_to(np.arange(BLOCK), shape).ravel()
        keys = np.repeat(_key(self.seed, 0, blocks), BLOCK)
        task = tasks[permuted(places, BLOCK, keys)].reshape(shape)
        count = np.empty_like(task)
        # The places of the first task in order, then those of the second, and so on.
        places_by_task = np.argsort(task, axis=1, kind="stable")
        np.put_along_axis(count, places_by_task, np.broadcast_to(counts, shape), axis=1)
        return task, count

    def rows(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the row at each position.

        Args:
            positions: int64 [n], counted from the beginning of the stream.

        Returns:
            The task, as an index into `num_rows`, and the number of its row: int64 [n] each.
        """
        block, place = np.divmod(positions.astype(np.int64), BLOCK)
        blocks, block_index = np.unique(block, return_inverse=True)
        tasks, counts = self._permuted_blocks(blocks)
        task, count_in_block = tasks[block_index, place], counts[block_index, place]
        row = np.empty_like(task)
        for number, (name, num_rows) in enumerate(self.num_rows.items()):
            is_task = task == number
            count = block[is_task] * self.shares[name] + count_in_block[is_task]
            epoch, place_in_epoch = np.divmod(count, num_rows)
            row[is_task] = _rows_of_epoch(
                place_in_epoch, num_rows, self.page_rows[name], self.seed, number + 1, epoch
            )
        return task, row
