"""Jobs with small checkpoints, as Orbax and Pax leave them."""

import json

import numpy as np
import tensorstore

from codegen_pax.runs import checkpoints, lineage

WEIGHTS = {"params.lm.a": (4, 6), "params.lm.b": (5,)}
MOMENT = "opt_states_0.no_prefix_2.m.params.lm.a"
ARRAYS = {
    **{f"{checkpoints.WEIGHT_PREFIX}{name}": shape for name, shape in WEIGHTS.items()},
    MOMENT: (4, 6),
    "step": (),
}
CHUNKS = {2: (2, 4), 1: (2,), 0: ()}  # by rank; those at the edges reach beyond the array


def make_receipt(experiment="CodeGenNanoMono"):
    """The least that is read of a receipt."""
    texts = dict.fromkeys(("class", "recipe", "mesh", "mixture"), "x")
    lists = {"data": [], "parents": [], "versions": {}}
    rest = {"kind": "training", "experiment": experiment, "steps": 9, "batch_tokens": 1}
    return {"format": lineage.FORMAT, **texts, **lists, **rest}


def write_array(folder, values, *, compressed=True):
    """A zarr array as Orbax writes it; uncompressed, as an import does."""
    metadata = {"shape": values.shape, "chunks": CHUNKS[values.ndim]}
    metadata["compressor"] = {"id": "zstd"} if compressed else None
    spec = {"driver": "zarr", "kvstore": {"driver": "file", "path": f"{folder}/"}}
    spec |= {"metadata": metadata, "dtype": values.dtype.name}
    tensorstore.open(spec, create=True).result().write(values).result()


def write_checkpoint(folder, *, seed=0, compressed=True, **arrays):
    """A complete checkpoint of `ARRAYS` at random, or with some of them given."""
    random = np.random.default_rng(seed)
    for name, shape in ARRAYS.items():
        values = np.asarray(arrays.get(name, random.random(shape, np.float32)))
        write_array(folder / checkpoints.STATE / name, values, compressed=compressed)
    leaves = {name.rpartition(".")[2]: {"unpadded_shape": shape} for name, shape in WEIGHTS.items()}
    metadata = {"train_state_metadata": {"mdl_vars": {"params": {"lm": leaves}}}}
    for name, content in (
        (checkpoints.METADATA, json.dumps(metadata)),
        (f"{checkpoints.TRAIN_INPUT}/process_0", "{}"),
    ):
        (folder / name).parent.mkdir()
        (folder / name).write_text(content)
    lineage.write(folder, make_receipt())
    return folder


def write_job(job, steps):
    """A job with a checkpoint for each step."""
    lineage.write(job, make_receipt())
    return [write_checkpoint(checkpoints.path(job, step), seed=step) for step in steps]
