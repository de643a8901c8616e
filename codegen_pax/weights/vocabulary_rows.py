"""Networks of fewer vocabulary rows than ours: filled up on import, cut back on export.

Who fine-tunes with transformers often resizes the embeddings to the tokenizer's length (50,295
rows), or to a round number above it. The rows that are then missing from the 51,200 of every size
are made so that they change nothing:

    table row = 0, projection row = 0, its bias = -32768

A logit of -32768 has the probability 0 in float32 (e^-104 is its least), so the loss, the z-loss
and every gradient are those of the smaller network, no decoder takes the token, and training leaves
the row as it is: a bias has no decay. The number is a power of two, exact in every type of weights.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from codegen_pax.errors import InvalidValueError
from codegen_pax.runs.checkpoint_arrays import Variables
from codegen_pax.weights import layout
from codegen_pax.weights.tensors import Source

BIAS = -32768.0

_TABLE = layout.EMBEDDING.hugging_face
_OUTPUT_BIAS = "lm_head.bias"
_TENSORS = (_TABLE, "lm_head.weight", _OUTPUT_BIAS)


class Filled(Source):
    """A source whose tensors of the vocabulary have more rows than those it reads."""

    def __init__(self, below: Source, tensors: Mapping[str, float], vocab_size: int):
        """Gives tensors `vocab_size` rows.

        Args:
            below: what has fewer.
            tensors: the number that fills each up, by name.
            vocab_size: V.
        """
        super().__init__(below)
        self._fill = dict(tensors)
        for name in tensors:
            shape = (vocab_size, *self.tensors[name].shape[1:])
            self.tensors[name] = dataclasses.replace(self.tensors[name], shape=shape)

    def rows(self, name: str, start: int, stop: int, row_shape: tuple[int, ...]) -> np.ndarray:
        if name not in self._fill:
            return self.below.rows(name, start, stop, row_shape)
        there = self.below.tensors[name].shape[0]
        rows = np.full((stop - start, *row_shape), self._fill[name], self.tensors[name].dtype)
        if start < there:
            end = min(stop, there)
            rows[: end - start] = self.below.rows(name, start, end, row_shape)
        return rows


def filled(source: Source, vocab_size: int) -> Source:
    """A network of Hugging Face's layout with `vocab_size` rows of each tensor of the vocabulary.

    Args:
        source: of as many rows, or fewer.
        vocab_size: V.
    """
    if source.tensors[_TABLE].shape[0] == vocab_size:
        return source
    return Filled(source, {name: BIAS * (name == _OUTPUT_BIAS) for name in _TENSORS}, vocab_size)


def count(source: Source) -> int | None:
    """The rows that all tensors of the vocabulary have; None where one is not there.

    Raises:
        ValueError: they have not the same number.
    """
    tensors = source.tensors
    if not all(name in tensors and tensors[name].shape for name in _TENSORS):
        return None
    rows = {name: tensors[name].shape[0] for name in _TENSORS}
    for name, found in rows.items():
        if found != rows[_TABLE]:
            raise InvalidValueError(
                f"{name} has {found:,} rows, and {_TABLE} {rows[_TABLE]:,}: wanted as many of both"
            )
    return rows[_TABLE]


def check_count(rows: int, least: int, most: int) -> None:
    """Raises ValueError unless a network of so many rows can be filled up.

    Args:
        rows: of its tensors.
        least: the tokens of its vocabulary.
        most: V, of the experiment's network.
    """
    wanted = f"wanted {most:,}" if least >= most else f"wanted {least:,} to {most:,}"
    if rows > most:
        raise InvalidValueError(
            f"{_TABLE} has {rows:,} rows; {wanted}: a vocabulary with tokens of its own has no "
            "experiment here"
        )
    if rows < min(least, most):
        raise InvalidValueError(
            f"{_TABLE} has {rows:,} rows; {wanted}: some tokens of the vocabulary have none"
        )


def imported(document: Mapping[str, Any] | None) -> int | None:
    """How many rows the weights had that a run's last import read; None if none is recorded."""
    for parent in document["parents"] if document else ():
        if parent["kind"] != "pax":
            return parent.get("vocabulary_rows")
        return imported(parent.get("lineage"))
    return None


def are_unchanged(variables: Variables, rows: int) -> bool:
    """Whether what stands beyond so many rows of a checkpoint still is what an import put there.

    Whatever trains on a token moves its bias first.
    """
    bias = variables.read(layout.OUTPUT_BIAS.variable)
    return bool((bias[rows:].astype(np.float32) == BIAS).all())
