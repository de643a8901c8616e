"""Reads the weights of a Pax checkpoint, without the optimizer's state."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tensorstore

# Pax keeps one zarr array a variable: `state/mdl_vars.params.lm.final_ln.bias`.
_PREFIX = "mdl_vars."


def read_variables(checkpoint: Path) -> dict:
    """The variables of one checkpoint directory, as a nested dict of arrays.

    Args:
      checkpoint: `<job>/checkpoints/checkpoint_<step>`.

    Returns:
      What `model.apply` takes: `{"params": {"lm": {...}}}`, the arrays as they were stored.

    Raises:
      FileNotFoundError: no array is there.
    """
    directories = sorted((checkpoint / "state").glob(f"{_PREFIX}*"))
    if not directories:
        raise FileNotFoundError(
            f"{checkpoint} holds no weights: wanted zarr arrays named state/{_PREFIX}*"
        )
    reading = {
        directory.name.removeprefix(_PREFIX): tensorstore.open(
            {"driver": "zarr", "kvstore": {"driver": "file", "path": str(directory.resolve())}},
            open=True,
        )
        .result()
        .read()
        for directory in directories
    }
    variables: dict = {}
    for name, array in reading.items():
        *branches, leaf = name.split(".")
        tree = variables
        for branch in branches:
            tree = tree.setdefault(branch, {})
        tree[leaf] = np.asarray(array.result())
    return variables
