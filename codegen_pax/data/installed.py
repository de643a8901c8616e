"""Text that every machine has: files of the running Python and its packages.

Four corpora, each a list of files in a fixed order:

- `prose()`: documentation: `pydoc_data/topics.py`, descriptions, readmes, guides and change logs.
  Licences are left out: packages carry nearly the same ones, so a held-out licence tests nothing.
- `code(language)`: source files of one language, at most `MAX_LANGUAGE_BYTES`, taken in the order
  of a hash of their names, so that no single package decides what a language looks like.
- `standard_library()`: the standard library's own modules, without tests and data tables.
- `documented_modules()`: the standard library's modules with instruction pairs: the instruction is
  a function's docstring, the input its signature, the answer the rest of its body.

Exact copies of a file are read once. A file belongs to 'train' or to 'validation' by the SHA-256 of
its content alone. The rule is the same for every corpus and every machine, so a file held out of
one corpus, or a copy of it under another name, is held out of all.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import hashlib
import inspect
import os
import re
import sysconfig
from collections.abc import Callable, Iterable
from pathlib import Path
from pydoc_data import topics

from codegen_pax.data import TRAIN, VALIDATION
from codegen_pax.data.rules import filters, languages
from codegen_pax.errors import UserError
from codegen_pax.text import instruction_format

VALIDATION_BYTES = 24  # of the 256 values of a digest's first byte: 9% of files are held out
MAX_LANGUAGE_BYTES = 2_000_000
MIN_DOCSTRING_CHARACTERS = 20  # shorter ones ("See base class.") say too little

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
    """A file of a corpus.

    Attributes:
        name: The name of its root, then the path inside that.
        path: Where it is on this machine.
        split: 'train' or 'validation'.
        size: In bytes.
    """

    name: str
    path: Path
    split: str
    size: int


def split_of(content: bytes) -> str:
    """Return 'train' or 'validation', from the content of a file and nothing else."""
    return VALIDATION if hashlib.sha256(content).digest()[0] < VALIDATION_BYTES else TRAIN


def roots() -> dict[str, Path]:
    """Return the folders that are searched: the standard library, its headers and the packages."""
    paths = sysconfig.get_paths()
    folders = {"stdlib": Path(paths["stdlib"]), "include": Path(paths["include"])}
    packages = dict.fromkeys((paths["purelib"], paths["platlib"]))
    folders |= {f"packages{n or ''}": Path(path) for n, path in enumerate(packages)}
    return folders


def _list_files(root: str) -> tuple[str, ...]:
    """Return the names (`root/path/inside`) of all files under a root, without tests, sorted."""
    return _list_folder(root, str(roots()[root]))


@functools.cache
def _list_folder(root: str, top: str) -> tuple[str, ...]:
    names: list[str] = []
    for folder, subfolders, files in os.walk(top):
        skipped = _TEST_FOLDERS
        if root == "stdlib" and folder == top:
            skipped = skipped | {"site-packages", "dist-packages"}
        subfolders[:] = [name for name in subfolders if name not in skipped]
        prefix = root + folder[len(top) :].replace(os.sep, "/")
        names += [f"{prefix}/{file}" for file in files]
    return tuple(sorted(names))


def _select_files(
    names: Iterable[str],
    is_accepted: Callable[[str, str], bool] | None = None,
    *,
    max_bytes: int | None = None,
) -> tuple[InstalledFile, ...]:
    """Return the files that are UTF-8, accepted and not copies of an earlier one, sorted.

    Args:
        names: The names of the files, in the order in which they are considered.
        is_accepted: Called with the name and the text of a file; None accepts all.
        max_bytes: Stop when the files have this many bytes, or four times as many have been read.
    """
    digests: set[bytes] = set()
    selected: list[InstalledFile] = []
    selected_bytes = read_bytes = 0
    folders = roots()
    for name in names:
        if max_bytes is not None and (selected_bytes >= max_bytes or read_bytes >= 4 * max_bytes):
            break
        root, _, inside = name.partition("/")
        path = folders[root] / inside
        try:
            content = path.read_bytes()
            text = content.decode("utf-8")
        except (OSError, UnicodeDecodeError):
            continue
        read_bytes += len(content)
        digest = hashlib.sha256(content).digest()
        if digest in digests or (is_accepted is not None and not is_accepted(name, text)):
            continue
        digests.add(digest)
        selected_bytes += len(content)
        selected.append(InstalledFile(name, path, split_of(content), len(content)))
    return tuple(sorted(selected))


def _passes_filters(name: str, text: str) -> bool:
    """Return whether a source file passes the paper's filters, which look at its text alone."""
    del name
    return filters.rejection(text) is None


@functools.cache
def standard_library() -> tuple[InstalledFile, ...]:
    """Return the standard library's modules that pass the filters; no tests, no data tables."""
    modules = [
        name
        for name in _list_files("stdlib")
        if name.endswith(".py") and not _NOT_MODULES.match(name.removeprefix("stdlib/"))
    ]
    return _select_files(modules, _passes_filters)


