"""JAX's cache of compiled programs, on by default where it is safe.

A program that was compiled once is read from a folder by the next process that needs it. JAX's own
variables keep their meaning: `JAX_COMPILATION_CACHE_DIR` chooses the folder, and
`JAX_ENABLE_COMPILATION_CACHE=false` turns the cache off.

With jaxlib 0.5.3 a CPU reads some programs wrongly from the cache: a loop whose end depends on
data is not run at all, and with several devices the first collective waits for ever. So a CPU has
it only where the caller's programs have neither.
"""

from __future__ import annotations

import hashlib
import os
import platform
from pathlib import Path

import jax

FOLDER = "codegen-pax/compiled"
# JAX's own default, a second, leaves out most of what a short command compiles.
MIN_COMPILE_SECONDS = 0.1


def enable(*, on_cpu: bool) -> Path | None:
    """Turns the cache on for programs that take over a tenth of a second to compile.

    Call it before the first program is compiled. It makes JAX find its devices.

    Args:
        on_cpu: Whether this process' programs are read rightly by a CPU.

    Returns:
        The folder; None if the cache stays off or is at a place of the user's.
    """
    if (
        jax.config.values["jax_compilation_cache_dir"]
        or not jax.config.values["jax_enable_compilation_cache"]
    ):
        return None
    if jax.default_backend() == "cpu" and not (on_cpu and jax.device_count() == 1):
        return None
    folder = _cache_home() / FOLDER / _machine()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None  # a home that cannot be written to: every program is compiled, as without one
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", MIN_COMPILE_SECONDS)
    return folder


def _cache_home() -> Path:
    """Returns the user's folder for what can be made again (XDG Base Directory Specification)."""
    home = os.environ.get("XDG_CACHE_HOME", "")
    return Path(home) if os.path.isabs(home) else Path.home() / ".cache"


def _machine() -> str:
    """Returns a name for what a program is compiled for, beyond what JAX puts into its keys.

    A program for a CPU uses its instructions, and a home may be shared by machines of two kinds.
    """
    backend = jax.default_backend()
    if backend != "cpu":
        return backend
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = [platform.processor()]
    kinds = {line for line in lines if line.startswith(("flags", "Features", "model name"))}
    digest = hashlib.sha256("\n".join(sorted(kinds or lines)).encode()).hexdigest()
    return f"cpu-{digest[:16]}"
