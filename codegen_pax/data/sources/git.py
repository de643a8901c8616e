"""The tracked and the ignored files of a git repository, found without running git.

No program that a repository's configuration names can therefore run, and the same files are found
on a machine without git and behind a URL. No configuration is read, so a user's own list of ignored
files (`core.excludesFile`) has no effect: a corpus must not depend on the machine it is made on.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import struct
from collections.abc import Iterator

from codegen_pax.data.sources import gitignore, storage

IGNORE_FILE = ".gitignore"

# The limit of an ignore file is git's (2.45); that of an index is ours, enough for ten million
# files.
_MAX_IGNORE_FILE_BYTES, _MAX_INDEX_BYTES = 100 << 20, 1 << 30
_MODE = struct.Struct(">24xI")  # of an entry of the index
_ENTRY_HASH_OFFSET = 40  # bytes of an entry before its hash
_SUBMODULE_MODE = 0o160000
_EXTENDED_FLAG = 0x4000


@dataclasses.dataclass(frozen=True)
class Repository:
    """What git knows about the files of a work tree, whose paths are relative to its top.

    Attributes:
        path: The path of its top relative to the tree that is read, such as '..' if it is above.
        tracked: The files in its index, and, with a trailing `/`, submodules and the folders of
            all of these.
        exclude: The patterns of its `info/exclude`; those of every folder take precedence.
    """

    path: str
    tracked: frozenset[bytes] = frozenset()
    exclude: gitignore.PatternsByFolder = ()

    def tracks(self, path: bytes, is_folder: bool) -> bool:
        """Return whether a file is tracked, or a folder is a submodule or holds tracked files."""
        return (path + b"/" if is_folder else path) in self.tracked


def read_repository(top: str, path: str = "") -> Repository:
    """Return the repository whose work tree is `top`; an empty one if `top` is not a work tree.

    Args:
        top: A folder, local or a URL.
        path: See `Repository`.
    """
    folder = git_dir(top)
    if folder is None:
        return Repository(path)
    common_dir = (_read(f"{folder}/commondir") or b"").strip()  # shared by several work trees
    common = _join(folder, os.fsdecode(common_dir)) if common_dir else folder
    exclude = _read(f"{common}/info/exclude")
    tracked = _read_index(folder)
    folders: set[bytes] = set()
    for name in tracked:
        parent = name.rpartition(b"/")[0]
        while parent and parent + b"/" not in folders:
            folders.add(parent + b"/")
            parent = parent.rpartition(b"/")[0]
    return Repository(path, frozenset(tracked | folders), gitignore.add_patterns(exclude, b"", ()))


def git_dir(top: str) -> str | None:
    """Return the folder of git's files for a work tree; None if `top` is not the top of one.

    In a submodule and in a linked work tree, `.git` is a file that names the folder.
    """
    path = f"{top}/.git"
    if storage.is_url(top):
        if storage.glob_files(f"{path}/HEAD"):
            return path
    elif os.path.isdir(path):
        return path if os.path.lexists(f"{path}/HEAD") else None
    content = _read(path)
    if content is None:
        return None
    return _join(top, os.fsdecode(content.removeprefix(b"gitdir:").strip()))


def read_ignore_file(folder: str) -> bytes | None:
    """Return the content of a folder's `.gitignore`; None without one. Git follows no link."""
    return _read(f"{folder}/{IGNORE_FILE}", follow_links=False)


def _read(
    path: str, follow_links: bool = True, max_bytes: int = _MAX_IGNORE_FILE_BYTES
) -> bytes | None:
    """Return the content of one of git's files; None if it cannot be read or is too large."""
    if storage.is_url(path) and not storage.glob_files(path):
        return None
    try:
        with storage.open_regular_file(path, follow_links) as file:
            content = file.read(max_bytes + 1)
    except (OSError, ValueError):  # a name in one of git's files may be an invalid path
        if storage.is_url(path):
            raise
        return None
    return content if len(content) <= max_bytes else None


def _join(folder: str, path: str) -> str:
    if storage.is_url(folder):
        scheme, _, place = folder.partition("://")
        return f"{scheme}://{os.path.normpath(os.path.join(place, path))}"
    return os.path.join(folder, path)


def _read_index(folder: str) -> set[bytes]:
    """Return the paths in the index, submodules with a trailing `/`."""
    data = _read(f"{folder}/index", max_bytes=_MAX_INDEX_BYTES)
    try:
        return set(_parse_index(data, folder)) if data else set()
    except (struct.error, ValueError, IndexError):  # damaged: git itself would stop
        return set()


def _parse_index(data: bytes, folder: str) -> list[bytes]:
    """Return the paths of an index of version 2, 3 or 4 (gitformat-index(5)), in order."""
    signature, version, count = struct.unpack_from(">4s2I", data)
    if signature != b"DIRC" or version not in (2, 3, 4):
        raise ValueError(f"found {signature!r} {version}")
    hash_size = 32 if hashlib.sha256(data[:-32]).digest() == data[-32:] else 20
    names, name, at = [], b"", 12
    for _ in range(count):
        start = at
        (mode,) = _MODE.unpack_from(data, start)
        at += _ENTRY_HASH_OFFSET + hash_size
        (flags,) = struct.unpack_from(">H", data, at)
        at += 4 if flags & _EXTENDED_FLAG else 2
        if version == 4:  # each path is stored as its difference from the one before
            num_dropped, at = _parse_varint(data, at)
            name = name[: len(name) - num_dropped]
        else:
            name = b""
        end = data.index(0, at)
        name += data[at:end]
        at = end + 1 if version == 4 else start + (end - start + 8) // 8 * 8
        names.append(name + b"/" if mode == _SUBMODULE_MODE else name)
    while at + 8 <= len(data) - hash_size:
        signature, size = struct.unpack_from(">4sI", data, at)
        at += 8
        if signature == b"link":  # a split index: only the changes since the shared index
            return _merge_shared_index(names, data[at : at + size], hash_size, folder)
        at += size
    return names


def _merge_shared_index(
    names: list[bytes], link: bytes, hash_size: int, folder: str
) -> list[bytes]:
    path = f"{folder}/sharedindex.{link[:hash_size].hex()}"
    data = _read(path, max_bytes=_MAX_INDEX_BYTES)
    shared = _parse_index(data, folder) if data else []
    removed = set(_set_bits(link, hash_size, len(shared))) if len(link) > hash_size else set()
    remaining = [name for place, name in enumerate(shared) if place not in removed]
    return remaining + [name for name in names if name.strip(b"/")]  # a changed entry has no name


def _set_bits(data: bytes, at: int, end: int) -> Iterator[int]:
    """Yield the numbers, below about `end`, of the bits that are set in git's EWAH bitmap."""
    _, words = struct.unpack_from(">2I", data, at)
    values = iter(struct.unpack_from(f">{words}Q", data, at + 8))
    place = 0
    for marker in values:
        repeated = 64 * (marker >> 1 & 0xFFFFFFFF)
        if marker & 1:
            yield from range(place, min(place + repeated, end))
        place += repeated
        for _ in range(marker >> 33):
            word = next(values, 0)
            yield from (place + bit for bit in range(64) if word >> bit & 1)
            place += 64
            if place > end:
                return


def _parse_varint(data: bytes, at: int) -> tuple[int, int]:
    """Return a number of variable length, and the position after it."""
    value = data[at] & 127
    while data[at] & 128:
        at += 1
        value = (value + 1 << 7) + (data[at] & 127)
    return value, at + 1
