"""The table of peaks, by the names that JAX gives devices."""

import math

import pytest

from codegen_pax.plan import accelerators


@pytest.mark.parametrize(
    ("kind", "flops"),
    [
        ("TPU v3", 61.5e12),  # a device is one of the chip's two cores
        ("TPU v4", 275e12),
        ("TPU v5 lite", 197e12),
        ("TPU v5e", 197e12),
        ("TPU v5", 459e12),
        ("TPU v5p", 459e12),
        ("TPU v6 lite", 918e12),
        ("TPU v6e", 918e12),
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA H200", 989e12),
    ],
)
def test_a_device_of_the_table_has_its_peak(kind, flops):
    assert accelerators.of_kind(kind).device_flops == flops


@pytest.mark.parametrize("kind", ["cpu", "NVIDIA H100 PCIe", "TPU v4 lite", "TPU", ""])
def test_any_other_device_has_none(kind):
    assert accelerators.of_kind(kind) is None


def test_no_two_accelerators_share_a_name():
    table = accelerators.ACCELERATORS
    kinds = [kind for one in table for kind in one.kinds]
    assert len({*kinds}) == len(kinds) and len({one.name for one in table}) == len(table)
    assert all(one.flops > 0 for one in table if one.kinds)
    assert math.isnan(accelerators.CPU.flops)
