"""Locked and installed versions, by package name."""

import re
import sys
from importlib import metadata
from pathlib import Path

# A link to the repository's requirements/, and a copy of it in an installed package.
REQUIREMENTS = Path(__file__).parent / "requirements"


def locked(name: str = "base.txt") -> dict[str, str]:
    """Returns {normalised name: version} as pinned by a file of `requirements/`."""
    pins = {}
    for line in (REQUIREMENTS / name).read_text().splitlines():
        pin = line.split("#")[0].strip()
        if pin:
            package, version = pin.split("==")
            pins[normalised(package)] = version
    return pins


def installed() -> dict[str, tuple[str, ...]]:
    """Returns {package: versions} of this interpreter's packages.

    Only the first directory of `sys.path` with a package counts, since it is imported from there.
    More than one version means that an installer has left two in that directory.
    """
    versions: dict[str, tuple[str, ...]] = {}
    for directory in sys.path:
        here: dict[str, set[str]] = {}
        for distribution in metadata.distributions(path=[directory]):
            name = distribution.metadata["Name"]
            if name and distribution.version:  # a half-removed package has neither
                here.setdefault(normalised(name), set()).add(distribution.version)
        for name, present in here.items():
            versions.setdefault(name, tuple(sorted(present)))
    return versions


def normalised(name: str) -> str:
    """Returns the normalised name of a package (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()
