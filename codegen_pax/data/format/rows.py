"""Documents to rows, as seqio preprocessors.

The order of operations is that of the original trainer (salesforce/jaxformer): tokenise, close each
document with `<|endoftext|>`, concatenate all documents, cut the stream into rows that do not
overlap. A row of T tokens has T - 1 predictions; tokens left over after the last full row are
dropped.
"""

from __future__ import annotations

from collections.abc import Mapping

import seqio
import tensorflow as tf

from codegen_pax.errors import InvalidValueError


def tokenize_documents(
    dataset: tf.data.Dataset, output_features: Mapping[str, seqio.Feature]
) -> tf.data.Dataset:
    """Tokenise each output feature: string [] to int32 [n], with an end-of-text id if `add_eos`.

    The characters `<|endoftext|>` inside a document remain characters: no document can end itself.
    """

    def tokenize(example: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        tokenized = {}
        for name, feature in output_features.items():
            ids = feature.vocabulary.encode_document_tf(example[name])
            if feature.add_eos:
                ids = tf.concat([ids, [feature.vocabulary.eos_id]], axis=0)
            tokenized[name] = ids
        return tokenized

    return dataset.map(tokenize, num_parallel_calls=tf.data.AUTOTUNE)


def concatenate(
    dataset: tf.data.Dataset, sequence_length: Mapping[str, int] | None
) -> tf.data.Dataset:
    """Concatenate documents `targets` [n] and cut them into rows `targets` [T].

    T is `sequence_length['targets']`; without a length the documents are returned as they are. The
    dataset is streamed: less than one row is carried over from document to document.
    """
    if sequence_length is None:
        return dataset
    length = sequence_length["targets"]

    def cut(remainder: tf.Tensor, example: dict[str, tf.Tensor]):
        stream = tf.concat([remainder, example["targets"]], axis=0)
        end = tf.size(stream) // length * length
        rows = tf.reshape(stream[:end], [-1, length])
        return stream[end:], {"targets": rows}

    return dataset.scan(tf.zeros([0], tf.int32), cut).unbatch()


def drop_longer(
    dataset: tf.data.Dataset, sequence_length: Mapping[str, int] | None
) -> tf.data.Dataset:
    """Drop pairs of `inputs` and `targets` that together exceed one row of the length of `targets`.

    They are not truncated: a truncated answer would teach the model never to end it.
    """
    if sequence_length is None:
        return dataset
    length = sequence_length["targets"]
    return dataset.filter(
        lambda example: tf.size(example["inputs"]) + tf.size(example["targets"]) <= length
    )


def check_length(
    dataset: tf.data.Dataset, sequence_length: Mapping[str, int] | None
) -> tf.data.Dataset:
    """Return prepared rows unchanged if they have the requested length.

    Raises:
        ValueError: They have another length: truncating them would lose text, padding them would
            waste time.
    """
    shapes = dataset.element_spec
    actual = shapes.get("answers", shapes["targets"]).shape
    if sequence_length is None or actual[0] in (None, sequence_length["targets"]):
        return dataset
    raise InvalidValueError(
        f"rows of {sequence_length['targets']} tokens were asked for, and the corpus was prepared"
        f" with rows of {actual[0]}: prepare it with --row-length {sequence_length['targets']}, or"
        f" declare row_length={actual[0]} in an experiment of your own, at most its size's context"
    )
