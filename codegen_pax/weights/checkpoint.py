"""Reads the weights of a Pax checkpoint, without the optimizer's state."""

from __future__ import annotations

import numpy as np
import tensorstore
from etils import epath

# Pax keeps one zarr array a variable: `state/mdl_vars.params.lm.final_ln.bias`.
_PREFIX = "mdl_vars."


def read_variables(checkpoint: epath.PathLike) -> dict:
    """The variables of one checkpoint directory, as a nested dict of arrays.

    Args:
      checkpoint: `<job>/checkpoints/checkpoint_<step>`, local or `gs://`.

    Returns:
      What `model.apply` takes: `{"params": {"lm": {...}}}`, the arrays as they were stored.

    Raises:
      FileNotFoundError: no array is there.
    """
    directories = sorted((epath.Path(checkpoint) / "state").glob(f"{_PREFIX}*"))
    if not directories:
        raise FileNotFoundError(
            f"{checkpoint} holds no weights: wanted zarr arrays named state/{_PREFIX}*"
        )
    reading = {
        directory.name.removeprefix(_PREFIX): tensorstore.open(
            {"driver": "zarr", "kvstore": _address(directory)}, open=True
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


def _address(directory: epath.Path) -> str | dict[str, str]:
    """The directory as tensorstore takes it: a URL, or a path of this machine with any name."""
    text = str(directory)
    return f"{text}/" if "://" in text else {"driver": "file", "path": str(directory.resolve())}
