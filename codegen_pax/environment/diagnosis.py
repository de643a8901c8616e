"""Checks of the environment, each with the command that corrects it."""

import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from codegen_pax.environment import pins

PYTHON = (3, 11)

# What fails with another version than the locked one, where this is known.
BREAKS = {
    "jax": "from 0.6 on jax.tree_map is gone, which paxml and praxis call",
    "jaxlib": "it must be the version that jax was released with",
    "ml-dtypes": "jaxlib is compiled against its types",
    "numpy": "numpy 2 has no np.unicode_, so evaluation and decoding fail in paxml",
    "orbax-checkpoint": "from 0.5.12 on paxml's PaxStepNameFormat is abstract and cannot be made",
    "setuptools": "it builds the package itself",
}
# Packages whose other versions have not been tried; a deviation of any other is a warning.
STACK = {
    *BREAKS,
    *("fiddle", "flax", "lingvo", "optax", "paxml", "praxis", "protobuf", "pyglove", "scipy"),
    *("seqio", "tensorflow", "tensorflow-text", "tensorstore", "tokenizers"),
}
# If these are as locked, an error when jax is imported is about the machine, not the packages.
JAX_NEEDS = ("jax", "jaxlib", "ml-dtypes", "numpy", "opt-einsum", "scipy")

DEVICE_QUERY = """
import json, jax
print(json.dumps([f"{device.platform} {device.device_kind}" for device in jax.devices()]))
"""
DEVICE_SECONDS = 60

# Linux' list of PCI devices, and the ids of TPU chips (jax/_src/hardware_utils.py in jax 0.5.3).
PCI = Path("/sys/bus/pci/devices")
GOOGLE = "0x1ae0"
TPU_CHIPS = {"0x0027", "0x0056", "0x005e", "0x0062", "0x0063", "0x006f"}

GIGABYTE = 10**9
# A checkpoint of 350M with Adam's two moments in float32 takes 4.3 GB; there are two while one is
# replaced.
FREE_EXPECTED = 10 * GIGABYTE
# Nano's job directory with a margin; with less even `make run` may fail.
FREE_NEEDED = 1 * GIGABYTE

