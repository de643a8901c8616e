"""The meshes of devices for each size, by accelerator. Standard library only.

A mesh is `[replica, data, mdl]`: `replica` copies everything; `data` shards the batch and, fully,
every parameter and its moments; `mdl` shards heads, feed-forward and vocabulary.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from codegen_pax.errors import InvalidValueError
from codegen_pax.plan.accelerators import CPU, TPU_V4, Accelerator
from experiments import checks

AXES = ("replica", "data", "mdl")


@dataclass(frozen=True)
class Mesh:
    """One mesh.

    Attributes:
        shape: Number of devices along replica, data and mdl.
        hardware: The cloud's name of the slice of devices that the mesh is chosen for; '' if the
            user chose the mesh.

    Raises:
        ValueError: The shape is not three positive whole numbers.
    """

    shape: tuple[int, int, int]
    hardware: str = ""

    def __post_init__(self):
        shape = checks.sequence("mesh", "shape", self.shape)
        if len(shape) != len(AXES):
            raise InvalidValueError(
                f"mesh: shape={self.shape!r}; expected devices along {', '.join(AXES)}, as "
                "(1, 64, 4)"
            )
        sizes = zip(AXES, shape, strict=True)
        checks.store(self, "shape", tuple(checks.integer("mesh", *size) for size in sizes))

    @property
    def devices(self) -> int:
        """The number of devices in the mesh."""
        return math.prod(self.shape)

    @property
    def batch_shards(self) -> int:
        """The number of parts that the batch is split into."""
        return self.shape[0] * self.shape[1]

    def __str__(self) -> str:
        return "x".join(map(str, self.shape))


def parse_mesh(text: str) -> Mesh:
    """Returns Mesh((1, 64, 4)) for '1x64x4'.

    Raises:
        ValueError: The text is not three positive whole numbers.
    """
    parts = text.lower().split("x")
    if len(parts) != 3 or not all(part.isdecimal() and int(part) for part in parts):
        raise InvalidValueError(
            f"mesh {text!r}: expected replica x data x mdl, three positive whole numbers, "
            "as in '1x64x4'"
        )
    replica, data, mdl = map(int, parts)
    return Mesh((replica, data, mdl))


@dataclass(frozen=True)
class Placement:
    """The mesh and the micro-batch of a size on a slice of an accelerator.

    Attributes:
        accelerator: The kind of device that the placement is chosen for.
        mesh: The mesh of the slice. `mdl` divides the size's heads.
        micro_batch_rows: Rows of one micro-batch, over the whole mesh; `replica` x `data` divides
            this number. The batch divided by it is the number of accumulation steps.

    Raises:
        ValueError: The mesh does not divide the micro-batch.
    """

    accelerator: Accelerator
    mesh: Mesh
    micro_batch_rows: int

    def __post_init__(self):
        owner = f"placement on {self.accelerator.name}"
        rows = checks.integer(owner, "micro_batch_rows", self.micro_batch_rows)
        if rows % self.mesh.batch_shards:
            raise InvalidValueError(
                f"{owner}: micro_batch_rows={rows}; expected a multiple of replica x data = "
                f"{self.mesh.batch_shards} of mesh {self.mesh}"
            )


# Size -> its placements, one for each accelerator; an experiment uses the first.
#
# Cloud names count TensorCores on v4: v4-512 is 256 chips of 32 GiB. 16B has 24 heads, so `mdl` is
# 4. Float32 weights and two moments take 12 bytes per parameter: 16B needs 192 GB, or 0.75 GB per
# chip; the rest is for activations.
# Rows of a micro-batch [config]: per-replica batch x data-parallel replicas (TPU v3 cores / 8):
# 350M 1 x 8, 2B 2 x 16, 6B 1 x 32, which gives the configs' 32, 16 and 16 accumulation steps.
# 16B [ours]: one row for each of its mesh's 64 data shards. Nano and Micro [ours]: rows that a
# mesh of 4 can share, each long enough for an instruction pair.
PLACEMENTS: dict[str, tuple[Placement, ...]] = {
    "Nano": (Placement(CPU, Mesh((1, 1, 1), "one CPU"), 4),),
    "Micro": (Placement(CPU, Mesh((1, 1, 1), "one CPU"), 4),),
    "350M": (Placement(TPU_V4, Mesh((1, 8, 1), "TPU v4-16"), 8),),
    "2B": (Placement(TPU_V4, Mesh((1, 32, 1), "TPU v4-64"), 32),),
    "6B": (Placement(TPU_V4, Mesh((1, 32, 2), "TPU v4-128"), 32),),
    "16B": (Placement(TPU_V4, Mesh((1, 64, 4), "TPU v4-512"), 64),),
}
