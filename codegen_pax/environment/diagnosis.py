"""What is wrong with an environment, and how to mend it."""

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

# What a move away from the lock breaks, where it is known. Measured on this stack.
BREAKS = {
    "jax": "from 0.6 on jax.tree_map is gone, which paxml and praxis call",
    "jaxlib": "it must be the version that jax was released with",
    "ml-dtypes": "jaxlib is compiled against its types",
    "numpy": "numpy 2 has no np.unicode_, so evaluation and decoding fail in paxml",
    "orbax-checkpoint": "from 0.5.12 on paxml's PaxStepNameFormat is abstract and cannot be made",
    "setuptools": "it builds the package itself",
}
# Those whose other versions were not tried; any other package off its pin is a warning.
STACK = {
    *BREAKS,
    *("fiddle", "flax", "lingvo", "optax", "paxml", "praxis", "protobuf", "pyglove", "scipy"),
    *("seqio", "tensorflow", "tensorflow-text", "tensorstore", "tokenizers"),
}
# With these as locked, importing jax says something about the machine, not about the packages.
JAX_NEEDS = ("jax", "jaxlib", "ml-dtypes", "numpy", "opt-einsum", "scipy")

DEVICE_QUERY = """
import json, jax
print(json.dumps([f"{device.platform} {device.device_kind}" for device in jax.devices()]))
"""
DEVICE_SECONDS = 60

# Where Linux lists PCI devices, and a TPU chip's identities there (jax/_src/hardware_utils.py of
# jax 0.5.3).
PCI = Path("/sys/bus/pci/devices")
GOOGLE = "0x1ae0"
TPU_CHIPS = {"0x0027", "0x0056", "0x005e", "0x0062", "0x0063", "0x006f"}

GIGABYTE = 10**9
# One checkpoint of 350M with Adam's two moments in float32 is 4.3 GB; two are there while one is
# being replaced.
FREE_WANTED = 10 * GIGABYTE
# Nano's run folder with room to spare; less and even `make run` may stop half-way.
FREE_NEEDED = 1 * GIGABYTE

Status = Literal["ok", "warning", "error"]


@dataclass(frozen=True)
class Finding:
    """One thing looked at.

    Attributes:
        check: what was looked at: 'python', a package's name, 'devices', …
        status: 'error' where training or decoding would fail, 'warning' where it may.
        found: what is there.
        wanted: what should be there.
        mend: the command or act that puts it right; empty when all is well.
        why: what goes wrong if it stays, where that is known.
    """

    check: str
    status: Status
    found: str
    wanted: str
    mend: str = ""
    why: str = ""


def diagnose() -> list[Finding]:
    """Returns everything looked at in this environment, in the order to mend it in."""
    lock = pins.locked()
    installed = pins.installed()
    findings = [python(), machine(), *packages(lock, installed), *extras(installed), *modules()]
    findings.append(libtpu(installed))
    unsound = {finding.check for finding in findings if finding.status == "error"}
    if unsound & {"python", "libtpu", *JAX_NEEDS}:
        findings.append(
            Finding(
                "devices",
                "warning",
                "not asked",
                "an answer from JAX",
                "mend the above, then ask again",
            )
        )
    else:
        findings.append(devices())
    findings.append(disk(Path.cwd()))
    return findings


def python() -> Finding:
    """Looks at the interpreter's version."""
    wanted = "{}.{}".format(*PYTHON)
    found = platform.python_version()
    if sys.version_info[:2] == PYTHON:
        return Finding("python", "ok", found, wanted)
    mend = f"make clean, then make setup PYTHON=/path/to/python{wanted}"
    return Finding("python", "error", found, wanted, mend, "the lock holds packages of one Python")


def machine() -> Finding:
    """Looks at the operating system and processor, which compiled packages are made for."""
    found, wanted = f"{platform.system()} {platform.machine()}", "Linux x86_64"
    if found == wanted:
        return Finding("machine", "ok", found, wanted)
    why = "lingvo and tensorflow-text are published for it alone"
    return Finding("machine", "error", found, wanted, f"use a {wanted} machine", why)


def packages(
    lock: Mapping[str, str], installed: Mapping[str, tuple[str, ...]]
) -> Iterator[Finding]:
    """Holds every pin of the lock against what is installed.

    Args:
        lock: {package: version} wanted.
        installed: {package: versions} there, as `pins.installed` returns them.

    Yields:
        One finding for each package that is off its pin; a single good one when none is.
    """
    off = 0
    for package, wanted in lock.items():
        versions = installed.get(package, ())
        if versions == (wanted,):
            continue
        off += 1
        serious = package in STACK or not versions or len(versions) > 1
        mend = f"{pip()} install --no-deps --force-reinstall {package}=={wanted}"
        if len(versions) > 1:
            # pip removes one of the two at a time.
            mend = f"{pip()} uninstall --yes {package} (once for each), then {mend}"
        yield Finding(
            package,
            "error" if serious else "warning",
            " and ".join(versions) or "nothing",
            wanted,
            mend,
            BREAKS.get(package, ""),
        )
    if not off:
        count = f"{len(lock)} of {len(lock)} as locked"
        yield Finding("packages", "ok", count, "every pin of the lock")


