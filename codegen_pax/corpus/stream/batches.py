"""Tokens to the fields of a Pax batch, for a whole batch at once.

The fields, their meaning and their types are those of `features.ROW_FIELDS`; the tests compare.
"""

from __future__ import annotations

import numpy as np


def fields(
    ids: np.ndarray,
    lengths: np.ndarray,
    predicted: np.ndarray | None = None,
    apart: int | None = None,
) -> dict[str, np.ndarray]:
    """The fields of a batch, [B, T] each.

    Args:
      ids: int32 [B, T].
      lengths: how many of them are real, [B].
      predicted: whether each is to be predicted, bool [B, T]; all if None. The first never is.
      apart: the id that ends a document, if the documents of a row do not see each other.
    """
    position = np.broadcast_to(np.arange(ids.shape[1], dtype=np.int32), ids.shape)
    real = position < lengths[:, None]
    ids = np.where(real, ids, 0)
    labels = np.zeros_like(ids)
    labels[:, :-1] = ids[:, 1:]
    weights = np.zeros(ids.shape, np.float32)
    weights[:, :-1] = real[:, 1:] if predicted is None else real[:, 1:] & predicted[:, 1:]
    segments = real.astype(np.int32)
    positions = position * segments
    if apart is not None:
        ends = real & (ids == apart)
        weights *= ~ends
        before = np.cumsum(ends, axis=1, dtype=np.int32) - ends  # ends of text before each token
        # Where its document begins: behind the last end of text before it.
        begins = np.where(ends, position + 1, 0)[:, :-1]
        start = np.zeros_like(position)
        start[:, 1:] = np.maximum.accumulate(begins, axis=1)
        segments, positions = (before + 1) * segments, (position - start) * segments
    return {
        "ids": ids,
        "labels": labels,
        "weights": weights,
        "paddings": 1 - real.astype(np.float32),
        "segment_ids": segments.astype(np.int32),
        "segment_pos": positions.astype(np.int32),
    }
