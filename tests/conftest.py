"""What every test shares, chosen before JAX is imported: the CPU, seen as eight devices; no hub."""

import os

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ["HF_HUB_OFFLINE"] = "1"
for name in [name for name in os.environ if name.startswith("CODEGEN_")]:
    del os.environ[name]  # each test chooses its own
