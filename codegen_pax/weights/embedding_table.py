"""The embedding table: rows of a smaller vocabulary, and jaxformer's bias.

**Rows.** Fine-tuning with transformers often resizes the embeddings to the tokenizer's length
(50,295 rows), or to a round number above it. An import adds the missing rows, up to the 51,200 of
every size, so that they have no effect, and an export leaves them out again:

    table row = 0, projection row = 0, its bias = -32768

A logit of -32768 has the probability 0 in float32 (whose smallest number is e^-104). The loss, the
z-loss and every gradient are therefore those of the smaller network, no decoder chooses the token,
and training leaves the row unchanged, since a bias has no decay. The number is a power of two,
exact in every type of weights.

**Bias.** jaxformer trains a bias of the embedding, and Hugging Face's layout has none, so an export
adds the bias to every row of the table. Table and bias cannot be recovered from their sum, so the
export also keeps both in a separate folder, where no loader of weights looks. An import uses them
if their sum still equals the table.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from codegen_pax.errors import InvalidValueError
from codegen_pax.runs.checkpoint_arrays import Variables
from codegen_pax.text import tokenizer
from codegen_pax.weights import layouts, tensor_files
from codegen_pax.weights.layouts import EMBEDDING, EMBEDDING_BIAS, OUTPUT, OUTPUT_BIAS, Dimensions
from codegen_pax.weights.slices import Slice
from codegen_pax.weights.tensor_files import SafetensorsFile
from codegen_pax.weights.tensors import FileReader, TensorReader

ADDED_BIAS = -32768.0  # the bias of an added row
PARTS_FILE = Path("pax", "embedding.safetensors")

# The tensors that have a row for each entry of the vocabulary.
_VOCABULARY_TENSORS = tuple(weight.hugging_face for weight in (EMBEDDING, OUTPUT, OUTPUT_BIAS))


class PaddedReader(TensorReader):
    """A reader that adds rows to some tensors of another reader."""

    def __init__(self, base: TensorReader, fill_values: Mapping[str, float], num_rows: int):
        """Gives tensors `num_rows` rows.

        Args:
            base: the reader of the tensors with fewer rows.
            fill_values: the number that fills the added rows of each tensor, by name.
            num_rows: V.
        """
        super().__init__(base)
        self._fill_values = dict(fill_values)
        for name in fill_values:
            shape = (num_rows, *self.tensors[name].shape[1:])
            self.tensors[name] = dataclasses.replace(self.tensors[name], shape=shape)

    def read_rows(self, name: str, start: int, stop: int, row_shape: tuple[int, ...]) -> np.ndarray:
        """Reads some rows of a tensor; see `TensorReader`."""
        if name not in self._fill_values:
            return self.base.read_rows(name, start, stop, row_shape)
        num_stored = self.base.tensors[name].shape[0]
        dtype = self.tensors[name].numpy_dtype
        rows = np.full((stop - start, *row_shape), self._fill_values[name], dtype)
        if start < num_stored:
            end = min(stop, num_stored)
            rows[: end - start] = self.base.read_rows(name, start, end, row_shape)
        return rows


def pad_vocabulary(reader: TensorReader, vocab_size: int) -> TensorReader:
    """Gives a network of Hugging Face's layout `vocab_size` rows of the vocabulary.

    Args:
        reader: a reader of a network with at most `vocab_size` rows.
        vocab_size: V.
    """
    if reader.tensors[EMBEDDING.hugging_face].shape[0] == vocab_size:
        return reader
    fill_values = dict.fromkeys(_VOCABULARY_TENSORS, 0.0)
    fill_values[OUTPUT_BIAS.hugging_face] = ADDED_BIAS
    return PaddedReader(reader, fill_values, vocab_size)


def vocabulary_rows(reader: TensorReader) -> int | None:
    """Returns the rows that all tensors of the vocabulary have; None if one is missing.

    Raises:
        ValueError: the tensors differ in their number of rows.
    """
    tensors = reader.tensors
    if not all(name in tensors and tensors[name].shape for name in _VOCABULARY_TENSORS):
        return None
    expected = tensors[EMBEDDING.hugging_face].shape[0]
    for name in _VOCABULARY_TENSORS:
        rows = tensors[name].shape[0]
        if rows != expected:
            raise InvalidValueError(
                f"{name} has {rows:,} rows, and {EMBEDDING.hugging_face} {expected:,}: expected "
                "the same number"
            )
    return expected


def check_vocabulary_rows(rows: int, num_tokens: int, vocab_size: int) -> None:
    """Checks that a network with this number of rows can be padded.

    Args:
        rows: the number of rows of its tensors.
        num_tokens: the number of tokens of its vocabulary.
        vocab_size: V of the experiment's network.

    Raises:
        ValueError: the network has too few rows, or too many.
    """
    expected = (
        f"{vocab_size:,}" if num_tokens >= vocab_size else f"{num_tokens:,} to {vocab_size:,}"
    )
    message = f"{EMBEDDING.hugging_face} has {rows:,} rows; expected {expected}"
    if rows > vocab_size:
        raise InvalidValueError(
            f"{message}: "
            + (
                "a size of the full vocabulary, as Micro, has rows for them"
                if vocab_size < tokenizer.GPT2_SIZE
                else "there is no experiment for a vocabulary with tokens of its own"
            )
        )
    if rows < min(num_tokens, vocab_size):
        raise InvalidValueError(f"{message}: some tokens of the vocabulary have none")


def imported_rows(document: Mapping[str, Any] | None) -> int | None:
    """Returns the number of rows that a run's last import read; None if none is recorded."""
    for parent in document["parents"] if document else ():
        if parent["kind"] != "pax":
            return parent.get("vocabulary_rows")
        return imported_rows(parent.get("lineage"))
    return None


