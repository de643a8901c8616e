"""The vocabularies as seqio wants them: in Python, inside a tf.data graph, and pickled for Beam.

`encode` gives the ids of `transformers`' GPT2Tokenizer or CodeGenTokenizer on any text, and so
takes the characters `<|endoftext|>` for the end of a text. `encode_document` differs in that alone:
there they are thirteen ordinary characters. Corpora are read with `encode_document`.

Trap: seqio wants 0 as the padding id, and says so here too (`pad_id`), but in GPT-2 id 0 is `!`.
Nothing in this project may take padding from an id; it comes from lengths.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence

import numpy as np
import seqio
import tensorflow as tf

from codegen_pax.text import tokenizer


class CodeGenVocabulary(seqio.Vocabulary):
    """A seqio vocabulary over GPT-2's BPE: 'gpt2' (50,257 ids) or 'codegen' (50,295 ids).

    It holds its name and nothing else: the tokenizer is made once in each process on first use, so
    an instance is cheap to make, to compare and to pickle, and reads no file before it is used.

    `decode(encode(text)) == text` for any text of Unicode scalar values (a lone surrogate is not
    text: encoding one raises). `decode` gives back all ids, what follows an end of text included,
    unlike other seqio vocabularies: cut generated ids at their lengths. Bytes that are not UTF-8
    become U+FFFD, and an id beyond the vocabulary becomes nothing, as in `transformers`.
    """

    def __init__(self, name: str):
        """Raises ValueError if `name` is not a vocabulary."""
        super().__init__()
        self.name = tokenizer.check_name(name)

    @property
    def bos_id(self) -> None:
        return None

    @property
    def eos_id(self) -> int:
        return tokenizer.END_OF_TEXT_ID

    @property
    def unk_id(self) -> None:
        return None

    @property
    def _base_vocab_size(self) -> int:
        return tokenizer.SIZES[self.name]

    def encode_document(self, text: str) -> list[int]:
        """Ids of a whole document: as `encode`, but `<|endoftext|>` is ordinary text."""
        return tokenizer.load(self.name, literal=True).encode(text).ids

    def encode_tf(self, s: tf.Tensor | tf.RaggedTensor) -> tf.Tensor | tf.RaggedTensor:
        """UTF-8 strings to int32 ids, in a graph: [] -> [n], [k] -> ragged [k, n], ragged too."""
        return _encode_tf(self.name, s, literal=False)

    def encode_document_tf(self, s: tf.Tensor | tf.RaggedTensor) -> tf.Tensor | tf.RaggedTensor:
        """`encode_document` in a graph; shapes as in `encode_tf`."""
        return _encode_tf(self.name, s, literal=True)

    def decode(self, ids: Iterable[int]) -> str:
        """All ids to text; integers, an array or a tensor of shape [n]."""
        ids = ids.numpy() if isinstance(ids, tf.Tensor) else ids
        return self._decode(ids.tolist() if isinstance(ids, np.ndarray) else list(ids))

    def decode_tf(self, ids: tf.Tensor | tf.RaggedTensor) -> tf.Tensor:
        """Integer ids to UTF-8 strings, in a graph: [n] -> [], [k, n] or ragged -> [k]."""
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
    """The vocabulary 'gpt2' or 'codegen', one instance a process; ValueError for another name."""
    return CodeGenVocabulary(name)


# The graph functions are declared stateless: tf.data refuses to checkpoint a stateful one, and the
# exact resume of a run rests on that checkpoint. Autograph has nothing to convert in them.


@tf.autograph.experimental.do_not_convert
def _encode_tf(name: str, s: tf.Tensor | tf.RaggedTensor, *, literal: bool):
    if isinstance(s, tf.RaggedTensor):
        return s.with_values(_encode_tf(name, s.values, literal=literal))
    s = tf.convert_to_tensor(s)

    def encode_one(text: bytes) -> np.ndarray:
        # Without the offsets that `encode` also works out: a third of the time.
        words = tokenizer.load(name, literal=literal)
        return np.asarray(words.encode_batch_fast([text.decode("utf-8")])[0].ids, np.int32)

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
    raise ValueError(f"strings to encode have shape {s.shape}; wanted rank 0 or 1, or ragged")


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
    raise ValueError(f"ids to decode have shape {ids.shape}; wanted rank 1 or 2")
