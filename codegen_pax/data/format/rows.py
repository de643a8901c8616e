"""Documents to rows, as seqio preprocessors.

The order is the original trainer's (salesforce/jaxformer): tokenise, close each document with
`<|endoftext|>`, join them all, cut the stream into rows that do not overlap. A row of T tokens has
T - 1 predictions; what is left after the last whole row is dropped.
"""

from __future__ import annotations

from collections.abc import Mapping

import seqio
import tensorflow as tf

from codegen_pax.errors import InvalidValueError


def tokenize_documents(
    dataset: tf.data.Dataset, output_features: Mapping[str, seqio.Feature]
) -> tf.data.Dataset:
    """String [] of each output feature to ids int32 [n], closed by the end of text if `add_eos`.

    The characters `<|endoftext|>` inside a document stay characters: no document can end itself.
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
    """Documents `targets` [n] to rows `targets` [T], T = `sequence_length['targets']`.

    Without a length the documents are left as they are. Streams: it holds less than one row.
    """
    if sequence_length is None:
        return dataset
    length = sequence_length["targets"]

    def cut(rest: tf.Tensor, example: dict[str, tf.Tensor]):
        stream = tf.concat([rest, example["targets"]], axis=0)
        whole = tf.size(stream) // length * length
        rows = tf.reshape(stream[:whole], [-1, length])
        return stream[whole:], {"targets": rows}

    return dataset.scan(tf.zeros([0], tf.int32), cut).unbatch()


def drop_longer(
    dataset: tf.data.Dataset, sequence_length: Mapping[str, int] | None
) -> tf.data.Dataset:
    """Drops pairs whose `inputs` and `targets` do not fit one row of `targets`' length together.

    An answer that was cut would teach the model never to end it.
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
    """Prepared rows as they are, if they are as long as they are asked for.

    Raises ValueError if they are not: cutting them would lose text, padding them would waste time.
    """
    shapes = dataset.element_spec
    found = shapes.get("answers", shapes["targets"]).shape
    if sequence_length is None or found[0] in (None, sequence_length["targets"]):
        return dataset
    raise InvalidValueError(
        f"rows of {sequence_length['targets']} tokens were asked for, and the corpus was prepared"
        f" with rows of {found[0]}: prepare it with --row-length {sequence_length['targets']}, or"
        f" declare row_length={found[0]} in an experiment of your own, at most its size's context"
    )
