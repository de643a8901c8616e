"""A git repository as it lies in its folder: which files it has, read without running git.

So nothing that a repository's configuration names can run, and the same files are found where
there is no git, and behind a URL. No configuration is read, a user's own list of ignored files
(`core.excludesFile`) included: a corpus does not depend on whose machine it is made on.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import struct
from collections.abc import Iterator

from codegen_pax.data.sources import gitignore, storage

IGNORE_FILE = ".gitignore"

# Of a list of patterns, as git has it (2.45); of an index ours: that of ten million files.
_MOST_PATTERN_BYTES, _MOST_INDEX_BYTES = 100 << 20, 1 << 30
_MODE = struct.Struct(">24xI")  # of an entry of the index
_BEFORE_HASH = 40  # bytes of an entry
_SUBMODULE = 0o160000
_EXTENDED = 0x4000

# (bytes of a path before what the rules speak of, the rules), of the nearest folder first
RulesByFolder = tuple[tuple[int, gitignore.Rules], ...]


@dataclasses.dataclass(frozen=True)
class Repository:
    """What git knows of the files of a work tree, whose paths are relative to its top.

    Attributes:
      path: of its top, relative to the tree that is read: '..' and the like if it is above.
      known: what its index has: files, and with a `/` after them submodules and the folders of all.
      exclude: the rules of its `info/exclude`; they come after those of every folder.
    """

    path: str
    known: frozenset[bytes] = frozenset()
    exclude: RulesByFolder = ()

    def has(self, path: bytes, is_folder: bool) -> bool:
        """Whether a file is tracked, or a folder holds tracked files or is a submodule."""
        return (path + b"/" if is_folder else path) in self.known


def repository(top: str, path: str = "") -> Repository:
    """The repository whose work tree is `top`; one that knows nothing if it is none.

    Args:
      top: local or a URL.
      path: see `Repository`.
    """
    folder = git_folder(top)
    if folder is None:
        return Repository(path)
    shared = (_read(f"{folder}/commondir") or b"").strip()  # of several work trees
    common = _joined(folder, os.fsdecode(shared)) if shared else folder
    exclude = _read(f"{common}/info/exclude")
    tracked = _tracked(folder)
    folders: set[bytes] = set()
    for name in tracked:
        above = name.rpartition(b"/")[0]
        while above and above + b"/" not in folders:
            folders.add(above + b"/")
            above = above.rpartition(b"/")[0]
    return Repository(
        path,
        frozenset(tracked | folders),
        ((0, gitignore.rules(exclude)),) if exclude else (),
    )


def git_folder(top: str) -> str | None:
    """Where git keeps what it knows of a work tree; None if `top` is the top of none.

    Of a submodule, or of a further work tree, `.git` is a file that names the folder.
    """
    path = f"{top}/.git"
    if storage.is_url(top):
        if storage.matching(f"{path}/HEAD"):
            return path
    elif os.path.isdir(path):
        return path if os.path.lexists(f"{path}/HEAD") else None
    content = _read(path)
    if content is None:
        return None
    named = content.removeprefix(b"gitdir:").strip()
    return _joined(top, os.fsdecode(named))


def with_rules_of(content: bytes | None, folder: bytes, rules: RulesByFolder) -> RulesByFolder:
    """The rules below a folder (b'' for the top) whose `.gitignore` has this content."""
    if not content:
        return rules
    return ((len(folder) + 1 if folder else 0, gitignore.rules(content)), *rules)


def ignores(path: bytes, is_folder: bool, rules: RulesByFolder) -> bool:
    """What the nearest rule that speaks of a path says; those of folders above it come before."""
    for start, found in rules:
        said = found.ignores(path[start:], is_folder)
        if said is not None:
            return said
    return False


def read_ignore_file(folder: str) -> bytes | None:
    """The content of a folder's `.gitignore`; None if it has none. To git a link is none."""
    return _read(f"{folder}/{IGNORE_FILE}", follow_links=False)


