"""Imports and exports of small networks, without the command."""

from pathlib import Path

import jax
import numpy as np

from codegen_pax.runs.checkpoint_arrays import Variables
from codegen_pax.training.train_state import TrainStateSpec
from codegen_pax.weights import exporting, hugging_face, importing, layouts
from codegen_pax.weights.conversion import StagingFolder
from codegen_pax.weights.tensors import FileReader, TensorReader


def state(dims: layouts.Dimensions) -> TrainStateSpec:
    """The arrays of a train state without an optimizer, under the names that Pax gives them."""
    arrays = {
        f"mdl_vars.{weight.variable}": jax.ShapeDtypeStruct(weight.pax_shape(dims), np.float32)
        for weight in layouts.weights(dims)
    }
    return TrainStateSpec({"step": jax.ShapeDtypeStruct((), np.uint32), **arrays}, {"version": 1.1})


def import_plan(folder: Path, dims: layouts.Dimensions, reader: TensorReader | None = None):
    reader = reader or FileReader(hugging_face.find_weights(folder))
    return importing.make_plan(folder, reader, layouts.hugging_face(dims))


def import_hugging_face(folder: Path, job: Path, dims: layouts.Dimensions) -> Path:
    """Imports a folder; returns the checkpoint."""
    with StagingFolder(job) as staging:
        importing.run(import_plan(folder, dims), state(dims), staging.path, lambda count: None)
        staging.commit()
    return job / importing.CHECKPOINT


def export(checkpoint: Path, folder: Path, layout: layouts.Layout, *, dims=None, **options):
    """Exports a checkpoint; returns the plan it was done by.

    Args:
        checkpoint: of a network of `dims`, or of the layout's own dimensions if None.
        folder: a new one.
        layout: to write.
        dims: the sizes of the network.
        **options: of `exporting.make_plan`.
    """
    plan = exporting.make_plan(Variables(checkpoint), dims or layout.dims, layout, **options)
    with StagingFolder(folder) as staging:
        exporting.run(plan, staging.path, lambda count: None)
        staging.commit()
    return plan


def stored(checkpoint: Path) -> dict[str, tuple[str, bytes]]:
    """Returns the type and bytes of every variable."""
    variables = Variables(checkpoint)
    dtypes = variables.dtypes()
    return {name: (str(dtypes[name]), variables.read(name).tobytes()) for name in dtypes}
