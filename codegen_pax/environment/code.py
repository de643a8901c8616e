"""Which code is running: a hash of its sources, and the git commit where there is one.

Git is asked for a commit and for its list of files alone, with nothing of the repository's
configuration that could run a program; whether a file differs is found out here. Standard library
only.
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
_ROOT = Path(__file__).resolve().parents[2]
_SOURCES = ("codegen.py", "codegen_pax", "experiments", "tasks")
_SECONDS = 20  # that git may take

# `sha256` of the sources; of what git has a commit of, `commit`, and `dirty`: whether any differs.
Identity = dict[str, Any]


@functools.cache
def of_project() -> Identity:
    """This project's own code: its Python sources, wherever they are installed."""
    found = sorted(
        file
        for name in _SOURCES
        for file in ([_ROOT / name] if name.endswith(".py") else (_ROOT / name).rglob("*.py"))
    )
    return _identity(_ROOT, found, _SOURCES)


@functools.cache
def of_module(name: str) -> Identity | None:
    """The file of an imported module, and its name in `file`.

    None for a module of this project, and for one that is in no file.
    """
    path = getattr(sys.modules.get(name), "__file__", None)
    if path is None or not Path(path).is_file():
        return None
    file = Path(path).resolve()
    if any(file.is_relative_to(_ROOT / source) for source in _SOURCES):
        return None
    return {"file": file.name} | _identity(file.parent, [file], [file.name])


def words(identity: Mapping[str, Any] | None) -> str:
    """An identity for a person, in one line."""
    if not identity:
        return "not recorded"
    sources = f"sources {identity['sha256'][:12]}"
    if "commit" not in identity:
        return sources
    dirty = ", changed since" if identity.get("dirty") else ""
    return f"commit {identity['commit'][:12]}{dirty}, {sources}"


def _identity(folder: Path, files: list[Path], names: tuple[str, ...] | list[str]) -> Identity:
    """The identity of some files.

    Args:
      folder: that they lie below.
      files: to be hashed, in order.
      names: of the files and folders in which they are all of the Python sources.
    """
    contents = {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}
    lines = (f"{name} {hashlib.sha256(text).hexdigest()}\n" for name, text in contents.items())
    found: Identity = {"sha256": hashlib.sha256("".join(lines).encode()).hexdigest()}
    head = _git(folder, "rev-parse", "--verify", "HEAD^{commit}")
    listed = head and _git(folder, "ls-tree", "-r", "-z", "HEAD", "--", *names)
    if not listed:  # no git, no repository, or one that does not have these files
        return found
    blobs = {}
    for entry in listed.decode(errors="surrogateescape").split("\0"):
        mode, _, name = entry.partition("\t")
        if name in contents or name.endswith(".py"):
            blobs[name] = mode.split(" ")[2]
    now = {name: _blob(text, len(head.strip())) for name, text in contents.items()}
    return {"commit": head.decode().strip(), "dirty": now != blobs} | found


def _blob(content: bytes, digits: int) -> str:
    """What git calls a file's content, in a repository whose hashes have so many digits."""
    algorithm = hashlib.sha1 if digits == 40 else hashlib.sha256
    return algorithm(b"blob %d\0" % len(content) + content).hexdigest()


def _git(folder: Path, *arguments: str) -> bytes | None:
    """What git prints; None if it is not there, or cannot say."""
    # Neither a variable of the caller's own repository nor a program of this one's configuration.
    environment = {name: text for name, text in os.environ.items() if not name.startswith("GIT_")}
    configured = {
        "core.fsmonitor": "false",
        "core.hooksPath": os.devnull,
        "safe.directory": "*",  # another's repository is read, and nothing of it is run
    }
    environment |= {"GIT_CONFIG_COUNT": str(len(configured)), "GIT_OPTIONAL_LOCKS": "0"}
    for number, (name, text) in enumerate(configured.items()):
        environment |= {f"GIT_CONFIG_KEY_{number}": name, f"GIT_CONFIG_VALUE_{number}": text}
    # A partial clone would fetch what it lacks.
    environment |= {"GIT_NO_LAZY_FETCH": "1", "GIT_ALLOW_PROTOCOL": "none"}
    environment |= {"GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
    try:
        done = subprocess.run(
            ["git", "--no-pager", *arguments],
            cwd=folder,
            env=environment,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=_SECONDS,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout if done.returncode == 0 else None
