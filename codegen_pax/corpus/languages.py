"""The programming languages: one entry each, and everything else follows from it."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable
from pathlib import PurePosixPath

from codegen_pax import names
from codegen_pax.errors import InvalidValueError


@dataclasses.dataclass(frozen=True)
class Language:
    """One language.

    Attributes:
      label: what people call it.
      extensions: endings of its files' names, in lower case; `.h` is C or C++ by content.
      comment: what begins a comment that ends with its line.
    """

    label: str
    extensions: tuple[str, ...]
    comment: str = "//"


LANGUAGES = {
    "c": Language("C", (".c", ".h")),
    "cpp": Language("C++", (".cc", ".cpp", ".cxx", ".hh", ".hpp", ".hxx", ".h")),
    "csharp": Language("C#", (".cs",)),
    "cuda": Language("CUDA", (".cu", ".cuh")),
    "cython": Language("Cython", (".pyx", ".pxd", ".pxi"), "#"),
    "fortran": Language("Fortran", (".f", ".f90"), "!"),
    "go": Language("Go", (".go",)),
    "java": Language("Java", (".java",)),
    "javascript": Language("JavaScript", (".js", ".mjs")),
    "julia": Language("Julia", (".jl",), "#"),
    "lua": Language("Lua", (".lua",), "--"),
    "php": Language("PHP", (".php",)),
    "python": Language("Python", (".py",), "#"),
    "r": Language("R", (".r",), "#"),
    "ruby": Language("Ruby", (".rb",), "#"),
    "rust": Language("Rust", (".rs",)),
    "scala": Language("Scala", (".scala",)),
    "shell": Language("Shell", (".sh",), "#"),
    "solidity": Language("Solidity", (".sol",)),
    "swift": Language("Swift", (".swift",)),
    "typescript": Language("TypeScript", (".ts",)),
}

# What is prepared unless others are asked for.
DEFAULT = ("python", "java", "javascript", "go", "cpp", "rust", "c")

_MARKED_AS_CPP = re.compile(
    r"^[ \t]*(namespace\b|template\s*<|class\s+\w|using\s+\w)|\bstd::|#\s*include\s*<\w+>", re.M
)


def check(language: str) -> str:
    """Returns `language` if it is in the table; raises ValueError with the nearest name if not."""
    if language in LANGUAGES:
        return language
    raise InvalidValueError(names.unknown("language", language, LANGUAGES))


def by_path(path: str, text: str, among: Iterable[str] = LANGUAGES) -> str | None:
    """The language of a file by the ending of its name; None if it is none of `among`.

    Args:
      path: of the file; its last part alone is looked at.
      text: its content, which tells C from C++ in a header.
      among: the languages to tell apart. A header is C++ or C whichever of them is wanted: C++ is
        no C because nobody asked for C++.
    """
    ending = PurePosixPath(path).suffix.lower()
    if ending == ".h":
        found = "cpp" if _MARKED_AS_CPP.search(text) else "c"
        return found if found in among else None
    return next((name for name in among if ending in LANGUAGES[name].extensions), None)


def prefix(language: str) -> str:
    """The line that names its language before a file of the multi-lingual phase.

    The paper says that the name is put there and not in which form: a comment is ours.
    """
    entry = LANGUAGES[check(language)]
    return f"{entry.comment} {entry.label}\n"