Status = Literal["ok", "warning", "error"]


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    Attributes:
        check: what is checked: 'python', a package's name, 'devices', …
        status: 'error' where training or decoding would fail, 'warning' where it may.
        found: what is there.
        expected: what should be there.
        mend: the command or action that corrects it; empty if nothing is wrong.
        why: what fails otherwise, where known.
    """

    check: str
    status: Status
    found: str
    expected: str
    mend: str = ""
    why: str = ""


def diagnose() -> list[Finding]:
    """Returns the results of all checks, in the order in which to correct them."""
    lock = pins.locked()
    installed = pins.installed()
    findings = [python(), machine(), *packages(lock, installed), *extras(installed), *modules()]
    findings.append(libtpu(installed))
    errors = {finding.check for finding in findings if finding.status == "error"}
    if errors & {"python", "libtpu", *JAX_NEEDS}:
        findings.append(
            Finding(
                "devices",
                "warning",
                "not checked",
                "an answer from JAX",
                "correct the above, then check again",
            )
        )
    else:
        findings.append(devices())
    findings.append(disk(Path.cwd()))
    return findings


def python() -> Finding:
    """Checks the version of the interpreter."""
    expected = "{}.{}".format(*PYTHON)
    found = platform.python_version()
    if sys.version_info[:2] == PYTHON:
        return Finding("python", "ok", found, expected)
    mend = f"make clean, then make setup PYTHON=/path/to/python{expected}"
    return Finding(
        "python", "error", found, expected, mend, "the lock holds packages of one Python"
    )


def machine() -> Finding:
    """Checks the operating system and processor, for which compiled packages are built."""
    found, expected = f"{platform.system()} {platform.machine()}", "Linux x86_64"
    if found == expected:
        return Finding("machine", "ok", found, expected)
    why = "lingvo and tensorflow-text are published for it only"
    return Finding("machine", "error", found, expected, f"use a {expected} machine", why)


def packages(
    lock: Mapping[str, str], installed: Mapping[str, tuple[str, ...]]
) -> Iterator[Finding]:
    """Compares the installed packages with the lock.

    Args:
        lock: package -> locked version.
        installed: package -> installed versions, as `pins.installed` returns them.

    Yields:
        One finding for each package that differs; a single one with status 'ok' if none does.
    """
    differing = 0
    for package, expected in lock.items():
        versions = installed.get(package, ())
        if versions == (expected,):
            continue
        differing += 1
        is_error = package in STACK or not versions or len(versions) > 1
        mend = f"{pip()} install --no-deps --force-reinstall {package}=={expected}"
        if len(versions) > 1:
            # pip removes one of the two at a time.
            mend = f"{pip()} uninstall --yes {package} (once for each), then {mend}"
        yield Finding(
            package,
            "error" if is_error else "warning",
            " and ".join(versions) or "nothing",
            expected,
            mend,
            BREAKS.get(package, ""),
        )
    if not differing:
        count = f"{len(lock)} of {len(lock)} as locked"
        yield Finding("packages", "ok", count, "every pin of the lock")


def extras(installed: Mapping[str, tuple[str, ...]]) -> Iterator[Finding]:
    """Compares installed packages of the optional locks with their pins."""
    for name in ("gpu.txt", "docs.txt", "test.txt", "torch.txt"):
        for package, expected in pins.locked(name).items():
            versions = installed.get(package, ())
            # PyTorch's versions name the kind of build after a plus.
            if any(version.partition("+")[0] != expected for version in versions):
                mend = f"{pip()} install --no-deps --force-reinstall {package}=={expected}"
                yield Finding(package, "warning", " and ".join(versions), expected, mend)


def modules() -> Iterator[Finding]:
    """Checks that the project's top-level names are imported from the project.

    paxml imports `codegen` by name, and other packages have each of these names too.
    """
    home = Path(pins.__file__).resolve().parents[2]
    for name in ("codegen", "experiments", "tasks"):
        spec = find_spec(name)
        places = [spec.origin] if spec and spec.origin else list(_locations(spec))
        inside = [place for place in places if Path(place).resolve().is_relative_to(home)]
        if not places or not inside:
            yield Finding(
                f"module {name}",
                "error",
                ", ".join(places) or "nothing",
                f"the one in {home}",
                f"{pip()} install --no-deps --no-build-isolation --editable {home}"
                if not places
                else f"remove or rename {places[0]}, or run from another directory",
                f"paxml would not find the experiments: it imports {name} by this name",
            )


def _locations(spec) -> Iterable[str]:
    return (spec.submodule_search_locations or ()) if spec else ()


def libtpu(installed: Mapping[str, tuple[str, ...]]) -> Finding:
    """Checks that the TPU runtime is installed if and only if there are TPU chips."""
    expected = pins.locked("tpu.txt")["libtpu"]
    versions = installed.get("libtpu", ())
    found = " and ".join(versions)
    chips = tpu_chips()
    install = f"{pip()} install --no-deps --force-reinstall libtpu=={expected}"
    if versions and not chips and not os.environ.get("JAX_PLATFORMS"):
        return Finding(
            "libtpu",
            "error",
            f"{found}, no TPU, JAX_PLATFORMS unset",
            "no libtpu where there is no TPU",
            f"{pip()} uninstall --yes libtpu, or export JAX_PLATFORMS=cpu",
            "every JAX program would first search for a TPU for minutes",
        )
    if chips and not versions:
        why = "JAX would not see the TPU"
        return Finding("libtpu", "error", "nothing", expected, install, why)
    if versions and versions != (expected,):
        return Finding(
            "libtpu", "warning", found, expected, install, "each jaxlib needs one version of it"
        )
    return Finding("libtpu", "ok", found or "absent", expected if chips else "not needed here")


def tpu_chips() -> int:
    """Returns the number of TPU chips on the PCI bus."""

    def identity(device: Path, field: str) -> str:
        try:
            return (device / field).read_text().strip()
        except OSError:
            return ""

    return sum(
        identity(device, "vendor") == GOOGLE and identity(device, "device") in TPU_CHIPS
        for device in PCI.glob("*")
    )


def devices() -> Finding:
    """Gets JAX' devices in a child process, since libtpu can hang or abort the process."""
    expected = "an answer from JAX"
    try:
        answer = subprocess.run(
            # -P: no module of the working directory, which may be a job directory, is imported.
            [sys.executable, "-P", "-c", DEVICE_QUERY],
            capture_output=True,
            text=True,
            timeout=DEVICE_SECONDS,
            check=True,
        )
        kinds = json.loads(answer.stdout.splitlines()[-1])
    except subprocess.TimeoutExpired:
        mend = "free the device from other programs, or export JAX_PLATFORMS=cpu"
        return Finding("devices", "error", f"no answer in {DEVICE_SECONDS} s", expected, mend)
    except subprocess.CalledProcessError as error:
        lines = error.stderr.strip().splitlines() or [f"it ended with status {error.returncode}"]
        mend = "export JAX_PLATFORMS=cpu to run without the device"
        return Finding("devices", "error", lines[-1], expected, mend)
    found = ", ".join(f"{kinds.count(kind)} x {kind}" for kind in dict.fromkeys(kinds))
    idle_gpu = Path("/proc/driver/nvidia/version").exists() and "gpu" not in found
    if idle_gpu and not os.environ.get("JAX_PLATFORMS"):
        mend = f"{pip()} install --no-deps -r {pins.REQUIREMENTS.resolve() / 'gpu.txt'}"
        why = "this machine has an NVIDIA GPU, which JAX does not see"
        return Finding("devices", "warning", found, "the GPU", mend, why)
    return Finding("devices", "ok", found, expected)


def disk(directory: Path) -> Finding:
    """Checks the free disk space of `directory`, where runs are written."""
    free = shutil.disk_usage(directory).free
    found, expected = f"{free / GIGABYTE:.1f} GB free", f"{FREE_EXPECTED / GIGABYTE:.0f} GB"
    if free >= FREE_EXPECTED:
        return Finding("disk", "ok", found, expected)
    status: Status = "warning" if free >= FREE_NEEDED else "error"
    why = "a checkpoint of 350M takes 4.3 GB"
    return Finding("disk", status, found, expected, f"free some, or leave {directory}", why)


def pip() -> str:
    """Returns the command that runs this interpreter's pip, with a relative path if possible."""
    executable = Path(sys.executable)
    if executable.is_relative_to(Path.cwd()):
        executable = executable.relative_to(Path.cwd())
    return f"{executable} -m pip"
