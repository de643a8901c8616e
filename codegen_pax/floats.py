"""The floating-point types of weights, and the search for numbers that are not finite."""

from __future__ import annotations

import math
from collections.abc import Iterable

import ml_dtypes
import numpy as np

from codegen_pax import names
from codegen_pax.errors import InvalidValueError

# What weights may be stored as, by the name that users know.
DTYPES: dict[str, np.dtype] = {
    "float32": np.dtype(np.float32),
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
}

# What else people call them: PyTorch's own other names, and those of its users.
_SHORT_NAMES = {
    "fp32": "float32",
    "f32": "float32",
    "float": "float32",
    "single": "float32",
    "fp16": "float16",
    "f16": "float16",
    "half": "float16",
    "bf16": "bfloat16",
}


def dtype(name: str) -> np.dtype:
    """Returns the type of weights called `name`; ValueError with the nearest name if none is."""
    plain = name.lower().removeprefix("torch.")
    plain = _SHORT_NAMES.get(plain, plain)
    if plain not in DTYPES:
        known = [*DTYPES, *_SHORT_NAMES]
        raise InvalidValueError(names.unknown("dtype of weights", name, known))
    return DTYPES[plain]


def is_finite(array: np.ndarray) -> bool:
    """Returns whether an array of a type of `DTYPES` has neither NaN nor infinity.

    It looks at the bits: the NaNs lie beyond infinity, those without a sign at the end of the
    signed integers, those with one at the end of the unsigned. Two passes without a copy, 14 GB/s
    here and more; numpy's own `isfinite` does 16 of float32, 0.9 of bfloat16 and 0.5 of float16.
    """
    if not array.size:
        return True
    infinity = np.array(np.inf, array.dtype)
    unsigned, signed = f"u{array.itemsize}", f"i{array.itemsize}"
    positive, negative = infinity.view(signed), (-infinity).view(unsigned)
    return bool(
        array.view(signed).max() < positive[()] and array.view(unsigned).max() < negative[()]
    )


def non_finite_error(
    description: str, shape: tuple[int, ...], parts: Iterable[tuple[int, np.ndarray]]
) -> InvalidValueError:
    """Returns an error that says how many numbers of a tensor are not finite, and names the first.

    One NaN in a network makes all that it computes NaN, and a model that answers `!!!!!!` says
    nothing of where it lies.

    Args:
        description: of the tensor, for the message.
        shape: of the tensor.
        parts: its rows, in order: the number of the first one, and the rows; leading axes of the
            shape that a row does not have are joined to one.
    """
    count, first = 0, None
    for start, rows in parts:
        bad = np.flatnonzero(~np.isfinite(rows.astype(np.float32)))
        count += len(bad)
        if first is None and len(bad):
            place = start * math.prod(rows.shape[1:]) + int(bad[0])
            index = ", ".join(map(str, np.unravel_index(place, shape)))
            first = f"{rows.reshape(-1)[bad[0]]} at [{index}]"
    numbers = "1 number that is" if count == 1 else f"{count:,} numbers that are"
    return InvalidValueError(
        f"{description} holds {numbers} not finite, the first {first}: training has diverged, or "
        "the file is damaged"
    )
