"""The licence of a file of a source tree: stated by the file itself, or else by a folder above it.

A file states its licence in lines of the form `SPDX-License-Identifier: MIT`, all of which bind, or
in a file next to it with `.license` appended to its name (REUSE). Otherwise the nearest folder, up
to the repository's top, that has package metadata (`_METADATA_READERS`) or licence files decides;
the texts of licence files are recognised with licenseclassifier, Google's licensecheck. If a
licence file holds a licence that the metadata does not name, both bind. Notices in prose are not
read. The bare text of a GNU licence counts as that version only.
"""

from __future__ import annotations

import configparser
import functools
import glob
import itertools
import json
import os
import re
import tomllib
from collections.abc import Callable, Iterable

from codegen_pax.data.rules import licences
from codegen_pax.data.sources import storage

_TAG = re.compile(r"SPDX-License-Identifier:[ \t]*([^\r\n]{1,200})")
_MAX_BEFORE_TAG = 40  # characters on its line; a tag with more before it is part of a program
_COMMENT = re.compile(r"[\W_]*(?:(?:REM|dnl|@license)\b[\W_]*)?", re.I)
_MAX_TAGS = 100  # ours: further ones in a file are not read
_COMMENT_END = re.compile(r"\*/|-->|\*\)|--\}\}|#\}|%>|\"\"\"|'''")

_MAX_FILE_BYTES = 1 << 18  # read of a licence file or of metadata
_LICENCE_FILE = re.compile(
    r"(?:\w+[-_.])?(?:un)?licen[cs]e(?:[-_.][\w.+-]+)?|copying(?:[-_.\d][\w.+-]*)?", re.I
)
_OF_DEPENDENCIES = re.compile(r"third|3rd|vendor|deps|dependenc", re.I)
# The extensions of files that are named like a licence but are programs, data or web pages.
_NOT_A_LICENCE = re.compile(
    r"\.(?!md$|txt$|rst$|mit$|bsd$|isc$|gpl\w*$|lgpl\w*$|agpl\w*$)[a-z]{1,4}$"
)


class TreeLicences:
    """The licences of the files of one tree. Each folder is read once.

    Args:
        root: The folder of the tree, local or a URL.
    """

    def __init__(self, root: str):
        self._root = root.rstrip("/")
        self._folder_licence = functools.cache(_folder_licence)
        self._file_names = functools.cache(_file_names)

    def find(self, repository: str, path: str, text: str) -> str:
        """Return the licence of a file as an SPDX expression; '' if none is stated.

        A stated licence that is not recognised is returned as a text that is not an expression.

        Args:
            repository: The folder of its repository, relative to the root; '' if that is the root
                or unknown.
            path: The file's path relative to the root.
            text: The file's content.
        """
        return _read_tags(text) or self._sidecar(path) or self._folders(repository, path)

    def _sidecar(self, path: str) -> str:
        folder, _, name = f"{self._root}/{path}".rpartition("/")
        sidecar = f"{name}.license"
        return _read_tags(_read(folder, sidecar)) if sidecar in self._file_names(folder) else ""

    def _folders(self, repository: str, path: str) -> str:
        parents = path.split("/")[:-1]
        for depth in range(len(parents), -1, -1):
            folder = "/".join(parents[:depth])
            if licence := self._folder_licence(f"{self._root}/{folder}".rstrip("/")):
                return licence
            if folder == repository and repository:
                return ""
        return next(filter(None, map(self._folder_licence, _folders_above(self._root))), "")


def _folders_above(root: str) -> list[str]:
    """Return the folders above a root inside a repository, up to the top of the repository."""
    if storage.is_url(root):
        return []
    folders = [os.path.abspath(root)]
    while not os.path.lexists(f"{folders[-1]}/.git"):
        parent = os.path.dirname(folders[-1])
        if parent == folders[-1]:
            return []
        folders.append(parent)
    return folders[1:]


def _file_names(folder: str) -> frozenset[str]:
    """Return the names of a folder's files, without links, which may lead anywhere."""
    if storage.is_url(folder):
        files = storage.glob_files(f"{glob.escape(folder)}/*")
        return frozenset(file.path.rpartition("/")[2] for file in files)
    try:
        with os.scandir(folder) as entries:
            return frozenset(one.name for one in entries if one.is_file(follow_symlinks=False))
    except OSError:  # a folder that cannot be listed has no file that could be read either
        return frozenset()


def _read(folder: str, name: str) -> str:
    try:
        with storage.open_file(f"{folder}/{name}") as file:
            return file.read(_MAX_FILE_BYTES).decode("utf-8-sig", "replace")
    except OSError:
        return ""


def _is_known(licence: str) -> bool:
    return licences.normalise(licence) != licences.UNKNOWN


def _folder_licence(folder: str) -> str:
    """Return the licence that the metadata and licence files of a folder state; '' if none."""
    names = sorted(_file_names(folder))
    stated = [licence for name in names if (licence := _read_metadata(folder, name))]
    known = [licence for licence in stated if _is_known(licence)]
    texts = [_read_licence_file(folder, name) for name in names if _is_licence_file(name)]
    recognised = [licence for licence in texts if _is_known(licence)]
    if known:
        named = _identifiers(known[0])
        further = [licence for licence in recognised if _identifiers(licence) - named]
        return licences.to_expression([known[0], *further])
    first = [*texts[:1]] or [*stated[:1]]
    return licences.to_expression([*dict.fromkeys(recognised)] or first)


