"""The floating-point types of weights, and the search for numbers that are not finite."""

from __future__ import annotations

import math
from collections.abc import Iterable

import ml_dtypes
import numpy as np

from codegen_pax import messages
from codegen_pax.errors import InvalidValueError

# The types in which weights may be stored, by the names that users know.
DTYPES: dict[str, np.dtype] = {
    "float32": np.dtype(np.float32),
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
}

# Other names of these types: PyTorch's own aliases, and those of its users.
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
    """Returns the type called `name`; raises ValueError with the nearest name if it is unknown."""
    plain = name.lower().removeprefix("torch.")
    plain = _SHORT_NAMES.get(plain, plain)
    if plain not in DTYPES:
        known = [*DTYPES, *_SHORT_NAMES]
        raise InvalidValueError(messages.unknown("dtype of weights", name, known))
    return DTYPES[plain]


def is_finite(array: np.ndarray) -> bool:
    """Returns whether an array of a type of `DTYPES` has neither NaN nor infinity.

    It compares the bits as integers: NaNs lie beyond infinity, positive ones at the end of the
    signed integers, negative ones at the end of the unsigned. It makes two passes without a copy,
    at 14 GB/s or more; numpy's `isfinite` runs at 16 GB/s for float32, 0.9 for bfloat16 and 0.5 for
    float16.
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

    One NaN in the weights makes every output NaN: the model answers `!!!!!!`, which does not show
    where the NaN is.

    Args:
        description: describes the tensor, for the message.
        shape: the shape of the tensor.
        parts: slices of the tensor in order, each as (number of its first row, rows); leading axes
            of the shape may be joined into one axis of rows.
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
