"""The licence of a file of a source tree: what it says itself, else what the nearest folder says.

A file says it in lines of the form `SPDX-License-Identifier: MIT`, of which all bind, or in a file
of its name and `.license` beside it (REUSE). Of folders those up to the repository's root are
looked at, the nearest first: their package metadata (`_METADATA`), and their licence files, whose
texts are recognised with licenseclassifier, which is Google's licensecheck. Where a licence file
holds what the metadata does not name, both bind. Notices in prose are not looked at. A GNU licence
of which there is only the text counts as that version alone.
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
_BEFORE_TAG = 40  # characters, at most, from where its line begins: else it is part of a program
_COMMENT = re.compile(r"[\W_]*(?:(?:REM|dnl|@license)\b[\W_]*)?", re.I)
_TAGS = 100  # of a file that are looked at: ours
_ENDS_COMMENT = re.compile(r"\*/|-->|\*\)|--\}\}|#\}|%>|\"\"\"|'''")

_FILE_BYTES = 1 << 18  # of a licence or of metadata: a longer one holds much else
_LICENCE_FILE = re.compile(
    r"(?:\w+[-_.])?(?:un)?licen[cs]e(?:[-_.][\w.+-]+)?|copying(?:[-_.\d][\w.+-]*)?", re.I
)
_OF_OTHERS = re.compile(r"third|3rd|vendor|deps|dependenc", re.I)
# Of files that are called after a licence and are programs, data or pages.
_NO_LICENCE = re.compile(r"\.(?!md$|txt$|rst$|mit$|bsd$|isc$|gpl\w*$|lgpl\w*$|agpl\w*$)[a-z]{1,4}$")


class Licences:
    """The licences of the files of one tree; each folder is looked at once.

    Args:
      root: the tree's folder, local or a URL.
    """

    def __init__(self, root: str):
        self._root = root.rstrip("/")
        self._folder = functools.cache(_of_folder)
        self._names = functools.cache(_names)

    def of(self, repository: str, path: str, text: str) -> str:
        """The licence of a file, as an SPDX expression; '' if none is stated.

        A licence that is stated and not recognised is a text that is no expression.

        Args:
          repository: its folder, relative to the root; '' if it is the root, or not known.
          path: of the file, relative to the root.
          text: its content.
        """
        return _tagged(text) or self._beside(path) or self._above(repository, path)

    def _beside(self, path: str) -> str:
        folder, _, name = f"{self._root}/{path}".rpartition("/")
        beside = f"{name}.license"
        return _tagged(_read(folder, beside)) if beside in self._names(folder) else ""

    def _above(self, repository: str, path: str) -> str:
        folders = path.split("/")[:-1]
        for depth in range(len(folders), -1, -1):
            folder = "/".join(folders[:depth])
            if found := self._folder(f"{self._root}/{folder}".rstrip("/")):
                return found
            if folder == repository and repository:
                return ""
        return next(filter(None, map(self._folder, _outside(self._root))), "")


def _outside(root: str) -> list[str]:
    """The folders above a root that is part of a repository, up to the repository's own."""
    if storage.is_url(root):
        return []
    folders = [os.path.abspath(root)]
    while not os.path.lexists(f"{folders[-1]}/.git"):
        above = os.path.dirname(folders[-1])
        if above == folders[-1]:
            return []
        folders.append(above)
    return folders[1:]


def _names(folder: str) -> frozenset[str]:
    """The files of a folder; no links, which may lead anywhere."""
    if storage.is_url(folder):
        found = storage.matching(f"{glob.escape(folder)}/*")
        return frozenset(file.path.rpartition("/")[2] for file in found)
    try:
        with os.scandir(folder) as entries:
            return frozenset(one.name for one in entries if one.is_file(follow_symlinks=False))
    except OSError:  # one that cannot be listed has no file that could be read either
        return frozenset()


def _read(folder: str, name: str) -> str:
    try:
        with storage.open_file(f"{folder}/{name}") as file:
            return file.read(_FILE_BYTES).decode("utf-8-sig", "replace")
    except OSError:
        return ""


def _of_folder(folder: str) -> str:
    """What the metadata and the licence files of one folder say; '' if nothing."""
    names = sorted(_names(folder))
    said = [found for name in names if (found := _of_metadata(folder, name))]
    known = [one for one in said if licences.normal(one) != licences.UNKNOWN]
    texts = [_of_licence_file(folder, name) for name in names if _is_licence_file(name)]
    recognised = [one for one in texts if licences.normal(one) != licences.UNKNOWN]
    if known:
        named = _versions(known[0])
        return licences.stated([known[0], *(one for one in recognised if _versions(one) - named)])
    return licences.stated([*dict.fromkeys(recognised)] or [*texts[:1]] or [*said[:1]])


