"""What every test shares: the CPU, seen as eight devices, chosen before JAX is imported."""

import os

import pytest

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


def pytest_collection_modifyitems(items):
    """With several workers a file stays on one, and all runs of the binary, which share jobs."""
    for item in items:
        name = item.path.parent.name if item.get_closest_marker("e2e") else item.path.name
        item.add_marker(pytest.mark.xdist_group(name))
