"""Imports foreign weights into a Pax checkpoint, a few megabytes at a time."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from codegen_pax import floats
from codegen_pax.errors import InvalidValueError
from codegen_pax.runs import checkpoints
from codegen_pax.runs.checkpoint_arrays import NewCheckpoint, check_shapes
from codegen_pax.weights import conversion, embedding_table, slices
from codegen_pax.weights.layouts import EMBEDDING, EMBEDDING_BIAS, Layout, Weight
from codegen_pax.weights.slices import Slice
from codegen_pax.weights.tensors import TensorReader

if TYPE_CHECKING:  # it imports Pax, which is not needed to report faults of files
    from codegen_pax.training.train_state import TrainStateSpec

# Relative to a job directory. Imported weights are the checkpoint of step 0.
CHECKPOINT = Path(checkpoints.path(".", 0))


@dataclasses.dataclass(frozen=True)
class Plan(conversion.Plan):
    """An import whose files have been checked.

    Attributes:
        reader: the reader of the tensors to move, with as many rows of the vocabulary as Pax has.
        folds_bias: whether the files have the embedding's bias and the network has none.
        parts: the embedding's separate table and bias, if the files have their sum; else None.
    """

    reader: TensorReader
    folds_bias: bool = False
    parts: TensorReader | None = None

    @property
    def num_bytes(self) -> int:
        """Total bytes of the weights that are written."""
        return sum(
            math.prod(weight.pax_shape(self.layout.dims)) * dtype.itemsize
            for weight, dtype in self.dtypes.items()
        )

    @property
    def num_parameters(self) -> int:
        """How many numbers the network has, including the embedding's bias if it has one."""
        return sum(math.prod(weight.pax_shape(self.layout.dims)) for weight in self.dtypes)

    def paths(self) -> list[Path]:
        """Returns the files that are read."""
        return [*self.reader.paths(), *(self.parts.paths() if self.parts else [])]

    @contextlib.contextmanager
    def closing(self) -> Iterator[None]:
        """Closes the files at the end of the block."""
        with self.reader, self.parts or contextlib.nullcontext():
            yield

    def row_shape(self, slice_: Slice) -> tuple[int, ...]:
        """Returns the shape of one row of a slice."""
        shape = self.layout.shapes[slice_.tensor]
        joined_axes = len(shape) - len(slice_.weight.layer_shape(self.layout.dims))
        return shape[1 + joined_axes :]


def make_plan(folder: Path | None, reader: TensorReader, layout: Layout) -> Plan:
    """Checks that files hold a network of this size, before anything is written.

    Args:
        folder: the folder where an export may have left the embedding's parts; None to skip them.
        reader: the reader of the files' tensors.
        layout: the layout of the files.

    Raises:
        ValueError: a tensor is missing, unknown or misshaped, or differs in type from another
            tensor of the same weight.
    """
    shapes = {name: tensor.shape for name, tensor in reader.tensors.items()}
    check_shapes(layout.name, shapes, layout.shapes)
    itemsize = max(tensor.numpy_dtype.itemsize for tensor in reader.tensors.values())
    all_slices = slices.make_slices(layout, itemsize)
    dtypes: dict[Weight, np.dtype] = {}
    first: dict[Weight, str] = {}
    for slice_ in all_slices:
        dtype = reader.tensors[slice_.tensor].numpy_dtype
        if dtypes.setdefault(slice_.weight, dtype) != dtype:
            raise InvalidValueError(
                f"{layout.name} weights: {slice_.tensor} has the type {dtype}; expected "
                f"{dtypes[slice_.weight]}, as {first[slice_.weight]}: Pax keeps all layers in one "
                "array"
            )
        first.setdefault(slice_.weight, slice_.tensor)
    has_bias = EMBEDDING_BIAS.jaxformer in layout.shapes
    parts = None
    if layout.dims.embedding_bias and not has_bias:
        if folder:
            parts = embedding_table.find_parts(folder, reader, layout, all_slices)
        dtypes[EMBEDDING_BIAS] = dtypes[EMBEDDING]  # zero if the table holds it
    folds_bias = has_bias and not layout.dims.embedding_bias
    return Plan(layout, all_slices, dtypes, reader, folds_bias, parts)


def run(plan: Plan, state: TrainStateSpec, folder: Path, on_bytes: Callable[[int], None]) -> None:
    """Writes the checkpoint.

    Args:
        plan: the plan that `make_plan` returned.
        state: the state of the task that is to restore the checkpoint.
        folder: the job directory.
        on_bytes: called with the bytes of each slice that has been moved, in any thread.

    Raises:
        ValueError: the task's network has other arrays, or a weight is not finite.
        OSError: the disk is full, or a file cannot be read.
    """
    check_state(plan, state)
    chunks = slices.chunk_shapes(plan.slices, plan.layout.dims)
    chunks.setdefault(EMBEDDING_BIAS, (plan.layout.dims.model_dims,))
    checkpoint = NewCheckpoint(
        folder / CHECKPOINT,
        state.arrays,
        state.metadata,
        {weight.variable: (dtype, chunks[weight]) for weight, dtype in plan.dtypes.items()},
    )
    bias = plan.reader.read(EMBEDDING_BIAS.jaxformer) if plan.folds_bias else None
    if plan.parts:
        parts_bias = plan.parts.read(EMBEDDING_BIAS.variable)
        checkpoint.write(EMBEDDING_BIAS.variable, (slice(None),), parts_bias)

    def read(slice_: Slice) -> np.ndarray:
        reader, name = plan.reader, slice_.tensor
        if plan.parts and slice_.weight == EMBEDDING:
            reader, name = plan.parts, slice_.weight.variable
        rows = reader.read_rows(name, slice_.start, slice_.stop, plan.row_shape(slice_))
        if bias is not None and slice_.weight == EMBEDDING:
            rows = embedding_table.add_bias(rows, bias)
        return rows

    def move_one(slice_: Slice) -> None:
        rows = read(slice_)
        if not floats.is_finite(rows):
            description = plan.reader.describe(slice_.tensor)
            raise conversion.non_finite_error(plan, description, slice_.tensor, read)
        part = slices.to_pax(slice_, rows, plan.layout)
        checkpoint.write(slice_.weight.variable, slice_.index, part)

    conversion.move(plan, plan.slices, move_one, on_bytes)


def check_state(plan: Plan, state: TrainStateSpec) -> None:
    """Raises ValueError unless the task's variables are those that will be written."""
    shapes = {
        f"{checkpoints.WEIGHT_PREFIX}{weight.variable}": weight.pax_shape(plan.layout.dims)
        for weight in plan.dtypes
    }
    expected = {
        name: array.shape
        for name, array in state.arrays.items()
        if name.startswith(checkpoints.WEIGHT_PREFIX)
    }
    check_shapes("the experiment's", shapes, expected)
