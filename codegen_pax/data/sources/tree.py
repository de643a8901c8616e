"""A directory of source code: finds its owner's own files and reads them as documents."""

from __future__ import annotations

import collections
import dataclasses
import functools
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from codegen_pax.data.format.documents import Document, Dropped
from codegen_pax.data.sources import git, gitignore, schemas, sniffing, storage
from codegen_pax.data.sources.storage import escape_path
from codegen_pax.data.sources.tree_licences import TreeLicences

# Why files are left out.
GIT_IGNORED, VENDORED, HIDDEN = "git_ignored", "vendored", "hidden"
LINK, SPECIAL_FILE, UNREADABLE = "link", "special_file", "unreadable"

_BINARY_PROBE_BYTES = 8_000  # a NUL in them makes a file binary, as in git

# Our choice: folders of other people's code and of build outputs.
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
# Our choice: outside git repositories, a folder with one of these files is the top of a project.
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
class TreeFile:
    """A file of a tree.

    Attributes:
        path: The file's path relative to the tree.
        repository: The folder of its repository, relative to the tree: '' if that is the tree, or a
            path such as '..' if it is above. For a file outside repositories, the outermost folder
            with a project file in it, or else the first folder of `path`.
        size: Size in bytes.
    """

    path: str
    repository: str
    size: int


@dataclasses.dataclass(frozen=True)
class Listing:
    """The files of a tree.

    Attributes:
        files: Sorted by path.
        left_out: Reason -> number of files left out; a folder that cannot be read counts once, as
            `unreadable`.
    """

    files: tuple[TreeFile, ...]
    left_out: Mapping[str, int]


@dataclasses.dataclass(frozen=True)
class _Folder:
    """A folder of a tree, and what is known about its files from the folders above it.

    Attributes:
        path: The folder's path relative to the tree.
        git_path: The folder's path relative to the top of its repository.
        repository: The repository it is in, or an empty one at the top of the tree.
        patterns: The patterns of the `.gitignore` files above it in its repository.
        project: `TreeFile.repository` of its files; None outside of all projects.
        reason: Why its files are left out. If git ignores the folder, tracked files are still read.
    """

    path: str
    git_path: bytes
    repository: git.Repository
    patterns: gitignore.PatternsByFolder = ()
    project: str | None = None
    reason: str | None = None


@dataclasses.dataclass(frozen=True)
class _Entry:
    """A name in a folder.

    Attributes:
        name: The name without the folder.
        size: Size of a file in bytes.
        is_folder: Whether the entry is a folder.
        reason: Why the entry is left out regardless of its name.
    """

    name: str
    size: int = 0
    is_folder: bool = False
    reason: str | None = None


def list_files(root: str) -> Listing:
    """Return the files below a folder that are its owner's own.

    These are left out: hidden files and folders, folders of other people's code, paths that git
    ignores, links, which are never followed, and anything that is neither a file nor a folder. A
    repository inside another one, such as a submodule, has only its own ignore patterns; the top of
    a repository is never taken for other people's code by its name. If `root` is inside a
    repository, the patterns of the repository apply.

    Args:
        root: The folder, local or a URL. The result is empty if it is not a folder.

    Raises:
        OSError: The folder itself cannot be read.
    """
    list_folder = _url_lister(root) if storage.is_url(root) else _local_lister(root)
    listed: list[tuple[str, str | None, int]] = []  # path, project, size
    left_out: collections.Counter[str] = collections.Counter()
    has_files_at_top = False
    stack = [_root_folder(root)]
    while stack:
        folder = stack.pop()
        try:
            entries = list_folder(folder.path)
        except OSError:
            if not folder.path:
                raise
            left_out[UNREADABLE] += 1
            continue
        folder = _read_folder_files(root, folder, {entry.name for entry in entries})
        for entry in entries:
            if entry.name == ".git":
                continue
            path = f"{folder.path}/{entry.name}" if folder.path else entry.name
            git_path = _join_bytes(folder.git_path, entry.name)
            reason = _reason_left_out(root, folder, entry, path, git_path)
            if entry.is_folder:
                subfolder = dataclasses.replace(folder, path=path, git_path=git_path, reason=reason)
                stack.append(subfolder)
            elif reason:
                left_out[reason] += 1
            else:
                has_files_at_top |= not folder.path
                listed.append((path, folder.project, entry.size))
    files = []
    for path, project, size in sorted(listed):
        if project is None:
            project = "" if has_files_at_top else path.partition("/")[0]
        files.append(TreeFile(path, project, size))
    return Listing(tuple(files), dict(sorted(left_out.items())))


