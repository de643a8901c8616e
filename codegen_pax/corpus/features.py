"""Rows of ids to the fields of a Pax batch, as seqio feature converters.

Letters: T tokens in a row, P tokens in the longest prompt. Every field is [T] (or [P]) here and
[B, T] in a batch:

- `ids` int32; `labels` int32: `ids` one place to the left.
- `weights` float32: 1 where the label counts. The last token of a row has no label: weight 0.
- `paddings` float32: 1 behind the end of a short row. From the row's length, never from an id:
  id 0 is `!` in this vocabulary.
- `segment_ids` int32: 1 for the text, 0 for padding; `segment_pos` int32: 0, 1, 2 ... in the text.
- `prefix_lengths` int32 []: the length of a prompt to decode.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import seqio
import tensorflow as tf

_Spec = seqio.FeatureConverter.FeatureSpec

ROW_FIELDS = {
    "ids": _Spec(dtype=tf.int32),
    "labels": _Spec(dtype=tf.int32),
    "weights": _Spec(dtype=tf.float32),
    "paddings": _Spec(dtype=tf.float32),
    "segment_ids": _Spec(dtype=tf.int32),
    "segment_pos": _Spec(dtype=tf.int32),
}


def _row(ids: tf.Tensor, length: int, unweighted: tf.Tensor | int = 1) -> dict[str, tf.Tensor]:
    """The fields of one row.

    Args:
      ids: int32 [n], n <= length.
      length: T.
      unweighted: how many of the first ids are not to be predicted; the first never is.
    """
    size = tf.size(ids)
    position = tf.range(length)
    real = position < size
    padded = tf.ensure_shape(tf.pad(ids, [[0, length - size]]), [length])
    predicts = (position + 1 >= unweighted) & (position + 1 < size)
    return {
        "ids": padded,
        "labels": tf.concat([padded[1:], [0]], axis=0),
        "weights": tf.cast(predicts, tf.float32),
        "paddings": 1.0 - tf.cast(real, tf.float32),
        "segment_ids": tf.cast(real, tf.int32),
        "segment_pos": tf.where(real, position, 0),
    }


def _apart(row: dict[str, tf.Tensor], end_of_text: int) -> dict[str, tf.Tensor]:
    """A row whose documents do not see each other: one segment each, counted from 1.

    The end of text closes its document, and its own label, the first token of the next one, has
    weight 0. A document that was cut by the row before starts again at position 0.
    """
    ends = tf.cast(row["ids"] == end_of_text, tf.int32) * row["segment_ids"]
    segment = tf.cumsum(ends, exclusive=True)
    starts = tf.concat([[0], tf.cast(tf.where(ends > 0)[:, 0], tf.int32) + 1], axis=0)
    position = tf.range(tf.size(segment)) - tf.gather(starts, segment)
    return row | {
        "weights": row["weights"] * tf.cast(1 - ends, tf.float32),
        "segment_ids": (segment + 1) * row["segment_ids"],
        "segment_pos": position * row["segment_ids"],
    }


class _RowConverter(seqio.FeatureConverter):
    """What the converters share: their fields, and a length for each."""

    MODEL_FEATURES: ClassVar = ROW_FIELDS
    PACKING_FEATURE_DTYPES = None

    def __init__(self):
        super().__init__(pack=False)

    def get_model_feature_lengths(
        self, task_feature_lengths: Mapping[str, int]
    ) -> Mapping[str, int]:
        return dict.fromkeys(self.MODEL_FEATURES, max(task_feature_lengths.values()))


class TextRows(_RowConverter):
    """Rows of joined documents, `targets` [n] with n <= T, to the fields of a batch.

    Attributes:
      packing: False, as in the original trainer: a row is one text, and a document sees the ones
        before it in the row. True: documents do not see each other.
      end_of_text: the id that closes a document; read with `packing` only.
    """

    TASK_FEATURES: ClassVar = {"targets": _Spec(dtype=tf.int32)}

    def __init__(self, packing: bool = False, end_of_text: int = 50256):
        super().__init__()
        self.packing = packing
        self.end_of_text = end_of_text

    def _convert_features(
        self, ds: tf.data.Dataset, task_feature_lengths: Mapping[str, int]
    ) -> tf.data.Dataset:
        def convert(example: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
            row = _row(example["targets"], task_feature_lengths["targets"])
            return _apart(row, self.end_of_text) if self.packing else row

        return ds.map(convert, num_parallel_calls=tf.data.AUTOTUNE)


class AnswerRows(_RowConverter):
    """A prompt `inputs` [p] and its answer `targets` [n], p + n <= T, one pair a row.

    The loss is on the answer alone, its end of text included.
    """

    TASK_FEATURES: ClassVar = {"inputs": _Spec(dtype=tf.int32), "targets": _Spec(dtype=tf.int32)}

    def _convert_features(
        self, ds: tf.data.Dataset, task_feature_lengths: Mapping[str, int]
    ) -> tf.data.Dataset:
        def convert(example: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
            ids = tf.concat([example["inputs"], example["targets"]], axis=0)
            return _row(ids, task_feature_lengths["targets"], tf.size(example["inputs"]))

        return ds.map(convert, num_parallel_calls=tf.data.AUTOTUNE)


class ConversationRows(_RowConverter):
    """Conversations, `targets` [n] with n <= T, and `answers` [T]: 1 where a token is of an answer.

    The loss is on the answers alone, their ends of text included.
    """

    TASK_FEATURES: ClassVar = {"targets": _Spec(dtype=tf.int32), "answers": _Spec(dtype=tf.int32)}

    def _convert_features(
        self, ds: tf.data.Dataset, task_feature_lengths: Mapping[str, int]
    ) -> tf.data.Dataset:
        def convert(example: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
            row = _row(example["targets"], task_feature_lengths["targets"])
            is_label = tf.cast(tf.concat([example["answers"][1:], [0]], axis=0), tf.float32)
            return row | {"weights": row["weights"] * is_label}

        return ds.map(convert, num_parallel_calls=tf.data.AUTOTUNE)


class Prompts(_RowConverter):
    """Prompts to decode, `inputs` [p] with p <= P, padded on the right.

    A longer prompt is an error when it is read: to cut it would change the question.
    """

    TASK_FEATURES: ClassVar = {"inputs": _Spec(dtype=tf.int32)}
    MODEL_FEATURES: ClassVar = ROW_FIELDS | {"prefix_lengths": _Spec(dtype=tf.int32, rank=0)}

    def _convert_features(
        self, ds: tf.data.Dataset, task_feature_lengths: Mapping[str, int]
    ) -> tf.data.Dataset:
        def convert(example: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
            row = _row(example["inputs"], task_feature_lengths["inputs"])
            return row | {"prefix_lengths": tf.size(example["inputs"])}

        return ds.map(convert, num_parallel_calls=tf.data.AUTOTUNE)
