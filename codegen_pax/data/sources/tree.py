"""A directory of source code: which files are its owner's own."""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping

from codegen_pax.data.sources import git, storage

# Why files are left out.
GIT_IGNORED, VENDORED, HIDDEN = "git_ignored", "vendored", "hidden"
LINK, SPECIAL_FILE, UNREADABLE = "link", "special_file", "unreadable"

# Ours: folders of other people's code, and of what a build leaves.
_VENDORED = frozenset(
    {
        "Pods",
        "__pycache__",
        "bower_components",
        "deps",
        "dist",
        "external",
        "externals",
        "node_modules",
        "site-packages",
        "third-party",
        "third_party",
        "thirdparty",
        "vendor",
        "vendored",
        "venv",
        "virtualenv",
    }
)
# Ours: where one of these lies a project begins, for files that are in no repository of git's.
_PROJECT_FILES = frozenset(
    {
        git.IGNORE_FILE,
        "Cargo.toml",
        "Gemfile",
        "Package.swift",
        "build.gradle",
        "build.gradle.kts",
        "composer.json",
        "foundry.toml",
        "go.mod",
        "package.json",
        "pom.xml",
        "pyproject.toml",
        "setup.py",
    }
)


@dataclasses.dataclass(frozen=True)
class Listed:
    """A file of a tree.

    Attributes:
      path: relative to the tree.
      repository: the folder of its repository, relative to the tree: '' if that is the tree, '..'
        and the like if it is above. Of a file in none, the outermost folder that holds what a
        project begins with, or else the first folder on its way.
      size: bytes.
    """

    path: str
    repository: str
    size: int


@dataclasses.dataclass(frozen=True)
class Listing:
    """The files of a tree, sorted by path, and how many were left out for each reason.

    A folder that cannot be read counts once, as `unreadable`.
    """

    files: tuple[Listed, ...]
    left_out: Mapping[str, int]


@dataclasses.dataclass(frozen=True)
class _Folder:
    """A folder on the way through a tree.

    Attributes:
      path: relative to the tree.
      inside: the same, relative to the top of its repository.
      repository: that it is in, or the tree itself.
      rules: of the `.gitignore` files above it in its repository.
      project: what `Listed.repository` is of its files; None as long as no project has begun.
      reason: why its files are left out; of those that git ignores, tracked ones are not.
    """

    path: str
    inside: bytes
    repository: git.Repository
    rules: git.RulesByFolder = ()
    project: str | None = None
    reason: str | None = None


@dataclasses.dataclass(frozen=True)
class _Entry:
    name: str
    size: int = 0
    is_folder: bool = False
    reason: str | None = None  # why it is left out, whatever its name


def listing(root: str) -> Listing:
    """Every file below a folder that is its owner's own.

    Left out are hidden files and folders, folders of other people's code, what git ignores, links,
    which are never followed, and what is neither a file nor a folder. A repository in another, as
    a submodule, is one of its own, with its own rules; a folder that is itself the top of one is
    never other people's by its name. Of a folder in a repository, the repository's rules count.

    Raises OSError if the folder itself cannot be read. It has no files if it is no folder.
    """
    entries_of = _url_folders(root).get if storage.is_url(root) else _local_entries(root)
    found: list[tuple[str, str | None, int]] = []
    left_out: collections.Counter[str] = collections.Counter()
    has_files = False  # at its top
    stack = [_first(root)]
    while stack:
        folder = stack.pop()
        try:
            entries = entries_of(folder.path) or ()
        except OSError:
            if not folder.path:
                raise
            left_out[UNREADABLE] += 1
            continue
        folder = _entered(root, folder, {entry.name for entry in entries})
        for entry in entries:
            if entry.name == ".git":
                continue
            path = f"{folder.path}/{entry.name}" if folder.path else entry.name
            inside = os.fsencode(entry.name)
            inside = folder.inside + b"/" + inside if folder.inside else inside
            reason = _reason(root, folder, entry, path, inside)
            if entry.is_folder:
                below = dataclasses.replace(folder, path=path, inside=inside, reason=reason)
                stack.append(below)
            elif reason:
                left_out[reason] += 1
            else:
                has_files |= not folder.path
                found.append((path, folder.project, entry.size))
    files = []
    for path, project, size in sorted(found):
        if project is None:
            project = "" if has_files else path.partition("/")[0]
        files.append(Listed(path, project, size))
    return Listing(tuple(files), dict(sorted(left_out.items())))


