"""A directory of source code: which files are its owner's own."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import os
from collections.abc import Iterator

from codegen_pax.corpus.raw import storage

# Ours: folders of other people's code, and of what a build leaves.
VENDORED = frozenset(
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


@dataclasses.dataclass(frozen=True)
class Listed:
    """A file: its path in its repository, the repository's folder in the tree, its bytes."""

    path: str  # relative to the tree
    repository: str  # relative to the tree; '' if the tree itself is one, or none is known
    size: int


class _Ignored:
    """What the `.gitignore` files of a tree say, the nearest one first, as git does."""

    def __init__(self, root: str, files: set[str]):
        import pathspec

        self._specs = {}
        for name in files:
            folder, _, file = name.rpartition("/")
            if file == ".gitignore":
                with storage.open_file(f"{root}/{name}") as content:
                    text = content.read().decode("utf-8", "replace")
                self._specs[folder] = pathspec.GitIgnoreSpec.from_lines(text.splitlines())
        self.folder = functools.cache(self._folder)

    def _folder(self, folder: str) -> bool:
        """Whether a folder, or one above it, is ignored: then nothing in it can be taken back."""
        if not folder:
            return False
        return self.folder(folder.rpartition("/")[0]) or self._said(folder, folder + "/")

    def file(self, name: str) -> bool:
        return self.folder(name.rpartition("/")[0]) or self._said(name, name)

    def _said(self, name: str, pattern: str) -> bool:
        folder = name
        while folder:
            folder = folder.rpartition("/")[0]
            if spec := self._specs.get(folder):
                inside = pattern[len(folder) + 1 :] if folder else pattern
                said = spec.check_file(inside).include
                if said is not None:
                    return said
        return False


def files(root: str) -> list[Listed]:
    """The files of a tree, sorted by path: no links, hidden, vendored or git-ignored ones."""
    sizes = {file.path[len(root) + 1 :]: file.size for file in storage.below(root)}
    # Of a submodule, or of another work tree, `.git` is a file.
    marks = (name for name in sizes if name.endswith(("/.git/HEAD", "/.git")))
    repositories = {name.partition("/.git")[0] for name in marks}
    ignored = _Ignored(root, set(sizes))
    found = []
    for name in sorted(sizes):
        parts = name.split("/")
        if any(part.startswith(".") for part in parts) or VENDORED.intersection(parts[:-1]):
            continue
        if ignored.file(name) or (not storage.is_url(root) and os.path.islink(f"{root}/{name}")):
            continue
        above = ["/".join(parts[:n]) for n in range(len(parts) - 1, 0, -1)]
        repository = next((folder for folder in above if folder in repositories), "")
        found.append(Listed(name, repository, sizes[name]))
    return found


def groups(root: str, at_most: int) -> Iterator[tuple[tuple[Listed, ...], int]]:
    """The files in groups of about `at_most` bytes, and each group's bytes."""
    held: list[Listed] = []
    size = 0
    for file in files(root):
        held.append(file)
        size += file.size
        if size >= at_most:
            yield tuple(held), size
            held, size = [], 0
    if held:
        yield tuple(held), size


def sha256(root: str) -> str:
    """SHA-256 over the names and the contents of the files of a tree, in hexadecimal."""
    digest = hashlib.sha256()
    for file in files(root):
        content = storage.sha256(f"{root}/{file.path}")
        # A name need not be Unicode.
        digest.update(os.fsencode(file.path) + f"\0{content}\n".encode())
    return digest.hexdigest()
