"""From rows of tokens to the fields of a Pax batch: the one place where this happens.

Training and evaluation call `fields` (through `mixture_rows.MixtureRows`). Decoding calls
`prompt_fields`, which adds the lengths of the prompts: through `PromptConverter` for a seqio task,
directly for `codegen-pax sample`. `RowSpecs` gives Pax the shapes of the same fields.

Letters: B rows, T tokens in a row, P tokens in a prompt. Every field is [B, T]:

- `ids` int32, 0 where the row has ended; `labels` int32: `ids` shifted one place to the left.
- `weights` float32: 1 where the label counts. The last token of a row has no label: weight 0.
- `paddings` float32: 1 after the end of a short row. It is computed from the row's length, never
  from an id: id 0 is `!` in this vocabulary.
- `segment_ids` int32: 1 for the text, 0 for padding; `segment_pos` int32: 0, 1, 2 ... in the text.

With packing, attention does not cross documents: each document of a row is a segment, numbered
from 1. The end-of-text token belongs to the document that it ends; its label, the first token of
the next document, has weight 0. A document that began in an earlier row starts again at position 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, NamedTuple

import jax
import numpy as np
import seqio
import tensorflow as tf
from praxis import base_input, py_utils

from codegen_pax.errors import InvalidValueError

FIELD_DTYPES = {
    "ids": np.dtype(np.int32),
    "labels": np.dtype(np.int32),
    "weights": np.dtype(np.float32),
    "paddings": np.dtype(np.float32),
    "segment_ids": np.dtype(np.int32),
    "segment_pos": np.dtype(np.int32),
}


class TokenRows(NamedTuple):
    """Rows of tokens.

    Attributes:
        ids: int32 [B, T]; ids after the end of a row are ignored.
        lengths: The number of tokens of each row, int64 [B].
        is_predicted: Whether each token is predicted, bool [B, T]; None if all are. The first token
            of a row is never predicted.
    """

    ids: np.ndarray
    lengths: np.ndarray
    is_predicted: np.ndarray | None = None


def fields(rows: TokenRows, document_end_id: int | None = None) -> dict[str, np.ndarray]:
    """Return the fields of a batch, [B, T] each.

    Args:
        rows: The tokens.
        document_end_id: The id that ends a document, for packing; None without packing.
    """
    shape = rows.ids.shape
    position = np.broadcast_to(np.arange(shape[1], dtype=np.int32), shape)
    is_token = position < rows.lengths[:, None]
    ids = np.where(is_token, rows.ids, 0)
    labels = np.zeros_like(ids)
    labels[:, :-1] = ids[:, 1:]
    has_label = is_token if rows.is_predicted is None else is_token & rows.is_predicted
    weights = np.zeros(shape, np.float32)
    weights[:, :-1] = has_label[:, 1:]
    segment_ids = is_token.astype(np.int32)
    segment_pos = position * segment_ids
    if document_end_id is not None:
        is_end = is_token & (ids == document_end_id)
        weights *= ~is_end
        ends_before = np.cumsum(is_end, axis=1, dtype=np.int32) - is_end
        # A document starts after the last end of text before it, or at the start of the row.
        document_start = np.zeros_like(position)
        document_start[:, 1:] = np.maximum.accumulate(
            np.where(is_end, position + 1, 0)[:, :-1], axis=1
        )
        segment_pos = (position - document_start) * segment_ids
        segment_ids = (ends_before + 1) * segment_ids
    return {
        "ids": ids,
        "labels": labels,
        "weights": weights,
        "paddings": 1 - is_token.astype(np.float32),
        "segment_ids": segment_ids.astype(np.int32),
        "segment_pos": segment_pos.astype(np.int32),
    }


def prompt_fields(
    prompts: Sequence[Sequence[int] | np.ndarray], prompt_length: int
) -> dict[str, np.ndarray]:
    """Return the fields of prompts, padded on the right: [B, P] each, and `prefix_lengths`.

    Args:
        prompts: The ids of each prompt.
        prompt_length: P.

    Returns:
        The fields, and in `prefix_lengths` the number of tokens of each prompt, int32 [B].

    Raises:
        ValueError: A prompt is longer than P; truncating it would change the question.
    """
    lengths = np.array([len(prompt) for prompt in prompts], np.int32)
    if lengths.max(initial=0) > prompt_length:
        raise InvalidValueError(
            f"found a prompt of {lengths.max()} tokens; expected at most {prompt_length}"
        )
    ids = np.zeros((len(prompts), prompt_length), np.int32)
    for row, prompt in zip(ids, prompts, strict=True):
        row[: len(prompt)] = prompt
    return fields(TokenRows(ids, lengths)) | {"prefix_lengths": lengths}


class RowSpecs(base_input.BaseInputSpecsProvider):
    """The shapes Pax initialises a network with, so that building an experiment reads no data.

    Attributes:
        batch_size: Rows that one process reads.
        row_length: T.
    """

    batch_size: int = 0
    row_length: int = 0

    def get_input_specs(self) -> py_utils.NestedMap:
        """Return the shape and type of every field, [B, T]."""
        shape = (self.batch_size, self.row_length)
        return py_utils.NestedMap(
            {name: jax.ShapeDtypeStruct(shape, dtype) for name, dtype in FIELD_DTYPES.items()}
        )


_FeatureSpec = seqio.FeatureConverter.FeatureSpec


class PromptConverter(seqio.FeatureConverter):
    """Converts prompts, `inputs` [p] with p <= P, to their fields, [P] each, and `prefix_lengths`.

    A longer prompt is an error when it is read.
    """

    TASK_FEATURES: ClassVar = {"inputs": _FeatureSpec(dtype=tf.int32)}
    MODEL_FEATURES: ClassVar = {
        name: _FeatureSpec(dtype=tf.as_dtype(dtype)) for name, dtype in FIELD_DTYPES.items()
    } | {"prefix_lengths": _FeatureSpec(dtype=tf.int32, rank=0)}
    PACKING_FEATURE_DTYPES = None

    def __init__(self):
        super().__init__(pack=False)

    def get_model_feature_lengths(
        self, task_feature_lengths: Mapping[str, int]
    ) -> Mapping[str, int]:
        """Return the length of every field: P."""
        return dict.fromkeys(self.MODEL_FEATURES, task_feature_lengths["inputs"])

    def _convert_features(
        self, ds: tf.data.Dataset, task_feature_lengths: Mapping[str, int]
    ) -> tf.data.Dataset:
        length = task_feature_lengths["inputs"]

        def fields_of_prompt(prompt: np.ndarray) -> list[np.ndarray]:
            batch = prompt_fields([prompt], length)
            return [batch[name][0] for name in self.MODEL_FEATURES]

        @tf.autograph.experimental.do_not_convert
        def convert(example: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
            dtypes = [spec.dtype for spec in self.MODEL_FEATURES.values()]
            arrays = tf.numpy_function(
                fields_of_prompt, [example["inputs"]], dtypes, stateful=False
            )
            return {
                name: tf.ensure_shape(array, [length] * spec.rank)
                for (name, spec), array in zip(self.MODEL_FEATURES.items(), arrays, strict=True)
            }

        return ds.map(convert, num_parallel_calls=tf.data.AUTOTUNE)