def _identifiers(expression: str) -> set[str]:
    """Return the licences of an expression, without "only" and "or later"."""
    words = re.findall(r"[\w.+-]+", licences.normalise(expression))
    return {re.sub(r"-only$|-or-later$|\+$", "", one) for one in words} - {"AND", "OR", "WITH"}


def _read_tags(text: str) -> str:
    """Return the licence that the SPDX lines of a text state together; '' if it has none."""
    tags: dict[str, None] = {}
    for match in itertools.islice(_TAG.finditer(text), _MAX_TAGS):
        search_from = max(0, match.start() - _MAX_BEFORE_TAG)
        line_end = text.rfind("\n", search_from, match.start())
        is_near = line_end >= 0 or not search_from
        if is_near and _COMMENT.fullmatch(text, line_end + 1, match.start()):
            tags[_COMMENT_END.split(match[1])[0].strip(" \t\"'`*/#;,.")] = None
    stated = [_parse_line(tag) or tag for tag in tags if tag]
    # Unknown licences are ignored beside known ones: a program may search for such lines.
    known = [licence for licence in stated if _is_known(licence)]
    return licences.to_expression(known or stated[:1])


def _is_licence_file(name: str) -> bool:
    if not _LICENCE_FILE.fullmatch(name) or _OF_DEPENDENCIES.search(name):
        return False
    return not _NOT_A_LICENCE.search(name.lower())


def _read_licence_file(folder: str, name: str) -> str:
    from licenseclassifier import identify_license

    text = _read(folder, name)
    if stated := _read_tags(text) or _parse_line(text):
        return stated
    identifiers = dict.fromkeys(match.id for match in identify_license(text))
    return licences.to_expression([*identifiers]) or f"not recognised: {name}"


def _parse_line(text: str) -> str:
    """Return `text`, with `OR` for the `/` of old Cargo files, if it is an SPDX expression."""
    text = " OR ".join(one.strip() for one in text.strip().split("/"))
    return "" if licences.normalise(text) in ("", licences.UNKNOWN) else text


def _read_metadata(folder: str, name: str) -> str:
    for pattern, read_licence in _METADATA_READERS.items():
        if re.fullmatch(pattern, name):
            try:
                return _any_of(read_licence(_read(folder, name)))
            except (ValueError, RecursionError, AttributeError, TypeError, configparser.Error):
                return ""  # a broken file, or an example of one
    return ""


def _any_of(stated: object) -> str:
    """Return one licence, or a choice among several, as an expression."""
    values = stated if isinstance(stated, list) else [stated]
    several = [licences.to_expression(value) for value in values]
    several = [one for one in several if one and not one.upper().startswith("SEE LICEN")]
    expressions = [_parse_line(one) or one for one in several]
    if len(expressions) == 1:
        return expressions[0]
    return " OR ".join(f"({one})" for one in expressions)


def _json(text: str) -> object:
    metadata = json.loads(text)
    return metadata.get("license") or metadata.get("licenses")


def _toml(text: str) -> object:
    metadata = tomllib.loads(text)
    tables: Iterable[dict] = (
        metadata.get("package", {}),  # of Cargo and Move
        metadata.get("workspace", {}).get("package", {}),
        metadata.get("project", {}),
        metadata.get("tool", {}).get("poetry", {}),
    )
    fields = (table.get("license") for table in tables)
    return next(filter(None, map(_toml_licence, fields)), None)


def _toml_licence(field: object) -> str | None:
    """`{text = "MIT"}` states a licence; `{file = "LICENSE"}` and `{workspace = true}` do not."""
    value = field.get("text") if isinstance(field, dict) else field
    return value if isinstance(value, str) else None


def _ini(text: str) -> object:
    metadata = configparser.ConfigParser(interpolation=None)
    metadata.read_string(text)
    return metadata.get("metadata", "license", fallback=None)


def _first_match(expression: str) -> Callable[[str], object]:
    pattern = re.compile(expression)
    return lambda text: next(iter(pattern.findall(text)), None)


# A pattern for the name of a file -> a function that reads the licence from the file's text.
_METADATA_READERS: dict[str, Callable[[str], object]] = {
    r"(?:package|composer|bower|deno|jsr)\.json": _json,
    r"(?:Cargo|pyproject|Move)\.toml": _toml,
    r"setup\.cfg": _ini,
    r".+\.nuspec": _first_match(r"<license\s+type=\"expression\"\s*>([^<]{1,200})</license>"),
    r".+\.csproj": _first_match(
        r"<PackageLicenseExpression>([^<]{1,200})</PackageLicenseExpression>"
    ),
    r".+\.gemspec": _first_match(r"\.licenses?\s*=\s*\[?\s*[\"']([^\"']{1,200})[\"']"),
}
