"""Files that are damaged at random, to see what is said of them."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from codegen_pax.weights.tensors import FileReader, Tensor

TIMES = 150


def damage(data: bytes, random: np.random.Generator) -> bytes:
    """Truncates a file, or changes some bytes, mostly where it says what it holds."""
    if random.random() < 0.4:
        return data[: random.integers(0, len(data))]
    changed = bytearray(data)
    for place in random.integers(0, min(len(data), 3_000), 4):
        changed[place] = random.integers(0, 256)
    for place in random.integers(0, min(len(data), 3_000), 4):
        changed[-1 - place] = random.integers(0, 256)
    return bytes(changed)


def count_refused(path: Path, find: Callable[[], Mapping[str, Tensor]]) -> int:
    """Damages a file `TIMES` times, and reads all that can be found in it.

    Returns:
        How often it was refused: by a ValueError of one line, which names the file.
    """
    data, random, refused = path.read_bytes(), np.random.default_rng(0), 0
    for _ in range(TIMES):
        # A new file: the last one may still be mapped.
        path.unlink()
        path.write_bytes(damage(data, random))
        try:
            tensors = find()
            with FileReader(tensors) as reader:
                for name in (name for name, tensor in tensors.items() if tensor.shape):
                    reader.read(name)
        except ValueError as error:
            assert str(path) in str(error) and "\n" not in str(error)
            refused += 1
    return refused