def _join_bytes(folder: bytes, name: str) -> bytes:
    return folder + (b"/" if folder else b"") + os.fsencode(name)


def _root_folder(root: str) -> _Folder:
    """Return the tree's own folder, with the patterns of a repository that it is inside.

    If the repository ignores the tree and tracks no file in it, the patterns do not apply, since
    the user asked for the tree.
    """
    alone = _Folder("", b"", git.Repository(""))
    if git.git_dir(root):
        return alone
    top = root if storage.is_url(root) else os.path.realpath(root)
    names: list[str] = []  # from the top of the repository to the tree
    while True:
        top, _, name = top.rpartition("/")
        if not name or (storage.is_url(root) and not storage.is_url(top)):
            return alone
        names.insert(0, name)
        if git.git_dir(top):
            break
    repository = git.read_repository(top, "/".join([".."] * len(names)))
    git_path, patterns, is_ignored = b"", repository.exclude, False
    for name in names:
        patterns = gitignore.add_patterns(git.read_ignore_file(top), git_path, patterns)
        top = f"{top}/{name}"
        git_path = _join_bytes(git_path, name)
        is_ignored = is_ignored or gitignore.is_ignored(git_path, True, patterns)
    if is_ignored and not repository.tracks(git_path, True):
        return alone
    reason = GIT_IGNORED if is_ignored else None
    return _Folder("", git_path, repository, patterns, repository.path, reason)


def _read_folder_files(root: str, folder: _Folder, names: set[str]) -> _Folder:
    """Return the folder, updated from its own `.git`, `.gitignore` and project files."""
    is_read = folder.reason is None
    location = f"{root}/{folder.path}" if folder.path else root
    # A submodule is read even if the repository around it ignores its folder.
    may_be_top = is_read or (
        folder.reason == GIT_IGNORED and folder.repository.tracks(folder.git_path, True)
    )
    if may_be_top and ".git" in names and git.git_dir(location):
        repository = git.read_repository(location, folder.path)
        folder = _Folder(folder.path, b"", repository, repository.exclude, folder.path)
        is_read = True
    elif is_read and folder.project is None and names & _PROJECT_FILES:
        folder = dataclasses.replace(folder, project=folder.path)
    if is_read and git.IGNORE_FILE in names:
        content = git.read_ignore_file(location)
        patterns = gitignore.add_patterns(content, folder.git_path, folder.patterns)
        folder = dataclasses.replace(folder, patterns=patterns)
    return folder


def _reason_left_out(
    root: str, folder: _Folder, entry: _Entry, path: str, git_path: bytes
) -> str | None:
    """Return why an entry of a folder is left out; None if it is not."""
    is_tracked = folder.repository.tracks(git_path, entry.is_folder)
    if folder.reason and not (folder.reason == GIT_IGNORED and is_tracked):
        return folder.reason
    if entry.name.startswith("."):
        return HIDDEN
    if entry.is_folder and entry.name in _VENDORED and not git.git_dir(f"{root}/{path}"):
        return VENDORED
    if entry.reason:
        return entry.reason
    if is_tracked and not entry.is_folder:
        return None
    is_ignored = folder.reason or gitignore.is_ignored(git_path, entry.is_folder, folder.patterns)
    return GIT_IGNORED if is_ignored else None


# Takes a folder, relative to the tree, and returns its entries.
_Lister = Callable[[str], Sequence[_Entry]]


def _local_lister(root: str) -> _Lister:
    def list_folder(path: str) -> list[_Entry]:
        folder = f"{root}/{path}" if path else root
        if not path and not os.path.isdir(folder):
            return []
        with os.scandir(folder) as entries:
            return [entry for one in entries if (entry := _local_entry(one))]

    return list_folder