@functools.cache
def code(language: str) -> tuple[InstalledFile, ...]:
    """Return source files of a language under every root; an empty tuple where there are none.

    Raises:
        ValueError: `language` is not in `languages.LANGUAGES`.
    """
    endings = languages.LANGUAGES[languages.resolve(language)].extensions
    names = [name for root in roots() for name in _list_files(root)]
    candidates = [name for name in names if name.lower().endswith(endings)]
    by_hash = sorted(candidates, key=lambda name: hashlib.sha256(name.encode()).digest())

    def is_accepted(name: str, text: str) -> bool:
        return bool(languages.detect(name, text, (language,))) and _passes_filters(name, text)

    return _select_files(by_hash, is_accepted, max_bytes=MAX_LANGUAGE_BYTES)


@functools.cache
def prose() -> tuple[InstalledFile, ...]:
    """Return documentation under every root, and the help topics of pydoc."""

    def is_candidate(name: str) -> bool:
        file = name.rpartition("/")[2]
        return name == "stdlib/pydoc_data/topics.py" or bool(
            _PROSE_NAME.match(file) and not _LICENCE.search(file)
        )

    names = [name for root in roots() if root != "include" for name in _list_files(root)]
    files = _select_files(filter(is_candidate, names))
    return tuple(file for file in files if any(prose_documents(file.path)))


def prose_documents(path: Path) -> list[str]:
    """Return the prose in one file: pydoc's topics, a package's description, or the whole file."""
    if path.name == "topics.py":
        return list(topics.topics.values())
    text = path.read_text("utf-8")
    if path.name == "METADATA":
        text = text.partition("\n\n")[2]  # the fields end at the first empty line
    return [text] if _reads_as_prose(text) else []


def _reads_as_prose(text: str) -> bool:
    """Return whether a text consists of words and lines, not of a list, a table or a log.

    The limits were set by reading what they keep and drop: at least three quarters letters and
    white space, at least four words a line, at least 200 characters.
    """
    if len(text) < 200:
        return False
    plain = sum(character.isalpha() or character.isspace() for character in text)
    return plain >= 0.75 * len(text) and len(text.split()) >= 4 * len(text.splitlines())


def text_document(path: Path) -> list[str]:
    """Return a source file as a single document."""
    with open(path, encoding="utf-8", newline="") as file:  # keeps the line ends as they are
        return [file.read()]


@functools.cache
def documented_modules() -> tuple[InstalledFile, ...]:
    """Return the modules of the standard library that have instruction pairs.

    All of them are parsed here, in the caller's thread, so that tf.data's threads find the pairs
    cached: in Python 3.11, `ast.parse` in two threads at once sometimes fails with a SystemError
    ("AST constructor recursion depth mismatch").
    """
    return tuple(file for file in standard_library() if instruction_pairs_of_file(file.path))


@functools.cache
def instruction_pairs_of_file(path: Path) -> list[tuple[str, str]]:
    """Return `instruction_pairs` of the file at `path`; cached, see `documented_modules`."""
    return instruction_pairs(path.read_text("utf-8"))


def instruction_pairs(source: str) -> list[tuple[str, str]]:
    """Return (prompt, answer) of each documented function in Python source, in order.

    Left out: bodies that do nothing (`pass`, `...`, a lone `raise`), docstrings shorter than
    `MIN_DOCSTRING_CHARACTERS`, one-line functions, and source that does not parse.
    """
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return []
    lines = source.splitlines()
    functions = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and _does_something(node)
    ]
    pairs = []
    for node in sorted(functions, key=lambda node: node.lineno):
        docstring = inspect.cleandoc(ast.get_docstring(node, clean=False) or "")
        first = node.body[0]
        signature = _dedent(lines[node.lineno - 1 : first.lineno - 1], node.col_offset)
        body = _dedent(lines[first.end_lineno : node.end_lineno], node.col_offset)
        if len(docstring) >= MIN_DOCSTRING_CHARACTERS and signature and body:
            prompt = instruction_format.instruction_prompt(docstring, signature)
            pairs.append((prompt, instruction_format.instruction_answer(body)))
    return pairs


def _does_something(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Return whether a function has a docstring and a body that is more than a stub."""
    if ast.get_docstring(node) is None:
        return False
    return not all(
        isinstance(statement, ast.Pass | ast.Raise)
        or (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant))
        for statement in node.body[1:]
    )


def _dedent(lines: list[str], columns: int) -> str:
    """Return the lines without their first `columns` columns; '' if one has text there.

    Such a line is inside a string that spans lines, and moving it would change the program.
    """
    if any(line[:columns].strip() for line in lines):
        return ""
    return "\n".join(line[columns:] for line in lines).strip("\n")
