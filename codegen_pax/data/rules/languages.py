"""The programming languages: one entry each, from which everything else follows."""

from __future__ import annotations

import collections
import dataclasses
import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import PurePosixPath

from codegen_pax import messages
from codegen_pax.errors import InvalidValueError


@dataclasses.dataclass(frozen=True)
class Language:
    """One language.

    Attributes:
        label: Its name as people write it.
        extensions: Extensions of its files, in lower case; whether `.h` is C or C++ depends on the
            content.
        comment: The mark that begins a comment that ends with the line.
        aliases: Names besides the key, the label and the extensions.
    """

    label: str
    extensions: tuple[str, ...]
    comment: str = "//"
    aliases: tuple[str, ...] = ()


# Extensions and aliases: GitHub's list of languages (linguist).
LANGUAGES = {
    "c": Language("C", (".c", ".h")),
    "clojure": Language("Clojure", (".clj", ".cljc", ".cljs"), ";"),
    "cpp": Language(
        "C++", (".cc", ".cpp", ".cxx", ".hh", ".hpp", ".hxx", ".h"), aliases=("cplusplus",)
    ),
    "csharp": Language("C#", (".cs",)),
    "cuda": Language("CUDA", (".cu", ".cuh")),
    "cython": Language("Cython", (".pyx", ".pxd", ".pxi"), "#"),
    "dart": Language("Dart", (".dart",)),
    "elixir": Language("Elixir", (".ex", ".exs"), "#"),
    "fortran": Language("Fortran", (".f", ".f90"), "!"),
    "go": Language("Go", (".go",), aliases=("golang",)),
    "haskell": Language("Haskell", (".hs",), "--"),
    "java": Language("Java", (".java",)),
    "javascript": Language("JavaScript", (".js", ".mjs"), aliases=("ecmascript",)),
    "julia": Language("Julia", (".jl",), "#"),
    "kotlin": Language("Kotlin", (".kt", ".kts")),
    "lua": Language("Lua", (".lua",), "--"),
    "php": Language("PHP", (".php",)),
    "python": Language("Python", (".py",), "#", aliases=("python3",)),
    "r": Language("R", (".r",), "#", aliases=("rscript",)),
    "ruby": Language("Ruby", (".rb",), "#"),
    "rust": Language("Rust", (".rs",)),
    "scala": Language("Scala", (".scala",)),
    "shell": Language("Shell", (".sh",), "#", aliases=("bash", "shell-script", "zsh")),
    "solidity": Language("Solidity", (".sol",)),
    "swift": Language("Swift", (".swift",)),
    "typescript": Language("TypeScript", (".ts",)),
    "vyper": Language("Vyper", (".vy",), "#"),
}

# The languages that are prepared from GitHub corpora by default.
DEFAULT = ("python", "java", "javascript", "go", "cpp", "rust", "c")

_MAX_LISTED = 10  # extensions in one error

_MARKED_AS_CPP = re.compile(
    r"^[ \t]*(namespace\b|template\s*<|class\s+\w|using\s+\w)|\bstd::|#\s*include\s*<\w+>", re.M
)


def resolve(language: str) -> str:
    """Return the key of a language given by its key, label, extension or an alias, in any case.

    Raises:
        ValueError: It is not in the table; the message has the nearest names.
    """
    key = _keys_by_name().get(_fold(language))
    if key is None:
        raise InvalidValueError(messages.unknown("language", language, LANGUAGES))
    return key


def _keys_by_name() -> dict[str, str]:
    """Folded name -> key. An extension that two languages share, such as `.h`, names neither."""
    keys: dict[str, str] = {}
    extensions = [extension for entry in LANGUAGES.values() for extension in entry.extensions]
    for key, entry in LANGUAGES.items():
        own = [extension for extension in entry.extensions if extensions.count(extension) == 1]
        for name in (*own, *entry.aliases, entry.label):
            keys.setdefault(_fold(name), key)
    return keys | {key: key for key in LANGUAGES}


def _fold(name: str) -> str:
    name = name.strip().casefold().removeprefix(".")
    return re.sub(r"[-_ ]", "", name).replace("plus", "+").replace("sharp", "#")


def detect(path: str, text: str, among: Iterable[str] = LANGUAGES) -> str | None:
    """Return the language of a file by its extension; None if it is not one of `among`.

    Args:
        path: The file's path; only its last part matters.
        text: Its content, which tells C from C++ in a header.
        among: Keys of the languages to choose from. A C++ header does not count as C even if C is
            among them and C++ is not.
    """
    extension = PurePosixPath(path).suffix.lower()
    if extension == ".h":
        key = "cpp" if _MARKED_AS_CPP.search(text) else "c"
        return key if key in among else None
    return next((key for key in among if extension in LANGUAGES[key].extensions), None)


def count_extensions(paths: Iterable[str]) -> dict[str, int]:
    """Return the number of files by extension (lower case, '' for none), most frequent first."""
    counts = collections.Counter(PurePosixPath(path).suffix.lower() for path in paths)
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def describe_extensions(extensions: Mapping[str, int], languages: Collection[str]) -> str:
    """Return the message for a tree without `languages`: what it has, and how to select that.

    Args:
        extensions: As `count_extensions` returns them.
        languages: Keys of the table.
    """
    listed = []
    for extension, number in list(extensions.items())[:_MAX_LISTED]:
        keys = [key for key, entry in LANGUAGES.items() if extension in entry.extensions]
        is_new = keys and not any(key in languages for key in keys)
        option = f" (--languages {' or '.join(keys)})" if is_new else ""
        listed.append(f"{number:,} {extension or 'without an extension'}{option}")
    if more := len(extensions) - len(listed):
        listed.append(f"{more:,} other extensions")
    return (
        f"files by extension: {', '.join(listed)}; a language that the table lacks is one entry in"
        " codegen_pax/data/rules/languages.py"
    )


def prefix(language: str) -> str:
    """Return the line that names its language before a file of the multi-lingual phase.

    The paper says that the name is added, but not in which form; the comment is our choice.

    Args:
        language: Any name that `resolve` takes.
    """
    entry = LANGUAGES[resolve(language)]
    return f"{entry.comment} {entry.label}\n"
