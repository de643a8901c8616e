"""Tokens to the fields of a Pax batch, for a whole batch at once.

Letters: B rows, T tokens in a row. Every field is [B, T]:

- `ids` int32; `labels` int32: `ids` one place to the left.
- `weights` float32: 1 where the label counts. The last token of a row has no label: weight 0.
- `paddings` float32: 1 behind the end of a short row. From the row's length, never from an id:
  id 0 is `!` in this vocabulary.
- `segment_ids` int32: 1 for the text, 0 for padding; `segment_pos` int32: 0, 1, 2 ... in the text.

Documents of a row that do not see each other are one segment each, counted from 1. The end of text
closes its document, and its own label, the first token of the next one, has weight 0. A document
that was cut by the row before starts again at position 0.
"""

from __future__ import annotations

import numpy as np

FIELDS = {
    "ids": np.dtype(np.int32),
    "labels": np.dtype(np.int32),
    "weights": np.dtype(np.float32),
    "paddings": np.dtype(np.float32),
    "segment_ids": np.dtype(np.int32),
    "segment_pos": np.dtype(np.int32),
}


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
