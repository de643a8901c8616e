"""Text that every machine has: what the running Python and its packages brought with them.

Four corpora, each a list of files in a fixed order:

- `prose()`: documentation: `pydoc_data/topics.py`, descriptions, readmes, guides and change logs.
  Licences are left out: packages carry nearly the same ones, so a held-out licence is no test.
- `code(language)`: source files of one language, at most `LANGUAGE_BYTES` of it, chosen in the
  order of a hash of their names, so that no package decides alone what a language looks like.
- `standard_library()`: the standard library's own modules, without tests and data tables.
- Instruction pairs are cut out of `standard_library()` by `instructions.py`.

Exact copies of a file are read once. A file belongs to 'train' or to 'validation' by the SHA-256 of
its content alone: the rule is the same for every corpus and every machine, so a file held out of
one corpus, or a copy of it under another name, is held out of all.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import os
import re
import sysconfig
from collections.abc import Callable, Iterable
from pathlib import Path
from pydoc_data import topics

from codegen_pax.data.rules import filters, languages
from codegen_pax.errors import UserError

TRAIN, VALIDATION = "train", "validation"
SPLITS = (TRAIN, VALIDATION)
VALIDATION_BYTES = 24  # of the 256 values of a digest's first byte: 9% of files are held out

LANGUAGE_BYTES = 2_000_000

_TEST_FOLDERS = {"test", "tests", "testing", "idle_test", "__pycache__"}
_PROSE_NAME = re.compile(
    r"(?i)(.*\.(txt|rst|md)|metadata|readme\S*|authors|changes|changelog|history|news)$"
)
_LICENCE = re.compile(r"(?i)licen[cs]e|copying|notice|copyright")
# Tables of characters, prose in a .py file, and one file of the build machine's own settings.
_NOT_MODULES = re.compile(r"(encodings|pydoc_data|config-[^/]*)/|_sysconfigdata|.*/test_[^/]*$")


class TextMissingError(UserError):
    """A corpus was read that this machine does not have."""


@dataclasses.dataclass(frozen=True, order=True)
class InstalledFile:
    """One file: its name (its root's name, then its path inside), where it is, and its split."""

    name: str
    path: Path
    split: str
    size: int  # bytes


def split_of(content: bytes) -> str:
    """'train' or 'validation', from the content of a file and nothing else."""
    return VALIDATION if hashlib.sha256(content).digest()[0] < VALIDATION_BYTES else TRAIN


def roots() -> dict[str, Path]:
    """The folders that are searched: the standard library, its headers and the packages."""
    paths = sysconfig.get_paths()
    found = {"stdlib": Path(paths["stdlib"]), "include": Path(paths["include"])}
    packages = dict.fromkeys((paths["purelib"], paths["platlib"]))
    found |= {f"packages{n or ''}": Path(path) for n, path in enumerate(packages)}
    return found


@functools.cache
def _listing(root: str) -> tuple[str, ...]:
    """The names (`root/path/inside`) of all files under a root, sorted; no folders of tests."""
    top = str(roots()[root])
    found = []
    for folder, folders, files in os.walk(top):
        skipped = _TEST_FOLDERS
        if root == "stdlib" and folder == top:
            skipped = skipped | {"site-packages", "dist-packages"}
        folders[:] = [name for name in folders if name not in skipped]
        inside = root + folder[len(top) :].replace(os.sep, "/")
        found += [f"{inside}/{file}" for file in files]
    return tuple(sorted(found))


def _keep(
    candidates: Iterable[str],
    accept: Callable[[str, str], bool],
    *,
    most: int | None = None,
) -> tuple[InstalledFile, ...]:
    """The files of those names that are UTF-8, accepted and no copy of an earlier one, sorted.

    `accept` is given the name and the text.

    With `most`, stops at that many bytes, or when four times as many have been looked at.
    """
    seen: set[bytes] = set()
    kept: list[InstalledFile] = []
    size = looked_at = 0
    places = roots()
    for name in candidates:
        if most is not None and (size >= most or looked_at >= 4 * most):
            break
        root, _, inside = name.partition("/")
        path = places[root] / inside
        try:
            content = path.read_bytes()
            text = content.decode("utf-8")
        except (OSError, UnicodeDecodeError):
            continue
        looked_at += len(content)
        digest = hashlib.sha256(content).digest()
        if digest in seen or not accept(name, text):
            continue
        seen.add(digest)
        size += len(content)
        kept.append(InstalledFile(name, path, split_of(content), len(content)))
    return tuple(sorted(kept))


def _is_code(name: str, text: str) -> bool:
    return filters.rejection(text) is None


@functools.cache
def standard_library() -> tuple[InstalledFile, ...]:
    """The standard library's modules: no tests, no data tables; the paper's filters."""
    modules = [
        name
        for name in _listing("stdlib")
        if name.endswith(".py") and not _NOT_MODULES.match(name.removeprefix("stdlib/"))
    ]
    return _keep(modules, _is_code)


@functools.cache
def code(language: str) -> tuple[InstalledFile, ...]:
    """Source files of `language` under every root; an empty tuple where there are none.

    Raises ValueError if `language` is not in `languages.LANGUAGES`.
    """
    endings = languages.LANGUAGES[languages.resolve(language)].extensions
    found = [name for root in roots() for name in _listing(root) if name.lower().endswith(endings)]
    by_hash = sorted(found, key=lambda name: hashlib.sha256(name.encode()).digest())

    def accept(name: str, text: str) -> bool:
        return bool(languages.detect(name, text, (language,))) and _is_code(name, text)

    return _keep(by_hash, accept, most=LANGUAGE_BYTES)


@functools.cache
def prose() -> tuple[InstalledFile, ...]:
    """Documentation under every root, and the help topics of pydoc."""

    def wanted(name: str) -> bool:
        file = name.rpartition("/")[2]
        return name == "stdlib/pydoc_data/topics.py" or bool(
            _PROSE_NAME.match(file) and not _LICENCE.search(file)
        )

    places = [root for root in roots() if root != "include"]
    found = [name for root in places for name in _listing(root) if wanted(name)]
    kept = _keep(found, lambda name, text: True)
    return tuple(file for file in kept if any(prose_documents(file.path)))


def prose_documents(path: Path) -> list[str]:
    """The prose in one file: pydoc's topics one by one, a package's description, or the file."""
    if path.name == "topics.py":
        return list(topics.topics.values())
    text = path.read_text("utf-8")
    if path.name == "METADATA":
        text = text.partition("\n\n")[2]  # the fields end at the first empty line
    return [text] if _reads_as_prose(text) else []


def _reads_as_prose(text: str) -> bool:
    """Whether a text file is written in words and lines, not a list, a table or a log of numbers.

    The limits were set by reading what they keep and drop: at least three quarters letters and
    white space, at least four words a line, at least 200 characters.
    """
    if len(text) < 200:
        return False
    plain = sum(character.isalpha() or character.isspace() for character in text)
    return plain >= 0.75 * len(text) and len(text.split()) >= 4 * len(text.splitlines())


def text_document(path: Path) -> list[str]:
    """A source file as the one document that it is."""
    with open(path, encoding="utf-8", newline="") as file:  # keeps the line ends as they are
        return [file.read()]
