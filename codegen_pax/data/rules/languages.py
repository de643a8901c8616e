"""The programming languages: one entry each, and everything else follows from it."""

from __future__ import annotations

import collections
import dataclasses
import re
from collections.abc import Collection, Iterable, Mapping
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
      spellings: of its name that people use, besides the key, the label and the extensions.
    """

    label: str
    extensions: tuple[str, ...]
    comment: str = "//"
    spellings: tuple[str, ...] = ()


# Endings and spellings: GitHub's list of languages (linguist).
LANGUAGES = {
    "c": Language("C", (".c", ".h")),
    "clojure": Language("Clojure", (".clj", ".cljc", ".cljs"), ";"),
    "cpp": Language(
        "C++", (".cc", ".cpp", ".cxx", ".hh", ".hpp", ".hxx", ".h"), spellings=("cplusplus",)
    ),
    "csharp": Language("C#", (".cs",)),
    "cuda": Language("CUDA", (".cu", ".cuh")),
    "cython": Language("Cython", (".pyx", ".pxd", ".pxi"), "#"),
    "dart": Language("Dart", (".dart",)),
    "elixir": Language("Elixir", (".ex", ".exs"), "#"),
    "fortran": Language("Fortran", (".f", ".f90"), "!"),
    "go": Language("Go", (".go",), spellings=("golang",)),
    "haskell": Language("Haskell", (".hs",), "--"),
    "java": Language("Java", (".java",)),
    "javascript": Language("JavaScript", (".js", ".mjs"), spellings=("ecmascript",)),
    "julia": Language("Julia", (".jl",), "#"),
    "kotlin": Language("Kotlin", (".kt", ".kts")),
    "lua": Language("Lua", (".lua",), "--"),
    "php": Language("PHP", (".php",)),
    "python": Language("Python", (".py",), "#", spellings=("python3",)),
    "r": Language("R", (".r",), "#", spellings=("rscript",)),
    "ruby": Language("Ruby", (".rb",), "#"),
    "rust": Language("Rust", (".rs",)),
    "scala": Language("Scala", (".scala",)),
    "shell": Language("Shell", (".sh",), "#", spellings=("bash", "shell-script", "zsh")),
    "solidity": Language("Solidity", (".sol",)),
    "swift": Language("Swift", (".swift",)),
    "typescript": Language("TypeScript", (".ts",)),
    "vyper": Language("Vyper", (".vy",), "#"),
}

# What is prepared of collections of GitHub unless others are asked for.
DEFAULT = ("python", "java", "javascript", "go", "cpp", "rust", "c")

_MOST_ENDINGS = 10  # that an error lists

_MARKED_AS_CPP = re.compile(
    r"^[ \t]*(namespace\b|template\s*<|class\s+\w|using\s+\w)|\bstd::|#\s*include\s*<\w+>", re.M
)


def check(language: str) -> str:
    """The key of a language, in any spelling: key, label, ending or another; in any case.

    Raises ValueError with the nearest names if it is none of the table.
    """
    found = _spellings().get(_folded(language))
    if found is None:
        raise InvalidValueError(names.unknown("language", language, LANGUAGES))
    return found


def _spellings() -> dict[str, str]:
    """Spelling -> key. An ending that two languages have, as `.h`, names neither."""
    found: dict[str, str] = {}
    endings = [ending for entry in LANGUAGES.values() for ending in entry.extensions]
    for key, entry in LANGUAGES.items():
        own = [ending for ending in entry.extensions if endings.count(ending) == 1]
        for spelling in (*own, *entry.spellings, entry.label):
            found.setdefault(_folded(spelling), key)
    return found | {key: key for key in LANGUAGES}


def _folded(name: str) -> str:
    name = name.strip().casefold().removeprefix(".")
    return re.sub(r"[-_ ]", "", name).replace("plus", "+").replace("sharp", "#")


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


def by_ending(paths: Iterable[str]) -> dict[str, int]:
    """Ending of a file's name, in lower case, '' for none -> how many files; the most first."""
    found = collections.Counter(PurePosixPath(path).suffix.lower() for path in paths)
    return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))


def refusal(endings: Mapping[str, int], wanted: Collection[str]) -> str:
    """What to say where none of `wanted` was found: what there is, and how it is taken.

    Args:
      endings: see `by_ending`.
      wanted: keys of the table.
    """
    listed = []
    for ending, number in list(endings.items())[:_MOST_ENDINGS]:
        keys = [key for key, entry in LANGUAGES.items() if ending in entry.extensions]
        others = [key for key in keys if key not in wanted]
        how = f" (--languages {' or '.join(others)})" if others and len(others) == len(keys) else ""
        listed.append(f"{number:,} {ending or 'without an ending'}{how}")
    if more := len(endings) - len(listed):
        listed.append(f"{more:,} other endings")
    return (
        f"files by ending: {', '.join(listed)}; a language that the table lacks is one entry in"
        " codegen_pax/data/rules/languages.py"
    )


def prefix(language: str) -> str:
    """The line that names its language before a file of the multi-lingual phase.

    The paper says that the name is put there and not in which form: a comment is ours.
    """
    entry = LANGUAGES[check(language)]
    return f"{entry.comment} {entry.label}\n"