def _read(path: str, follow_links: bool = True, most: int = _MOST_PATTERN_BYTES) -> bytes | None:
    """A file of git's; None if there is none to be read, or one of more than `most` bytes."""
    if storage.is_url(path) and not storage.matching(path):
        return None
    try:
        with storage.open_regular(path, follow_links) as file:
            content = file.read(most + 1)
    except (OSError, ValueError):  # what a file of git's names need not be a path
        if storage.is_url(path):
            raise
        return None
    return content if len(content) <= most else None


def _joined(folder: str, path: str) -> str:
    if storage.is_url(folder):
        kind, _, place = folder.partition("://")
        return f"{kind}://{os.path.normpath(os.path.join(place, path))}"
    return os.path.join(folder, path)


def _tracked(folder: str) -> set[bytes]:
    """The paths that the index has, submodules with a `/` after them."""
    data = _read(f"{folder}/index", most=_MOST_INDEX_BYTES)
    try:
        return set(_index(data, folder)) if data else set()
    except (struct.error, ValueError, IndexError):  # damaged: git would not go on
        return set()


def _index(data: bytes, folder: str) -> list[bytes]:
    """The paths of an index of version 2, 3 or 4 (gitformat-index(5)), in order."""
    signature, version, count = struct.unpack_from(">4s2I", data)
    if signature != b"DIRC" or version not in (2, 3, 4):
        raise ValueError(f"found {signature!r} {version}")
    hash_size = 32 if hashlib.sha256(data[:-32]).digest() == data[-32:] else 20
    names, name, at = [], b"", 12
    for _ in range(count):
        begin = at
        (mode,) = _MODE.unpack_from(data, begin)
        at += _BEFORE_HASH + hash_size
        (flags,) = struct.unpack_from(">H", data, at)
        at += 4 if flags & _EXTENDED else 2
        if version == 4:  # of each path only what differs from the one before
            cut, at = _number(data, at)
            name = name[: len(name) - cut]
        else:
            name = b""
        end = data.index(0, at)
        name += data[at:end]
        at = end + 1 if version == 4 else begin + (end - begin + 8) // 8 * 8
        names.append(name + b"/" if mode == _SUBMODULE else name)
    while at + 8 <= len(data) - hash_size:
        signature, size = struct.unpack_from(">4sI", data, at)
        at += 8
        if signature == b"link":  # a split index: only what has changed since the shared one
            return _unshared(names, data[at : at + size], hash_size, folder)
        at += size
    return names


def _unshared(names: list[bytes], link: bytes, hash_size: int, folder: str) -> list[bytes]:
    path = f"{folder}/sharedindex.{link[:hash_size].hex()}"
    data = _read(path, most=_MOST_INDEX_BYTES)
    shared = _index(data, folder) if data else []
    removed = set(_places(link, hash_size, len(shared))) if len(link) > hash_size else set()
    kept = [name for place, name in enumerate(shared) if place not in removed]
    return kept + [name for name in names if name.strip(b"/")]  # a changed one has no name here


def _places(data: bytes, at: int, most: int) -> Iterator[int]:
    """Which bits below `most` a bitmap has set (EWAH, as git writes it)."""
    _, words = struct.unpack_from(">2I", data, at)
    values = iter(struct.unpack_from(f">{words}Q", data, at + 8))
    place = 0
    for marker in values:
        repeated = 64 * (marker >> 1 & 0xFFFFFFFF)
        if marker & 1:
            yield from range(place, min(place + repeated, most))
        place += repeated
        for _ in range(marker >> 33):
            word = next(values, 0)
            yield from (place + bit for bit in range(64) if word >> bit & 1)
            place += 64
            if place > most:
                return


def _number(data: bytes, at: int) -> tuple[int, int]:
    """A number of variable length, and where it ends."""
    value = data[at] & 127
    while data[at] & 128:
        at += 1
        value = (value + 1 << 7) + (data[at] & 127)
    return value, at + 1
