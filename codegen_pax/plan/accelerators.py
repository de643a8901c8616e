"""The peak rates of accelerators, by the names that JAX gives their devices. Standard library only.

Sources are the vendors' data sheets: Google Cloud's page of each TPU version, and NVIDIA's data
sheets of A100, H100 and H200 (bfloat16 on tensor cores, half of what is given with sparsity). The
PCIe and NVL boards of the H100 are slower than its SXM board and are not in the table.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Accelerator:
    """A kind of chip.

    Attributes:
        name: The name of the accelerator.
        flops: Peak of one chip in dense bfloat16, FLOP/s; NaN if unknown.
        kinds: What JAX calls its devices (`jax.Device.device_kind`), by any version of the runtime.
        devices: Devices that JAX shows for one chip: 2 where each core is a device.
    """

    name: str
    flops: float = math.nan
    kinds: tuple[str, ...] = ()
    devices: int = 1

    @property
    def device_flops(self) -> float:
        """Peak of one device in dense bfloat16, FLOP/s; NaN if unknown."""
        return self.flops / self.devices


CPU = Accelerator("CPU")
TPU_V3 = Accelerator("TPU v3", 123e12, ("TPU v3",), devices=2)
TPU_V4 = Accelerator("TPU v4", 275e12, ("TPU v4",))
TPU_V5E = Accelerator("TPU v5e", 197e12, ("TPU v5 lite", "TPU v5e"))
TPU_V5P = Accelerator("TPU v5p", 459e12, ("TPU v5", "TPU v5p"))
TPU_V6E = Accelerator("TPU v6e", 918e12, ("TPU v6 lite", "TPU v6e"))
A100 = Accelerator(
    "A100",
    312e12,
    (
        "NVIDIA A100-SXM4-40GB",
        "NVIDIA A100-SXM4-80GB",
        "NVIDIA A100-PCIE-40GB",
        "NVIDIA A100 80GB PCIe",
    ),
)
H100 = Accelerator("H100 SXM", 989e12, ("NVIDIA H100 80GB HBM3",))
H200 = Accelerator("H200 SXM", 989e12, ("NVIDIA H200",))

ACCELERATORS = (CPU, TPU_V3, TPU_V4, TPU_V5E, TPU_V5P, TPU_V6E, A100, H100, H200)


def of_kind(kind: str) -> Accelerator | None:
    """Returns the accelerator whose devices JAX calls `kind`; None if the table has none.

    A name is compared as a whole: boards whose names begin alike may differ in speed.
    """
    return next((one for one in ACCELERATORS if kind in one.kinds), None)
