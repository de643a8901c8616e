"""The embedding's bias: added to every row of the table on export, and kept apart beside it.

jaxformer trains it and Hugging Face's layout has none. The sum does not tell its parts, so an
export keeps them in a folder of their own, where no loader of weights looks, and an import takes
them if their sum still is the table.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from codegen_pax.weights import layout, safetensors_files, vocabulary_rows
from codegen_pax.weights.cuts import Layout
from codegen_pax.weights.layout import Dimensions
from codegen_pax.weights.safetensors_files import Shard
from codegen_pax.weights.tensors import Files, Source

PARTS = Path("pax", "embedding.safetensors")
TABLE, BIAS = layout.EMBEDDING, layout.EMBEDDING_BIAS


def folded(rows: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Rows [r, D] of the table with the bias [D] added in float32, in their own type."""
    return (rows.astype(np.float32) + bias.astype(np.float32)).astype(rows.dtype)


def parts_shard(kind: np.dtype, dims: Dimensions) -> Shard:
    """The file that keeps table and bias apart."""
    shapes = {weight.variable: (kind, weight.pax_shape(dims)) for weight in (TABLE, BIAS)}
    return Shard(str(PARTS), shapes)


def find_parts(folder: Path, files: Source, source: Layout) -> Source | None:
    """Table and bias apart, if the folder keeps them and they are those of its weights.

    Args:
        folder: that Hugging Face's weights lie in.
        files: of those weights; the vocabulary of the files may have been filled up in it.
        source: their layout.

    Returns:
        The tensors by the names of their variables, the table filled up too; None if there are
        none, or the table is another, as after further training elsewhere. Both files are closed,
        until they are read.

    Raises:
        ValueError: the file that keeps them is damaged.
    """
    if not (folder / PARTS).is_file():
        return None
    parts = Files(safetensors_files.find(folder / PARTS))
    name = TABLE.hugging_face
    vocab_size, model_dims = source.shapes[name]
    there = files.below if isinstance(files, vocabulary_rows.Filled) else files
    rows = there.tensors[name].shape[0]
    wanted = {TABLE.variable: (rows, model_dims), BIAS.variable: (model_dims,)}
    if {name: tensor.shape for name, tensor in parts.tensors.items()} != wanted:
        return None
    if parts.tensors[TABLE.variable].dtype != files.tensors[name].dtype:
        return None
    with parts, files:
        bias = parts.rows(BIAS.variable, 0, model_dims, ())
        for cut in source.cuts:
            if cut.weight == TABLE:
                span = (min(cut.start, rows), min(cut.stop, rows), (model_dims,))
                found = folded(parts.rows(TABLE.variable, *span), bias)
                if found.tobytes() != there.rows(name, *span).tobytes():
                    return None
    return vocabulary_rows.Filled(parts, {TABLE.variable: 0.0}, vocab_size)