def _versions(expression: str) -> set[str]:
    """The licences of an expression, whether or not later versions may be chosen."""
    found = re.findall(r"[\w.+-]+", licences.normal(expression))
    return {re.sub(r"-only$|-or-later$|\+$", "", one) for one in found} - {"AND", "OR", "WITH"}


def _tagged(text: str) -> str:
    """What the SPDX lines of a text say together; '' if it has none."""
    found: dict[str, None] = {}
    for tag in itertools.islice(_TAG.finditer(text), _TAGS):
        near = max(0, tag.start() - _BEFORE_TAG)
        line = text.rfind("\n", near, tag.start())
        if (line >= 0 or not near) and _COMMENT.fullmatch(text, line + 1, tag.start()):
            found[_ENDS_COMMENT.split(tag[1])[0].strip(" \t\"'`*/#;,.")] = None
    stated = [_expression(one) or one for one in found if one]
    # A line of a program that looks for such lines is none.
    known = [one for one in stated if licences.normal(one) != licences.UNKNOWN]
    return licences.stated(known or stated[:1])


def _is_licence_file(name: str) -> bool:
    if not _LICENCE_FILE.fullmatch(name) or _OF_OTHERS.search(name):
        return False
    return not _NO_LICENCE.search(name.lower())


def _of_licence_file(folder: str, name: str) -> str:
    from licenseclassifier import identify_license

    text = _read(folder, name)
    if tagged := _tagged(text) or _expression(text):
        return tagged
    found = dict.fromkeys(match.id for match in identify_license(text))
    return licences.stated([*found]) or f"not recognised: {name}"


def _expression(text: str) -> str:
    """A text of one line that is an SPDX expression, `/` an `OR` as Cargo had it; else ''."""
    text = " OR ".join(one.strip() for one in text.strip().split("/"))
    return "" if licences.normal(text) in ("", licences.UNKNOWN) else text


def _of_metadata(folder: str, name: str) -> str:
    for pattern, parse in _METADATA.items():
        if re.fullmatch(pattern, name):
            try:
                found = parse(_read(folder, name))
                return _either(found)
            except (ValueError, RecursionError, AttributeError, TypeError, configparser.Error):
                return ""  # of somebody's file that is broken, or an example of one
    return ""


def _either(found: object) -> str:
    """Licences of which one may be chosen, if they are several, as an expression."""
    several = [licences.stated(one) for one in (found if isinstance(found, list) else [found])]
    several = [one for one in several if one and not one.upper().startswith("SEE LICEN")]
    known = [_expression(one) or one for one in several]
    return known[0] if len(known) == 1 else " OR ".join(f"({one})" for one in known)


def _json(text: str) -> object:
    found = json.loads(text)
    return found.get("license") or found.get("licenses")


def _toml(text: str) -> object:
    found = tomllib.loads(text)
    tables: Iterable[dict] = (
        found.get("package", {}),  # Cargo's, Move's
        found.get("workspace", {}).get("package", {}),
        found.get("project", {}),
        found.get("tool", {}).get("poetry", {}),
    )
    stated = (table.get("license") for table in tables)
    return next(filter(None, (_of_table(one) for one in stated)), None)


def _of_table(stated: object) -> str | None:
    """`{text = "MIT"}` is a licence; of `{file = "LICENSE"}` and `{workspace = true}` it is not."""
    found = stated.get("text") if isinstance(stated, dict) else stated
    return found if isinstance(found, str) else None


def _ini(text: str) -> object:
    found = configparser.ConfigParser(interpolation=None)
    found.read_string(text)
    return found.get("metadata", "license", fallback=None)


def _matching(pattern: str) -> Callable[[str], object]:
    found = re.compile(pattern)
    return lambda text: next(iter(found.findall(text)), None)


# The name of a file -> what reads its licence from its text.
_METADATA: dict[str, Callable[[str], object]] = {
    r"(?:package|composer|bower|deno|jsr)\.json": _json,
    r"(?:Cargo|pyproject|Move)\.toml": _toml,
    r"setup\.cfg": _ini,
    r".+\.nuspec": _matching(r"<license\s+type=\"expression\"\s*>([^<]{1,200})</license>"),
    r".+\.csproj": _matching(r"<PackageLicenseExpression>([^<]{1,200})</PackageLicenseExpression>"),
    r".+\.gemspec": _matching(r"\.licenses?\s*=\s*\[?\s*[\"']([^\"']{1,200})[\"']"),
}
