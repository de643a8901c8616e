"""XLA's flags for tests, whose programs take seconds to compile and run a few times.

LLVM's expensive passes and its second level of optimisation make a program faster, and a test
slower. The numbers are those of the same operations; XLA's own passes are all made.
"""

COMPILED_QUICKLY = "--xla_backend_optimization_level=1 --xla_llvm_disable_expensive_passes=true"


def fake_devices(count: int) -> str:
    """Flags for a CPU that is seen as so many devices."""
    return f"--xla_force_host_platform_device_count={count} {COMPILED_QUICKLY}"
