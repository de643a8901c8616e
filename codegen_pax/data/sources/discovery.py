"""Which files a corpus is read from."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence

from codegen_pax import messages
from codegen_pax.data.sources import storage, tree
from codegen_pax.data.sources.sniffing import COMPRESSED, JSON_LINES, TABLES
from codegen_pax.data.sources.storage import File
from codegen_pax.errors import InvalidValueError

# Folders that macOS or writers of tables keep next to the data: unfinished files and logs of Spark
# and Hive, and the log of Delta Lake.
_BOOKKEEPING = frozenset(
    {"_temporary", "_spark_metadata", "_delta_log", "_delta_index", "_impala_insert_staging"}
    | {"__MACOSX"}
)

_JSON = tuple(kind + by for kind in JSON_LINES for by in ("", *COMPRESSED))
# Corpus -> the extensions of the files it is read from; a tree is read from every file.
EXTENSIONS: dict[str, tuple[str, ...]] = {
    "pile": _JSON,
    "bigquery": (*_JSON, *TABLES),
    "bigpython": (*_JSON, *TABLES),
    "instruction": _JSON,
    "tree": (),
}


def find(corpus: str, patterns: Sequence[str], left_out: Counter[str] | None = None) -> list[File]:
    """Return the inputs of a corpus, sorted by path, each once.

    Args:
        corpus: A key of `EXTENSIONS`.
        patterns: Files, globs or folders, local or URLs. A folder or glob stands for all its files
            except hidden files, files with another extension, and files in bookkeeping folders
            (such as `_temporary` and `_delta_log`). For `tree`, each pattern is a folder and one
            input.
        left_out: Receives how many files are left out for each reason, and how many are empty.

    Raises:
        ValueError: `corpus` is unknown, a pattern matches nothing, or a named file has another
            extension or is a metadata file of macOS.
    """
    if corpus not in EXTENSIONS:
        raise InvalidValueError(messages.unknown("corpus", corpus, EXTENSIONS))
    find_one = _find_tree if corpus == "tree" else _find_files
    inputs: dict[str, File] = {}
    for pattern in patterns:
        files, reasons = find_one(pattern, EXTENSIONS[corpus])
        if left_out is not None:
            left_out.update(reasons)
        if not files:
            if corpus == "tree":
                expected = "a folder with files that are not hidden, vendored or git-ignored"
                expected += tree.describe_left_out(reasons)
            else:
                expected = ", ".join(EXTENSIONS[corpus])
            raise InvalidValueError(
                f"found nothing to read at {storage.escape_path(pattern)}; expected {expected}"
            )
        inputs |= {file.path: file for file in files}
    if corpus != "tree":
        for path in inputs:
            _check_name(path, corpus)
    return sorted(inputs.values())


def _find_tree(pattern: str, _: Sequence[str]) -> tuple[list[File], Mapping[str, int]]:
    """Return the tree as one input, if it has files, and the number of files left out by reason."""
    root = pattern.rstrip("/") if storage.is_url(pattern) else os.path.abspath(pattern)
    listing = tree.list_files(root)
    size = sum(file.size for file in listing.files)
    return ([File(root, size)] if listing.files else []), listing.left_out


def _find_files(pattern: str, extensions: Sequence[str]) -> tuple[list[File], Mapping[str, int]]:
    """Return the files that match a pattern, and how many are left out or empty, by reason."""
    in_folder = storage.walk_files(pattern)
    root = pattern.rstrip("/") if in_folder else None
    matches = in_folder or storage.glob_files(pattern)
    if [file.path for file in matches] == [pattern]:
        return matches, {}
    reasons = [_reason_left_out(file, root, extensions) for file in matches]
    files = [
        file for file, reason in zip(matches, reasons, strict=True) if reason in (None, "empty")
    ]
    return files, Counter(filter(None, reasons))


def _reason_left_out(file: File, root: str | None, extensions: Sequence[str]) -> str | None:
    """Return why a file is not read, or None; `root` is the folder searched, None for a glob."""
    *folders, name = file.path.removeprefix(root or "").split("/")
    if not _BOOKKEEPING.isdisjoint(folders):
        return "bookkeeping"
    # A glob matches hidden folders only if it spells the dot.
    if name.startswith(".") or (root is not None and any(one[:1] == "." for one in folders)):
        return "hidden"
    if not name.endswith(tuple(extensions)):
        return "other_ending"
    return "empty" if not file.size else None


def _check_name(path: str, corpus: str) -> None:
    """Raise InvalidValueError for a file that was named and cannot be an input."""
    name = path.rpartition("/")[2]
    if not path.endswith(EXTENSIONS[corpus]):
        raise InvalidValueError(
            f"cannot read {storage.escape_path(path)}; {corpus} expects"
            f" {', '.join(EXTENSIONS[corpus])}"
        )
    if name.startswith("._"):
        raise InvalidValueError(
            f"cannot read {path}: macOS keeps the metadata of {name[2:]} there, not its content;"
            f" expected {name[2:]}"
        )
