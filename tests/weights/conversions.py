"""Imports and exports of small networks, without the command."""

from pathlib import Path

import jax
import numpy as np

from codegen_pax.runs.checkpoint_arrays import Variables
from codegen_pax.training.train_state import TrainStateSpec
from codegen_pax.weights import cuts, exporting, hugging_face_files, importing, layout
from codegen_pax.weights.tensors import Files
from codegen_pax.weights.workspace import Workspace


def state(dims: layout.Dimensions) -> TrainStateSpec:
    """The arrays of a train state without an optimizer, under the names that Pax gives them."""
    arrays = {
        f"mdl_vars.{weight.variable}": jax.ShapeDtypeStruct(weight.pax_shape(dims), np.float32)
        for weight in layout.weights(dims)
    }
    return TrainStateSpec({"step": jax.ShapeDtypeStruct((), np.uint32), **arrays}, {"version": 1.1})


def import_plan(folder: Path, dims: layout.Dimensions, files: Files | None = None):
    files = files or Files(hugging_face_files.find(folder))
    return importing.plan(folder, files, dims, lambda size: cuts.hugging_face(dims, size))


def import_hugging_face(folder: Path, job: Path, dims: layout.Dimensions) -> Path:
    """Imports a folder; returns the checkpoint."""
    with Workspace(job, {}) as space:
        importing.run(import_plan(folder, dims), state(dims), space, lambda count: None)
        space.finish()
    return job / importing.CHECKPOINT


def export(checkpoint: Path, folder: Path, dims: layout.Dimensions, make=cuts.hugging_face, **how):
    """Exports a checkpoint; returns the plan it was done by."""
    chosen = exporting.plan(Variables(checkpoint), dims, make, **how)
    with Workspace(folder, {}) as space:
        exporting.run(chosen, space, lambda count: None)
        space.finish()
    return chosen


def stored(checkpoint: Path) -> dict[str, bytes]:
    """Every variable's type and bytes."""
    opened = Variables(checkpoint)
    return {
        name: (str(opened.dtypes()[name]), opened.read(name).tobytes()) for name in opened.stores
    }