def extras(installed: Mapping[str, tuple[str, ...]]) -> Iterator[Finding]:
    """Holds what is there of the other locks, which not everybody installs, against its pins."""
    for name in ("gpu.txt", "docs.txt", "test.txt", "torch.txt"):
        for package, wanted in pins.locked(name).items():
            versions = installed.get(package, ())
            # PyTorch's builds say after a plus what they are for.
            if any(version.partition("+")[0] != wanted for version in versions):
                mend = f"{pip()} install --no-deps --force-reinstall {package}=={wanted}"
                yield Finding(package, "warning", " and ".join(versions), wanted, mend)


def modules() -> Iterator[Finding]:
    """Looks whether the project's own top-level names lead to the project.

    paxml imports `codegen` by name, and each of these names is also that of some other package.
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
    """Looks whether the TPU runtime and the chips are there together, or neither."""
    wanted = pins.locked("tpu.txt")["libtpu"]
    versions = installed.get("libtpu", ())
    found = " and ".join(versions)
    chips = tpu_chips()
    install = f"{pip()} install --no-deps --force-reinstall libtpu=={wanted}"
    if versions and not chips and not os.environ.get("JAX_PLATFORMS"):
        return Finding(
            "libtpu",
            "error",
            f"{found}, no TPU, JAX_PLATFORMS unset",
            "no libtpu where there is no TPU",
            f"{pip()} uninstall --yes libtpu, or export JAX_PLATFORMS=cpu",
            "every JAX program would first spend minutes looking for a TPU",
        )
    if chips and not versions:
        why = "JAX would not see the TPU"
        return Finding("libtpu", "error", "nothing", wanted, install, why)
    if versions and versions != (wanted,):
        return Finding("libtpu", "warning", found, wanted, install, "it goes with one jaxlib")
    return Finding("libtpu", "ok", found or "absent", wanted if chips else "not needed here")


def tpu_chips() -> int:
    """Returns how many TPU chips are on this machine's PCI bus."""

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
    """Asks JAX for its devices, in a child process: libtpu can hang, or abort the process."""
    wanted = "an answer from JAX"
    try:
        answer = subprocess.run(
            # Not what lies in the working directory: that may be a run's folder, which is data.
            [sys.executable, "-P", "-c", DEVICE_QUERY],
            capture_output=True,
            text=True,
            timeout=DEVICE_SECONDS,
            check=True,
        )
        kinds = json.loads(answer.stdout.splitlines()[-1])
    except subprocess.TimeoutExpired:
        mend = "free the device from other programs, or export JAX_PLATFORMS=cpu"
        return Finding("devices", "error", f"no answer in {DEVICE_SECONDS} s", wanted, mend)
    except subprocess.CalledProcessError as error:
        said = error.stderr.strip().splitlines() or [f"it ended with status {error.returncode}"]
        mend = "export JAX_PLATFORMS=cpu to do without the device"
        return Finding("devices", "error", said[-1], wanted, mend)
    found = ", ".join(f"{kinds.count(kind)} x {kind}" for kind in dict.fromkeys(kinds))
    idle_gpu = Path("/proc/driver/nvidia/version").exists() and "gpu" not in found
    if idle_gpu and not os.environ.get("JAX_PLATFORMS"):
        mend = f"{pip()} install --no-deps -r {pins.REQUIREMENTS.resolve() / 'gpu.txt'}"
        why = "this machine has an NVIDIA GPU, which JAX does not see"
        return Finding("devices", "warning", found, "the GPU", mend, why)
    return Finding("devices", "ok", found, wanted)


def disk(directory: Path) -> Finding:
    """Looks at the free space of the disk that holds `directory`, where runs are written."""
    free = shutil.disk_usage(directory).free
    found, wanted = f"{free / GIGABYTE:.1f} GB free", f"{FREE_WANTED / GIGABYTE:.0f} GB"
    if free >= FREE_WANTED:
        return Finding("disk", "ok", found, wanted)
    status = "warning" if free >= FREE_NEEDED else "error"
    why = "a checkpoint of 350M takes 4.3 GB"
    return Finding("disk", status, found, wanted, f"free some, or leave {directory}", why)


def pip() -> str:
    """Returns the command that runs this interpreter's pip, as short as it can be written."""
    executable = Path(sys.executable)
    if executable.is_relative_to(Path.cwd()):
        executable = executable.relative_to(Path.cwd())
    return f"{executable} -m pip"
