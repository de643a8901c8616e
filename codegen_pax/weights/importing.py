"""Foreign weights into a Pax checkpoint, a few megabytes at a time."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from codegen_pax.errors import InvalidValueError
from codegen_pax.runs import checkpoints
from codegen_pax.runs.checkpoint_arrays import NewCheckpoint
from codegen_pax.weights import cuts, embedding, finite, layout, moving
from codegen_pax.weights.cuts import Cut, Layout
from codegen_pax.weights.layout import Dimensions, Weight
from codegen_pax.weights.tensors import Source
from codegen_pax.weights.workspace import Workspace

if TYPE_CHECKING:  # it takes Pax' imports, and what is wrong with files is told without them
    from codegen_pax.training.train_state import TrainStateSpec

# Below a job's directory; weights that are imported are a run's start.
CHECKPOINT = Path(checkpoints.path(".", 0))


@dataclasses.dataclass(frozen=True)
class Plan(moving.Plan):
    """An import whose files have been found fit.

    Attributes:
        files: to read; the tensors of them that are moved, of as many rows as ours.
        fold: whether the embedding's bias is in the files and not in the network.
        parts: the embedding's table and bias apart, where the files have their sum.
    """

    files: Source
    fold: bool = False
    parts: Source | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of the weights that are written."""
        return sum(
            math.prod(weight.pax_shape(self.dims)) * kind.itemsize
            for weight, kind in self.dtypes.items()
        )

    @property
    def parameters(self) -> int:
        """Numbers of the network, the embedding's bias among them if it has one."""
        return sum(math.prod(weight.pax_shape(self.dims)) for weight in self.dtypes)

    def paths(self) -> list[Path]:
        """The files that are read."""
        return [*self.files.paths(), *(self.parts.paths() if self.parts else [])]

    @contextlib.contextmanager
    def opened(self) -> Iterator[None]:
        """Closes the files in the end."""
        with self.files, self.parts or contextlib.nullcontext():
            yield

    def row_shape(self, cut: Cut) -> tuple[int, ...]:
        """The shape of one of its rows."""
        axes = len(self.layout.shapes[cut.tensor]) - len(cut.weight.plain_shape(self.dims))
        return self.layout.shapes[cut.tensor][1 + axes :]


def plan(
    folder: Path | None, files: Source, dims: Dimensions, make_layout: Callable[[int], Layout]
) -> Plan:
    """Checks that files hold a network of this size, before anything is written.

    Args:
        folder: where an export may have left the embedding's parts; not looked for if None.
        files: that were found.
        dims: the sizes of the network.
        make_layout: gives the layout of the files for numbers of so many bytes.

    Raises:
        ValueError: a tensor is missing, unknown or misshaped, or of another type than that of
            another layer.
    """
    kinds = {tensor.dtype for tensor in files.tensors.values()}
    found = make_layout(max((kind.itemsize for kind in kinds), default=4))
    shapes = {name: tensor.shape for name, tensor in files.tensors.items()}
    layout.check_shapes(found.name, shapes, found.shapes)
    dtypes: dict[Weight, np.dtype] = {}
    first: dict[Weight, str] = {}
    for cut in found.cuts:
        kind = files.tensors[cut.tensor].dtype
        if dtypes.setdefault(cut.weight, kind) != kind:
            raise InvalidValueError(
                f"{found.name} weights: {cut.tensor} has the type {kind}; wanted "
                f"{dtypes[cut.weight]}, as {first[cut.weight]}: Pax keeps all layers in one array"
            )
        first.setdefault(cut.weight, cut.tensor)
    has_bias = embedding.BIAS.jaxformer in found.shapes
    parts = None
    if dims.embedding_bias and not has_bias:
        parts = folder and embedding.find_parts(folder, files, found)
        dtypes[embedding.BIAS] = dtypes[embedding.TABLE]  # zero if the table holds it
    return Plan(found, dims, dtypes, files, has_bias and not dims.embedding_bias, parts)


def run(
    chosen: Plan, state: TrainStateSpec, workspace: Workspace, on_bytes: Callable[[int], None]
) -> None:
    """Writes the checkpoint into the workspace, all but what an earlier run has written.

    Args:
        chosen: what `plan` returned.
        state: of the task that is to restore it.
        workspace: of the job's directory.
        on_bytes: is told of the bytes of cuts, those of an earlier run first.

    Raises:
        ValueError: the task's network has other arrays, or a weight is no finite number.
        OSError: the disk is full, or a file cannot be read.
    """
    check_state(chosen, state)
    chunks = cuts.chunk_shapes(chosen.layout, chosen.dims)
    chunks.setdefault(embedding.BIAS, (chosen.dims.model_dims,))
    checkpoint = NewCheckpoint(
        workspace.folder / CHECKPOINT,
        state.arrays,
        state.metadata,
        {weight: (kind, chunks[weight]) for weight, kind in chosen.dtypes.items()},
    )
    dims, bias = chosen.dims, None
    if chosen.fold:
        bias = chosen.files.rows(embedding.BIAS.jaxformer, 0, dims.model_dims, ())
    if chosen.parts:
        checkpoint.write(
            embedding.BIAS,
            (slice(None),),
            chosen.parts.rows(embedding.BIAS.variable, 0, dims.model_dims, ()),
        )

    def read(cut: Cut) -> np.ndarray:
        files, name = chosen.files, cut.tensor
        if chosen.parts and cut.weight == embedding.TABLE:
            files, name = chosen.parts, cut.weight.variable
        rows = files.rows(name, cut.start, cut.stop, chosen.row_shape(cut))
        if bias is not None and cut.weight == embedding.TABLE:
            rows = embedding.folded(rows, bias)
        return rows

    def one(cut: Cut) -> None:
        rows = read(cut)
        if not finite.is_finite(rows):
            place = chosen.files.place(cut.tensor)
            raise moving.not_finite(chosen, place, cut.tensor, read)
        part = cuts.to_pax(cut, rows, dims, chosen.layout.mp_num)
        checkpoint.write(cut.weight, cut.index, part)

    on_bytes(chosen.moved_before(workspace))
    moving.move(chosen, chosen.layout.cuts, one, workspace, on_bytes)


def check_state(chosen: Plan, state: TrainStateSpec) -> None:
    """Raises ValueError unless the task's variables are those that will be written."""
    found = {
        f"{checkpoints.WEIGHT_PREFIX}{weight.variable}": weight.pax_shape(chosen.dims)
        for weight in chosen.dtypes
    }
    wanted = {
        name: array.shape
        for name, array in state.arrays.items()
        if name.startswith(checkpoints.WEIGHT_PREFIX)
    }
    layout.check_shapes("the experiment's", found, wanted)
