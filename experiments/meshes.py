"""The mesh each size is declared for. Standard library only.

A mesh is `[replica, data, mdl]`: `replica` copies everything, `data` shards the batch and, fully,
every parameter and its moments; `mdl` shards heads, feed-forward and vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from codegen_pax.errors import InvalidValueError
from experiments import checks

AXES = ("replica", "data", "mdl")


@dataclass(frozen=True)
class Mesh:
    """One mesh.

    Attributes:
      shape: devices along replica, data and mdl.
      hardware: the slice it was chosen for, as the cloud calls it; '' if chosen by the user.

    Raises ValueError for a shape that is not three positive whole numbers.
    """

    shape: tuple[int, int, int]
    hardware: str = ""

    def __post_init__(self):
        shape = checks.several("mesh", "shape", self.shape)
        if len(shape) != len(AXES):
            raise InvalidValueError(
                f"mesh: shape={self.shape!r}; wanted devices along {', '.join(AXES)}, as (1, 64, 4)"
            )
        sizes = zip(AXES, shape, strict=True)
        checks.store(self, "shape", tuple(checks.whole("mesh", *size) for size in sizes))

    @property
    def devices(self) -> int:
        return math.prod(self.shape)

    @property
    def batch_shards(self) -> int:
        """Parts the batch is cut into."""
        return self.shape[0] * self.shape[1]

    def __str__(self) -> str:
        return "x".join(map(str, self.shape))


def parse_mesh(text: str) -> Mesh:
    """`'1x64x4'` -> Mesh((1, 64, 4)).

    Raises:
      ValueError: not three positive whole numbers.
    """
    parts = text.lower().split("x")
    if len(parts) != 3 or not all(part.isdecimal() and int(part) for part in parts):
        raise InvalidValueError(
            f"mesh {text!r}: wanted replica x data x mdl, three positive whole numbers, "
            "as in '1x64x4'"
        )
    return Mesh(tuple(map(int, parts)))


# Cloud names count TensorCores on v4: v4-512 is 256 chips of 32 GiB. `data` divides the size's
# micro-batch; `mdl` divides its heads (16B has 24). Float32 weights and two moments take
# 12 bytes a parameter: 16B needs 192 GB, 0.75 GB a chip, the rest is for activations.
MESHES: Mapping[str, Mesh] = MappingProxyType(
    {
        "Nano": Mesh((1, 1, 1), "one CPU"),
        "350M": Mesh((1, 8, 1), "TPU v4-16"),
        "2B": Mesh((1, 32, 1), "TPU v4-64"),
        "6B": Mesh((1, 32, 2), "TPU v4-128"),
        "16B": Mesh((1, 64, 4), "TPU v4-512"),
    }
)
