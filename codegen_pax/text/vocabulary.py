"""The tokenizers as seqio vocabularies: in Python, in a tf.data graph, and pickled for Beam.

`encode` gives the ids of `transformers`' GPT2Tokenizer or CodeGenTokenizer for any text, in which
the characters `<|endoftext|>` are the end-of-text token. In `encode_document` they are thirteen
ordinary characters; that is the only difference. Corpora are tokenised by `encode_document`.

The padding id of seqio is 0 (`pad_id`), but in GPT-2 id 0 is `!`: never derive padding from an id,
only from lengths.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence

import numpy as np
import seqio
import tensorflow as tf

from codegen_pax.text import tokenizer


class CodeGenVocabulary(seqio.Vocabulary):
    """A seqio vocabulary over GPT-2's BPE: 'gpt2', 'codegen' or 'codegen_2048'.

    It holds only its name, and each process creates the tokenizer once, on first use: an instance
    is cheap to create, compare and pickle.

    `decode(encode(text)) == text` for any text of Unicode scalar values (a lone surrogate is not
    text: encoding one raises). `decode` decodes all ids, including those after an end-of-text
    token, unlike other seqio vocabularies: truncate generated ids at their lengths. Bytes that are
    not UTF-8 become U+FFFD, and ids beyond the vocabulary become nothing, as in `transformers`.
    """

    def __init__(self, name: str):
        """Raises ValueError if `name` is not a vocabulary."""
        super().__init__()
        self.name = tokenizer.check_name(name)

    @property
    def bos_id(self) -> None:
        """None: GPT-2 has no token for the beginning of a sequence."""
        return None

    @property
    def eos_id(self) -> int:
        """The id of `<|endoftext|>`."""
        return tokenizer.end_of_text_id(self.name)

    @property
    def unk_id(self) -> None:
        """None: byte-level BPE encodes any text."""
        return None

    @property
    def _base_vocab_size(self) -> int:
        return tokenizer.SIZES[self.name]

    def encode_document(self, text: str) -> list[int]:
        """Encodes a document: as `encode`, but `<|endoftext|>` is ordinary text."""
        return tokenizer.load(self.name, literal=True).encode(text).ids

    def encode_tf(self, s: tf.Tensor | tf.RaggedTensor) -> tf.Tensor | tf.RaggedTensor:
        """Encodes UTF-8 strings in a graph, to int32: [] -> [n]; [k] or ragged -> ragged."""
        return _encode_tf(self.name, s, literal=False)

    def encode_document_tf(self, s: tf.Tensor | tf.RaggedTensor) -> tf.Tensor | tf.RaggedTensor:
        """Encodes documents in a graph; shapes as in `encode_tf`."""
        return _encode_tf(self.name, s, literal=True)

    def decode(self, ids: Iterable[int]) -> str:
        """Decodes ids: integers, an array or a tensor of shape [n]."""
        ids = ids.numpy() if isinstance(ids, tf.Tensor) else ids
        return self._decode(ids.tolist() if isinstance(ids, np.ndarray) else list(ids))

    def decode_tf(self, ids: tf.Tensor | tf.RaggedTensor) -> tf.Tensor:
        """Decodes ids to UTF-8 strings in a graph: [n] -> []; [k, n] or ragged -> [k]."""
        return _decode_tf(self.name, ids)

    def _encode(self, s: str) -> list[int]:
        return tokenizer.load(self.name).encode(s).ids

    def _decode(self, ids: Sequence[int]) -> str:
        return tokenizer.load(self.name).decode(ids, skip_special_tokens=False)

    def _encode_tf(self, s: tf.Tensor) -> tf.Tensor:
        return self.encode_tf(s)

    def _decode_tf(self, ids: tf.Tensor) -> tf.Tensor:
        return self.decode_tf(ids)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CodeGenVocabulary) and self.name == other.name

    def __hash__(self) -> int:
        return hash((CodeGenVocabulary, self.name))

    def __repr__(self) -> str:
        return f"CodeGenVocabulary({self.name!r})"

    def __reduce__(self):
        return vocabulary, (self.name,)


@functools.cache
def vocabulary(name: str) -> CodeGenVocabulary:
    """Returns a vocabulary by its name, one instance per process."""
    return CodeGenVocabulary(name)


# The graph functions are declared stateless: tf.data cannot checkpoint stateful ones, and exact
# resumption needs that checkpoint. Autograph has nothing to convert in them.


@tf.autograph.experimental.do_not_convert
def _encode_tf(name: str, s: tf.Tensor | tf.RaggedTensor, *, literal: bool):
    if isinstance(s, tf.RaggedTensor):
        return s.with_values(_encode_tf(name, s.values, literal=literal))
    s = tf.convert_to_tensor(s)

    def encode_one(text: bytes) -> np.ndarray:
        # Computes no offsets, and takes a third of the time of `encode`.
        bpe = tokenizer.load(name, literal=literal)
        return np.asarray(bpe.encode_batch_fast([text.decode("utf-8")])[0].ids, np.int32)

    def encode_many(texts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        batch = [text.decode("utf-8") for text in texts]
        rows = [e.ids for e in tokenizer.load(name, literal=literal).encode_batch_fast(batch)]
        flat = np.concatenate([np.asarray(row, np.int32) for row in [[], *rows]])
        return flat.astype(np.int32), np.asarray([len(row) for row in rows], np.int64)

    if s.shape.rank == 0:
        ids = tf.numpy_function(encode_one, [s], tf.int32, stateful=False)
        return tf.ensure_shape(ids, [None])
    if s.shape.rank == 1:
        flat, lengths = tf.numpy_function(encode_many, [s], [tf.int32, tf.int64], stateful=False)
        return tf.RaggedTensor.from_row_lengths(
            tf.ensure_shape(flat, [None]), tf.ensure_shape(lengths, s.shape)
        )
    raise ValueError(f"strings to encode have shape {s.shape}; expected rank 0 or 1, or ragged")


@tf.autograph.experimental.do_not_convert
def _decode_tf(name: str, ids: tf.Tensor | tf.RaggedTensor) -> tf.Tensor:
    def decode_one(row: np.ndarray) -> bytes:
        return tokenizer.load(name).decode(row.tolist(), skip_special_tokens=False).encode("utf-8")

    def decode_row(row: tf.Tensor) -> tf.Tensor:
        return tf.ensure_shape(tf.numpy_function(decode_one, [row], tf.string, stateful=False), [])

    if not isinstance(ids, tf.RaggedTensor):
        ids = tf.convert_to_tensor(ids)
    if ids.shape.rank == 1:
        return decode_row(ids)
    if ids.shape.rank == 2:
        return tf.map_fn(decode_row, ids, fn_output_signature=tf.TensorSpec([], tf.string))
    raise ValueError(f"ids to decode have shape {ids.shape}; expected rank 1 or 2")
