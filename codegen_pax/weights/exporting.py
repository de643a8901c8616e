"""Exports a Pax checkpoint's weights to safetensors of a layout, a few megabytes at a time."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np

from codegen_pax import floats
from codegen_pax.errors import InvalidValueError
from codegen_pax.runs.checkpoint_arrays import Variables, check_shapes
from codegen_pax.weights import conversion, embedding_table, layouts, slices, tensor_files
from codegen_pax.weights.layouts import EMBEDDING, EMBEDDING_BIAS, Dimensions, Layout
from codegen_pax.weights.slices import Slice
from codegen_pax.weights.tensor_files import SafetensorsFile, SafetensorsWriter

_SCRATCH = "scratch"


@dataclasses.dataclass(frozen=True)
class Plan(conversion.Plan):
    """An export whose checkpoint has been checked.

    Attributes:
        variables: the variables to read.
        weight_files: the files of the state dict.
        bias: the embedding's bias [D], to be added to the table; None if there is nothing to add.
        parts_file: the file that keeps the table and the bias separately; None if none is written.
    """

    variables: Variables
    weight_files: list[SafetensorsFile]
    bias: np.ndarray | None
    parts_file: SafetensorsFile | None

    @property
    def num_bytes(self) -> int:
        """Total bytes of the files that are written."""
        return sum(file.size() for file in self.files())

    def files(self) -> list[SafetensorsFile]:
        """Returns all files that are written."""
        return self.weight_files + ([self.parts_file] if self.parts_file else [])

    @property
    def num_parameters(self) -> int:
        """How many numbers the network has, as it is written."""
        return sum(map(math.prod, self.layout.shapes.values()))

    @property
    def scratch_bytes(self) -> int:
        """Bytes that are also needed, for the largest variable that is rechunked."""
        chunks = slices.chunk_shapes(self.slices, self.layout.dims)
        return max(
            (
                self.variables.nbytes(weight.variable)
                for weight, chunk in chunks.items()
                if self.variables.needs_rechunking(weight.variable, chunk)
            ),
            default=0,
        )


def make_plan(
    variables: Variables,
    dims: Dimensions,
    layout: Layout,
    dtype: np.dtype | None = None,
    *,
    keep_parts: bool = False,
) -> Plan:
    """Checks that a checkpoint holds a network of this size, before anything is written.

    Args:
        variables: the variables of the checkpoint.
        dims: the sizes of the network.
        layout: the layout to write, of the same network. It may have fewer rows of the vocabulary;
            then only the first rows are written.
        dtype: the type to write all weights as; None for the types that they are stored as.
        keep_parts: also keep the embedding's table and bias separately, if that is exact.

    Raises:
        ValueError: a variable is missing, unknown, misshaped, or not of a floating-point type.
    """
    expected = layouts.pax_shapes(dims)
    check_shapes("Pax", variables.shapes(), expected)
    stored = variables.dtypes()
    for name, stored_dtype in stored.items():
        if stored_dtype not in floats.DTYPES.values():
            raise InvalidValueError(
                f"Pax weights: {name} has the type {stored_dtype}; expected "
                f"{', '.join(floats.DTYPES)}"
            )
    dtypes = {
        weight: np.dtype(dtype or stored[weight.variable]) for weight in layouts.weights(dims)
    }
    # A slice is as large in the wider of the types that it is read and written as.
    itemsize = max(kind.itemsize for kind in {*stored.values(), *dtypes.values()})
    all_slices = slices.make_slices(layout, itemsize)
    tensor_dtypes = {slice_.tensor: dtypes[slice_.weight] for slice_ in all_slices}
    entries = {name: (tensor_dtypes[name], shape) for name, shape in layout.shapes.items()}
    bias = _read_bias(variables) if dims.embedding_bias else None
    parts_file = None
    table_dtype = dtypes[EMBEDDING]
    is_exact = bias is not None and table_dtype == stored[EMBEDDING.variable] == bias.dtype
    if keep_parts and is_exact:
        parts_file = embedding_table.parts_file(table_dtype, layout.dims)
    files = tensor_files.plan_safetensors(entries, tensor_files.SHARD_BYTES)
    return Plan(layout, all_slices, dtypes, variables, files, bias, parts_file)


def run(plan: Plan, folder: Path, on_bytes: Callable[[int], None]) -> None:
    """Writes the files.

    Args:
        plan: the plan that `make_plan` returned.
        folder: the folder to write to.
        on_bytes: called with the bytes of each slice that has been moved, in any thread.

    Raises:
        ValueError: a weight is not finite, or too large for the type it was to be written as.
        OSError: the disk is full, or the checkpoint cannot be read.
    """
    scratch = folder / _SCRATCH
    chunks = slices.chunk_shapes(plan.slices, plan.layout.dims)
    if plan.parts_file:
        (folder / plan.parts_file.name).parent.mkdir()
    with SafetensorsWriter(folder, plan.files()) as writer:
        if plan.parts_file and plan.bias is not None:
            writer.write(EMBEDDING_BIAS.variable, 0, plan.bias)
        for weight, of_weight in itertools.groupby(plan.slices, lambda slice_: slice_.weight):
            rechunk = plan.variables.needs_rechunking(weight.variable, chunks[weight])
            if rechunk:
                plan.variables.rechunk(weight.variable, chunks[weight], scratch)
            conversion.move(plan, of_weight, functools.partial(_move_one, plan, writer), on_bytes)
            if rechunk:
                shutil.rmtree(scratch)


def _read_slice(plan: Plan, slice_: Slice) -> np.ndarray:
    return slices.from_pax(slice_, plan.variables.read(slice_.weight.variable, slice_.index))


def _move_one(plan: Plan, writer: SafetensorsWriter, slice_: Slice) -> None:
    rows = _read_slice(plan, slice_)
    if not floats.is_finite(rows):
        description = f"{plan.variables.checkpoint}: {slice_.tensor}"
        read = functools.partial(_read_slice, plan)
        raise conversion.non_finite_error(plan, description, slice_.tensor, read)
    if plan.bias is not None and slice_.weight == EMBEDDING:
        if plan.parts_file:
            writer.write(slice_.weight.variable, slice_.start, rows)
        rows = embedding_table.add_bias(rows, plan.bias)
    writer.write(
        slice_.tensor, slice_.start, _cast(rows, plan.dtypes[slice_.weight], slice_.tensor)
    )


def _read_bias(variables: Variables) -> np.ndarray | None:
    """Returns the embedding's bias [D]; None if zero, since adding 0.0 would turn -0.0 into 0.0."""
    bias = variables.read(EMBEDDING_BIAS.variable)
    if not floats.is_finite(bias):
        description = f"{variables.checkpoint}: {EMBEDDING_BIAS.variable}"
        raise floats.non_finite_error(description, bias.shape, [(0, bias)])
    return bias if np.any(bias) else None


def _cast(rows: np.ndarray, dtype: np.dtype, name: str) -> np.ndarray:
    """Returns the rows as `dtype`.

    Raises:
        ValueError: a finite number is not finite as `dtype`.
    """
    if rows.dtype == dtype:
        return rows
    with np.errstate(over="ignore"):
        cast = rows.astype(dtype)
    lost = np.isinf(cast) & np.isfinite(rows)
    if lost.any():
        largest = float(np.abs(rows[lost].astype(np.float64)).max())
        raise InvalidValueError(
            f"{name} holds {largest:g}, too large for {dtype.name}: export it as float32 or "
            "bfloat16"
        )
    return cast
