"""Jobs with small checkpoints, as Orbax and Pax leave them."""

import json

import numpy as np
import tensorstore

from codegen_pax.runs import lineage

WEIGHTS = {"params.lm.a": (4, 6), "params.lm.b": (5,)}
ARRAYS = {
    **{f"mdl_vars.{name}": shape for name, shape in WEIGHTS.items()},
    "opt_states_0.no_prefix_2.m.params.lm.a": (4, 6),
    "step": (),
}
CHUNKS = {2: (2, 4), 1: (2,), 0: ()}  # by rank; those at an end reach beyond it


def lineage_of(experiment="CodeGenNanoMono"):
    """The least that is read of a lineage."""
    words = dict.fromkeys(("class", "recipe", "mesh", "mixture"), "x")
    lists = {"data": [], "parents": [], "versions": {}}
    rest = {"kind": "training", "experiment": experiment, "steps": 9, "batch_tokens": 1}
    return {"format": lineage.FORMAT, **words, **lists, **rest}


def write_array(folder, values, *, packed=True):
    """A zarr array as Orbax writes it; or, unpacked, as an import does."""
    metadata = {"shape": values.shape, "chunks": CHUNKS[values.ndim]}
    metadata["compressor"] = {"id": "zstd"} if packed else None
    spec = {"driver": "zarr", "kvstore": {"driver": "file", "path": f"{folder}/"}}
    spec |= {"metadata": metadata, "dtype": values.dtype.name}
    tensorstore.open(spec, create=True).result().write(values).result()


def write_checkpoint(folder, *, seed=0, packed=True, **arrays):
    """A whole checkpoint of `ARRAYS` at random, or with some of them given."""
    random = np.random.default_rng(seed)
    for name, shape in ARRAYS.items():
        values = random.random(shape, np.float32)
        write_array(folder / "state" / name, np.asarray(arrays.get(name, values)), packed=packed)
    leaves = {name.rpartition(".")[2]: {"unpadded_shape": shape} for name, shape in WEIGHTS.items()}
    said = {"train_state_metadata": {"mdl_vars": {"params": {"lm": leaves}}}}
    for name, content in (("metadata/metadata", json.dumps(said)), ("train_input/process_0", "{}")):
        (folder / name).parent.mkdir()
        (folder / name).write_text(content)
    lineage.write(folder, lineage_of())
    return folder


def write_job(job, steps):
    """A job with a checkpoint of each step."""
    lineage.write(job, lineage_of())
    return [write_checkpoint(lineage.checkpoint(job, step), seed=step) for step in steps]
