"""The identity of the running code: a hash of its sources, and the git commit if there is one.

Git is called only for the commit and its list of files, with the parts of its configuration
disabled that could run a program; modified files are detected here. Standard library only.
"""

from __future__ import annotations

import functools
import hashlib
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

PROJECT = "codegen-pax"
ROOT = Path(__file__).resolve().parents[2]
_SOURCES = ("codegen.py", "codegen_pax", "experiments", "tasks")
_GIT_TIMEOUT = 20  # seconds

# `sha256` of the sources and, in a git repository, `commit` and whether the sources differ from it
# (`dirty`).
Identity = dict[str, Any]


@functools.cache
def of_project() -> Identity:
    """Returns the identity of this project's Python sources, wherever they are installed."""
    files = sorted(
        file
        for name in _SOURCES
        for file in ([ROOT / name] if name.endswith(".py") else (ROOT / name).rglob("*.py"))
    )
    return _identity(ROOT, files, _SOURCES)


@functools.cache
def of_module(name: str) -> Identity | None:
    """Returns the identity of an imported module's file, and the name of the file in `file`.

    None for a module of this project, or one without a file.
    """
    path = getattr(sys.modules.get(name), "__file__", None)
    if path is None or not Path(path).is_file():
        return None
    file = Path(path).resolve()
    if any(file.is_relative_to(ROOT / source) for source in _SOURCES):
        return None
    return {"file": file.name} | _identity(file.parent, [file], [file.name])


def describe(identity: Mapping[str, Any] | None) -> str:
    """Returns an identity in one line for a person."""
    if not identity:
        return "not recorded"
    sources = f"sources {identity['sha256'][:12]}"
    if "commit" not in identity:
        return sources
    dirty = ", changed since" if identity.get("dirty") else ""
    return f"commit {identity['commit'][:12]}{dirty}, {sources}"


def _identity(folder: Path, files: list[Path], names: tuple[str, ...] | list[str]) -> Identity:
    """Returns the identity of files.

    Args:
        folder: a folder that contains them all.
        files: the files to hash, in order.
        names: names below `folder` whose Python sources are exactly these files.
    """
    contents = {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}
    lines = (f"{name} {hashlib.sha256(text).hexdigest()}\n" for name, text in contents.items())
    identity: Identity = {"sha256": hashlib.sha256("".join(lines).encode()).hexdigest()}
    head = _git(folder, "rev-parse", "--verify", "HEAD^{commit}")
    listing = _git(folder, "ls-tree", "-r", "-z", "HEAD", "--", *names) if head else None
    if not head or not listing:  # no git, no repository, or one without these files
        return identity
    blobs = {}
    for entry in listing.decode(errors="surrogateescape").split("\0"):
        mode, _, name = entry.partition("\t")
        if name in contents or name.endswith(".py"):
            blobs[name] = mode.split(" ")[2]
    current = {name: _blob(text, len(head.strip())) for name, text in contents.items()}
    return {"commit": head.decode().strip(), "dirty": current != blobs} | identity


def _blob(content: bytes, digits: int) -> str:
    """Returns git's hash of a file's content, of SHA-1 or SHA-256 by its number of digits."""
    algorithm = hashlib.sha1 if digits == 40 else hashlib.sha256
    return algorithm(b"blob %d\0" % len(content) + content).hexdigest()


def _git(folder: Path, *arguments: str) -> bytes | None:
    """Returns the output of git; None if it is not installed or fails."""
    # Drops variables of the caller's repository and disables programs that this one configures.
    environment = {name: text for name, text in os.environ.items() if not name.startswith("GIT_")}
    configured = {
        "core.fsmonitor": "false",
        "core.hooksPath": os.devnull,
        "safe.directory": "*",  # reads another user's repository; nothing of it is run
    }
    environment |= {"GIT_CONFIG_COUNT": str(len(configured)), "GIT_OPTIONAL_LOCKS": "0"}
    for number, (name, text) in enumerate(configured.items()):
        environment |= {f"GIT_CONFIG_KEY_{number}": name, f"GIT_CONFIG_VALUE_{number}": text}
    # A partial clone would fetch missing objects.
    environment |= {"GIT_NO_LAZY_FETCH": "1", "GIT_ALLOW_PROTOCOL": "none"}
    environment |= {"GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
    try:
        result = subprocess.run(
            ["git", "--no-pager", *arguments],
            cwd=folder,
            env=environment,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=_GIT_TIMEOUT,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout if result.returncode == 0 else None