def added_rows_are_unchanged(variables: Variables, rows: int) -> bool:
    """Returns whether a checkpoint's rows beyond `rows` are still those that an import added.

    Training on a token changes its bias first.
    """
    bias = variables.read(OUTPUT_BIAS.variable)
    return bool((bias[rows:].astype(np.float32) == ADDED_BIAS).all())


def add_bias(rows: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Adds the bias [D] to rows [r, D] of the table in float32; returns them in their own type."""
    return (rows.astype(np.float32) + bias.astype(np.float32)).astype(rows.dtype)


def parts_file(dtype: np.dtype, dims: Dimensions) -> SafetensorsFile:
    """Returns the file that keeps table and bias separately."""
    weights = (EMBEDDING, EMBEDDING_BIAS)
    shapes = {weight.variable: (dtype, weight.pax_shape(dims)) for weight in weights}
    return SafetensorsFile(str(PARTS_FILE), shapes)


def find_parts(
    folder: Path, reader: TensorReader, layout: layouts.Layout, slices: Iterable[Slice]
) -> TensorReader | None:
    """Finds table and bias, if the folder keeps them separately and their sum is its table.

    Args:
        folder: the folder of Hugging Face's weights.
        reader: the reader of those weights, whose vocabulary may have been padded.
        layout: the layout of the weights.
        slices: the slices of the layout.

    Returns:
        The tensors by the names of their variables, with the table padded too; None if the folder
        does not keep them, or its table is different, as after further training elsewhere. Both
        readers are closed until they are read again.

    Raises:
        ValueError: the file that keeps them is damaged.
    """
    if not (folder / PARTS_FILE).is_file():
        return None
    parts = FileReader(tensor_files.find_safetensors(folder / PARTS_FILE))
    name = EMBEDDING.hugging_face
    vocab_size, model_dims = layout.shapes[name]
    unpadded = reader.base if isinstance(reader, PaddedReader) else reader
    rows = unpadded.tensors[name].shape[0]
    expected = {EMBEDDING.variable: (rows, model_dims), EMBEDDING_BIAS.variable: (model_dims,)}
    if {name: tensor.shape for name, tensor in parts.tensors.items()} != expected:
        return None
    if parts.tensors[EMBEDDING.variable].dtype != reader.tensors[name].dtype:
        return None
    with parts, reader:
        bias = parts.read(EMBEDDING_BIAS.variable)
        for slice_ in slices:
            if slice_.weight == EMBEDDING:
                span = (min(slice_.start, rows), min(slice_.stop, rows), (model_dims,))
                table = add_bias(parts.read_rows(EMBEDDING.variable, *span), bias)
                if table.tobytes() != unpadded.read_rows(name, *span).tobytes():
                    return None
    return PaddedReader(parts, {EMBEDDING.variable: 0.0}, vocab_size)
