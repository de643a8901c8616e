"""Prompts to the fields of a Pax batch, as a seqio feature converter.

What they mean, and how they are made: `stream/batches.py`. Rows of training and evaluation come to
it without TensorFlow.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import seqio
import tensorflow as tf

from codegen_pax.data.stream import batches

_Spec = seqio.FeatureConverter.FeatureSpec
_FIELDS = {name: _Spec(dtype=tf.as_dtype(kind)) for name, kind in batches.FIELDS.items()}


class Prompts(seqio.FeatureConverter):
    """Prompts to decode, `inputs` [p] with p <= P, padded on the right.

    The fields of a row, and `prefix_lengths` int32 []: the prompt's length. A longer prompt is an
    error when it is read: to cut it would change the question.
    """

    TASK_FEATURES: ClassVar = {"inputs": _Spec(dtype=tf.int32)}
    MODEL_FEATURES: ClassVar = _FIELDS | {"prefix_lengths": _Spec(dtype=tf.int32, rank=0)}
    PACKING_FEATURE_DTYPES = None

    def __init__(self):
        super().__init__(pack=False)

    def get_model_feature_lengths(
        self, task_feature_lengths: Mapping[str, int]
    ) -> Mapping[str, int]:
        return dict.fromkeys(self.MODEL_FEATURES, task_feature_lengths["inputs"])

    def _convert_features(
        self, ds: tf.data.Dataset, task_feature_lengths: Mapping[str, int]
    ) -> tf.data.Dataset:
        length = task_feature_lengths["inputs"]

        def row(prompt: np.ndarray) -> list[np.ndarray]:
            ids = np.pad(prompt, (0, length - len(prompt)))[None]
            return [field[0] for field in batches.fields(ids, np.array([len(prompt)])).values()]

        @tf.autograph.experimental.do_not_convert
        def convert(example: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
            kinds = [spec.dtype for spec in _FIELDS.values()]
            made = tf.numpy_function(row, [example["inputs"]], kinds, stateful=False)
            fields = {
                name: tf.ensure_shape(field, [length])
                for name, field in zip(_FIELDS, made, strict=True)
            }
            return fields | {"prefix_lengths": tf.size(example["inputs"])}

        return ds.map(convert, num_parallel_calls=tf.data.AUTOTUNE)
