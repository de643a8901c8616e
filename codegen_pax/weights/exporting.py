"""A Pax checkpoint's weights into safetensors of another layout, a few megabytes at a time."""

from __future__ import annotations

import dataclasses
import itertools
import math
import shutil
from collections.abc import Callable

import numpy as np

from codegen_pax.errors import InvalidValueError
from codegen_pax.runs.checkpoint_arrays import Variables
from codegen_pax.weights import cuts, embedding, finite, layout, moving, safetensors_files
from codegen_pax.weights.cuts import Cut, Layout
from codegen_pax.weights.layout import Dimensions
from codegen_pax.weights.safetensors_files import Shard
from codegen_pax.weights.tensors import DTYPES
from codegen_pax.weights.workspace import Workspace

_SCRATCH = "scratch"


@dataclasses.dataclass(frozen=True)
class Plan(moving.Plan):
    """An export whose checkpoint has been found fit.

    Attributes:
        variables: to read.
        shards: the files.
        bias: the embedding's [D], to be added to the table; None if there is nothing to add.
        parts: the file that keeps the table and the bias apart, if there is to be one.
    """

    variables: Variables
    shards: list[Shard]
    bias: np.ndarray | None
    parts: Shard | None

    @property
    def nbytes(self) -> int:
        """Bytes that are written."""
        return sum(shard.size() for shard in self.files())

    def files(self) -> list[Shard]:
        """All that is written."""
        return self.shards + ([self.parts] if self.parts else [])

    @property
    def parameters(self) -> int:
        """Numbers of the network, as it is written."""
        return sum(map(math.prod, self.layout.shapes.values()))

    @property
    def scratch(self) -> int:
        """Bytes that are needed besides, for the largest variable that has to be cut otherwise."""
        chunks = cuts.chunk_shapes(self.layout, self.dims)
        return max(
            (
                self.variables.nbytes(weight.variable)
                for weight, chunk in chunks.items()
                if self.variables.needs_rechunking(weight, chunk)
            ),
            default=0,
        )


def plan(
    variables: Variables,
    dims: Dimensions,
    make_layout: Callable[[Dimensions, int], Layout],
    dtype: np.dtype | None = None,
    *,
    keep_parts: bool = False,
    vocabulary_rows: int | None = None,
) -> Plan:
    """Checks that a checkpoint holds a network of this size, before anything is written.

    Args:
        variables: of the checkpoint.
        dims: the sizes of the network.
        make_layout: `cuts.hugging_face` or `cuts.gptj`.
        dtype: to write all weights as; as they are stored if None.
        keep_parts: keep the embedding's table and bias apart too, if they can be kept exactly.
        vocabulary_rows: of the vocabulary, from its first, that are written; all if None.

    Raises:
        ValueError: a variable is missing, unknown, misshaped, or no floating-point numbers.
    """
    wanted = {weight.variable: weight.pax_shape(dims) for weight in layout.weights(dims)}
    layout.check_shapes("Pax", variables.shapes(), wanted)
    stored = variables.dtypes()
    for name, kind in stored.items():
        if kind not in DTYPES.values():
            raise InvalidValueError(
                f"Pax weights: {name} has the type {kind}; wanted {', '.join(DTYPES)}"
            )
    dtypes = {weight: np.dtype(dtype or stored[weight.variable]) for weight in layout.weights(dims)}
    # A cut is as large in the wider of the types that it is read and written as.
    written = dataclasses.replace(dims, vocab_size=vocabulary_rows or dims.vocab_size)
    found = make_layout(
        written, max(kind.itemsize for kind in {*stored.values(), *dtypes.values()})
    )
    kinds = {cut.tensor: dtypes[cut.weight] for cut in found.cuts}
    tensors = {name: (kinds[name], shape) for name, shape in found.shapes.items()}
    bias = _bias(variables) if dims.embedding_bias else None
    parts = None
    kind = dtypes[embedding.TABLE]
    if bias is not None and keep_parts and kind == stored[embedding.TABLE.variable] == bias.dtype:
        parts = embedding.parts_shard(kind, written)
    shards = safetensors_files.plan(tensors, safetensors_files.SHARD_BYTES)
    return Plan(found, dims, dtypes, variables, shards, bias, parts)


def run(chosen: Plan, workspace: Workspace, on_bytes: Callable[[int], None]) -> None:
    """Writes the files into the workspace, all but what an earlier run has written.

    Args:
        chosen: what `plan` returned.
        workspace: of the folder.
        on_bytes: is told of the bytes of cuts, those of an earlier run first.

    Raises:
        ValueError: a weight is no finite number, or too large for the type it was to be written as.
        OSError: the disk is full, or the checkpoint cannot be read.
    """
    scratch = workspace.folder / _SCRATCH
    chunks = cuts.chunk_shapes(chosen.layout, chosen.dims)
    shutil.rmtree(scratch, ignore_errors=True)
    if chosen.parts:
        (workspace.folder / chosen.parts.name).parent.mkdir(exist_ok=True)
    on_bytes(chosen.moved_before(workspace))
    with safetensors_files.Writer(workspace.folder, chosen.files()) as writer:
        if chosen.parts:
            writer.write(embedding.BIAS.variable, 0, chosen.bias)

        def read(cut: Cut) -> np.ndarray:
            part = chosen.variables.read(cut.weight.variable, cut.index)
            return cuts.from_pax(cut, part)

        def one(cut: Cut) -> None:
            rows = read(cut)
            if not finite.is_finite(rows):
                what = f"{chosen.variables.checkpoint}: {cut.tensor}"
                raise moving.not_finite(chosen, what, cut.tensor, read)
            if chosen.bias is not None and cut.weight == embedding.TABLE:
                if chosen.parts:
                    writer.write(cut.weight.variable, cut.start, rows)
                rows = embedding.folded(rows, chosen.bias)
            rows = _cast(rows, chosen.dtypes[cut.weight], cut.tensor)
            writer.write(cut.tensor, cut.start, rows)

        for weight, found in itertools.groupby(chosen.layout.cuts, lambda cut: cut.weight):
            group = list(found)
            left = any(moving.key(cut) not in workspace.done for cut in group)
            recut = left and chosen.variables.needs_rechunking(weight, chunks[weight])
            if recut:
                chosen.variables.rechunk(weight, chunks[weight], scratch)
            moving.move(chosen, group, one, workspace, on_bytes)
            if recut:
                shutil.rmtree(scratch)


def _bias(variables: Variables) -> np.ndarray | None:
    """The embedding's bias [D]; None if it is zero, which would make 0.0 of the table's -0.0."""
    bias = variables.read(embedding.BIAS.variable)
    if not finite.is_finite(bias):
        what = f"{variables.checkpoint}: {embedding.BIAS.variable}"
        raise finite.refusal(what, bias.shape, [(0, bias)])
    return bias if np.any(bias) else None


def _cast(rows: np.ndarray, kind: np.dtype, name: str) -> np.ndarray:
    """The rows as `kind`.

    Raises:
        ValueError: one that was finite is no more.
    """
    if rows.dtype == kind:
        return rows
    with np.errstate(over="ignore"):
        found = rows.astype(kind)
    lost = np.isinf(found) & np.isfinite(rows)
    if lost.any():
        largest = float(np.abs(rows[lost].astype(np.float64)).max())
        raise InvalidValueError(
            f"{name} holds {largest:g}, too large for {kind.name}: export it as float32 or bfloat16"
        )
    return found