def _local_entry(entry: os.DirEntry[str]) -> _Entry | None:
    if entry.is_symlink():
        return _Entry(entry.name, reason=LINK)
    if entry.is_dir(follow_symlinks=False):
        return _Entry(entry.name, is_folder=True)
    if not entry.is_file(follow_symlinks=False):
        return _Entry(entry.name, reason=SPECIAL_FILE)
    try:
        return _Entry(entry.name, entry.stat(follow_symlinks=False).st_size)
    except FileNotFoundError:  # deleted a moment ago
        return None


def _url_lister(root: str) -> _Lister:
    folders: dict[str, dict[str, _Entry]] = {"": {}}
    for file in storage.walk_files(root):
        folder = ""
        *parents, name = file.path[len(root) + 1 :].split("/")
        for parent in parents:
            folders[folder][parent] = _Entry(parent, is_folder=True)
            folder = f"{folder}/{parent}" if folder else parent
            folders.setdefault(folder, {})
        folders[folder][name] = _Entry(name, file.size)
    return lambda path: [*folders.get(path, {}).values()]


def describe_left_out(left_out: Mapping[str, int]) -> str:
    """Describe the files left out, as text to append to a sentence; '' if there are none."""
    counts = ", ".join(f"{number:,} {reason}" for reason, number in left_out.items())
    return f" (left out: {counts})" if counts else ""


def group_files(root: str, max_bytes: int) -> Iterator[tuple[tuple[TreeFile, ...], int]]:
    """Yield the files of a tree in groups of about `max_bytes`, and the bytes of each group."""
    group: list[TreeFile] = []
    size = 0
    for file in list_files(root).files:
        group.append(file)
        size += file.size
        if size >= max_bytes:
            yield tuple(group), size
            group, size = [], 0
    if group:
        yield tuple(group), size


def sha256(root: str, files: Iterable[TreeFile]) -> str:
    """Return the SHA-256 of the names and contents of files of a tree, in hexadecimal."""
    digest = hashlib.sha256()
    for file in files:
        try:
            content = storage.sha256(f"{root}/{file.path}", follow_links=False)
        except OSError:
            if storage.is_url(root):
                raise
            content = UNREADABLE
        # A name need not be UTF-8.
        digest.update(os.fsencode(file.path) + f"\0{content}\n".encode())
    return digest.hexdigest()


def read_documents(root: str, files: Iterable[TreeFile]) -> Iterator[Document | Dropped]:
    """Yield the files of a tree, in order, each as a document or as the rule that drops it."""
    name_of = functools.cache(functools.partial(_repository_name, root))
    licences = TreeLicences(root)
    for file in files:
        source = escape_path(f"{root}/{file.path}")
        try:
            with storage.open_regular_file(f"{root}/{file.path}") as stream:
                raw = stream.read(schemas.MAX_DOCUMENT_BYTES + 1)
        except OSError:  # not readable, deleted, or no longer the kind of file that was listed
            if storage.is_url(root):
                raise
            yield Dropped(UNREADABLE, file.size, source, 0)
            continue
        if b"\0" in raw[:_BINARY_PROBE_BYTES] and not sniffing.has_wide_mark(raw):
            yield Dropped("binary", file.size, source, 0)
            continue
        try:
            text = sniffing.decode_source(raw, file.path)
        except sniffing.EncodingError as error:
            is_cut = len(raw) > schemas.MAX_DOCUMENT_BYTES
            yield Dropped("document_too_large" if is_cut else str(error), file.size, source, 0)
            continue
        name, parents = name_of(file.repository)
        path = parents + file.path.removeprefix(f"{file.repository}/")
        document = Document(
            text,
            source,
            0,
            path=escape_path(path),
            repository=escape_path(name),
            licence=escape_path(licences.find(file.repository, file.path, text)),
        )
        rule = schemas.rejection(document)
        yield Dropped(rule, file.size, source, 0) if rule else document


def _repository_name(root: str, folder: str) -> tuple[str, str]:
    """Return the name of a repository, and the path from it to the tree if it is above the tree.

    A repository inside the tree is named by its path, such as owner/name; any other is named by its
    folder.
    """
    if folder and not folder.startswith(".."):
        return folder, ""
    location = root if storage.is_url(root) else os.path.realpath(root) if folder else root
    *parents, name = location.rstrip("/").split("/")[-1 - folder.count("..") :]
    if not parents:
        return name, ""
    return parents[0], "/".join([*parents[1:], name, ""])