def _first(root: str) -> _Folder:
    """The tree itself. If it lies in a repository, the rules of that count, unless they ignore it.

    What is asked for is not left out.
    """
    alone = _Folder("", b"", git.Repository(""))
    if git.git_folder(root):
        return alone
    top, names = root if storage.is_url(root) else os.path.realpath(root), []
    while True:
        top, _, name = top.rpartition("/")
        if not name or (storage.is_url(root) and not storage.is_url(top)):
            return alone
        names.insert(0, name)
        if git.git_folder(top):
            break
    repository = git.repository(top, "/".join([".."] * len(names)))
    inside, rules, is_ignored = b"", repository.exclude, False
    for name in names:
        rules = git.with_rules_of(git.read_ignore_file(top), inside, rules)
        top = f"{top}/{name}"
        inside += (b"/" if inside else b"") + os.fsencode(name)
        is_ignored = is_ignored or git.ignores(inside, True, rules)
    if is_ignored and not repository.has(inside, True):
        return alone
    reason = GIT_IGNORED if is_ignored else None
    return _Folder("", inside, repository, rules, repository.path, reason)


def _entered(root: str, folder: _Folder, names: set[str]) -> _Folder:
    """The folder with what its own files say of it."""
    is_open = folder.reason is None
    at = f"{root}/{folder.path}" if folder.path else root
    # That git ignores it was said of the repository around it, of which it may be a submodule.
    may_begin = is_open or (
        folder.reason == GIT_IGNORED and folder.repository.has(folder.inside, True)
    )
    if may_begin and ".git" in names and git.git_folder(at):
        repository = git.repository(at, folder.path)
        folder = _Folder(folder.path, b"", repository, repository.exclude, folder.path)
        is_open = True
    elif is_open and folder.project is None and names & _PROJECT_FILES:
        folder = dataclasses.replace(folder, project=folder.path)
    if is_open and git.IGNORE_FILE in names:
        rules = git.with_rules_of(git.read_ignore_file(at), folder.inside, folder.rules)
        folder = dataclasses.replace(folder, rules=rules)
    return folder


def _reason(root: str, folder: _Folder, entry: _Entry, path: str, inside: bytes) -> str | None:
    """Why an entry of a folder is left out; None if it is not."""
    is_tracked = folder.repository.has(inside, entry.is_folder)
    if folder.reason and not (folder.reason == GIT_IGNORED and is_tracked):
        return folder.reason
    if entry.name.startswith("."):
        return HIDDEN
    if entry.is_folder and entry.name in _VENDORED and not git.git_folder(f"{root}/{path}"):
        return VENDORED
    if entry.reason:
        return entry.reason
    if is_tracked and not entry.is_folder:
        return None
    is_ignored = folder.reason or git.ignores(inside, entry.is_folder, folder.rules)
    return GIT_IGNORED if is_ignored else None


def _local_entries(root: str):
    """A function: folder of this machine, relative to `root` -> its entries."""

    def entries(path: str) -> list[_Entry]:
        folder = f"{root}/{path}" if path else root
        if not path and not os.path.isdir(folder):
            return []
        with os.scandir(folder) as found:
            return [entry for one in found if (entry := _entry(one))]

    return entries


def _entry(found: os.DirEntry) -> _Entry | None:
    if found.is_symlink():
        return _Entry(found.name, reason=LINK)
    if found.is_dir(follow_symlinks=False):
        return _Entry(found.name, is_folder=True)
    if not found.is_file(follow_symlinks=False):
        return _Entry(found.name, reason=SPECIAL_FILE)
    try:
        return _Entry(found.name, found.stat(follow_symlinks=False).st_size)
    except FileNotFoundError:  # it went just now
        return None


def _url_folders(root: str) -> dict[str, list[_Entry]]:
    """Folder behind a URL, relative to `root` -> its entries."""
    folders: dict[str, dict[str, _Entry]] = {"": {}}
    for file in storage.below(root):
        folder = ""
        *above, name = file.path[len(root) + 1 :].split("/")
        for part in above:
            folders[folder][part] = _Entry(part, is_folder=True)
            folder = f"{folder}/{part}" if folder else part
            folders.setdefault(folder, {})
        folders[folder][name] = _Entry(name, file.size)
    return {folder: list(entries.values()) for folder, entries in folders.items()}


def said(left_out: Mapping[str, int]) -> str:
    """What was left out, as the end of a sentence; nothing if nothing was."""
    counted = ", ".join(f"{number:,} {reason}" for reason, number in left_out.items())
    return f" (left out: {counted})" if counted else ""


def groups(root: str, at_most: int) -> Iterator[tuple[tuple[Listed, ...], int]]:
    """The files in groups of about `at_most` bytes, and each group's bytes."""
    held: list[Listed] = []
    size = 0
    for file in listing(root).files:
        held.append(file)
        size += file.size
        if size >= at_most:
            yield tuple(held), size
            held, size = [], 0
    if held:
        yield tuple(held), size


def sha256(root: str, files: Iterable[Listed]) -> str:
    """SHA-256 over the names and the contents of files of a tree, in hexadecimal."""
    digest = hashlib.sha256()
    for file in files:
        try:
            content = storage.sha256(f"{root}/{file.path}", follow_links=False)
        except OSError:
            if storage.is_url(root):
                raise
            content = UNREADABLE
        # A name need not be Unicode.
        digest.update(os.fsencode(file.path) + f"\0{content}\n".encode())
    return digest.hexdigest()
