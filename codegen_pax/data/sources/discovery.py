"""Which files a corpus is read from."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence

from codegen_pax import names
from codegen_pax.data.sources import paths, storage, tree
from codegen_pax.data.sources.storage import File
from codegen_pax.errors import InvalidValueError

_TREE = "a folder with files that are not hidden, vendored or git-ignored"

JSON_LINES = (".jsonl", ".json", ".ndjson")
COMPRESSED = (".gz", ".zst")
TABLES = (".parquet", ".avro")

# Folders of what a writer of tables, or macOS, keeps beside them: Spark's and Hive's unfinished
# files and logs, Delta's log.
_BOOKKEEPING = frozenset(
    {"_temporary", "_spark_metadata", "_delta_log", "_delta_index", "_impala_insert_staging"}
    | {"__MACOSX"}
)

_LINES = tuple(kind + by for kind in JSON_LINES for by in ("", *COMPRESSED))
# What each corpus is read from; `tree` is read from every file of a folder.
ENDINGS = {
    "pile": _LINES,
    "bigquery": (*_LINES, *TABLES),
    "bigpython": (*_LINES, *TABLES),
    "instruction": _LINES,
    "tree": (),
}


def _left_out(file: File, root: str | None, endings: Sequence[str]) -> str | None:
    """Why a file of a folder, `root`, or of a glob, of which that is None, is not read."""
    *folders, name = file.path.removeprefix(root or "").split("/")
    if not _BOOKKEEPING.isdisjoint(folders):
        return "bookkeeping"
    # A glob finds hidden folders only if it spells the dot.
    if name.startswith(".") or (root is not None and any(one[:1] == "." for one in folders)):
        return "hidden"
    if not name.endswith(tuple(endings)):
        return "other_ending"
    return "empty" if not file.size else None


def find(corpus: str, patterns: Sequence[str], unread: Counter[str] | None = None) -> list[File]:
    """The inputs of a corpus, sorted by path, each once.

    Args:
      corpus: one of `ENDINGS`.
      patterns: files, globs or folders, local or URLs. Of a folder or a glob every file but hidden
        ones, those with an ending that is not read, and those in folders of `_BOOKKEEPING`. For
        `tree`, folders: each is one input.
      unread: gets how many files were left out, by reason, and how many are empty.

    Raises:
      ValueError: no such corpus; a pattern that finds nothing; a file that was named and has
        another ending, or is what macOS keeps beside it.
    """
    if corpus not in ENDINGS:
        raise InvalidValueError(names.unknown("corpus", corpus, ENDINGS))
    found: dict[str, File] = {}
    for pattern in patterns:
        if corpus == "tree":
            root = pattern.rstrip("/") if storage.is_url(pattern) else os.path.abspath(pattern)
            listing = tree.listing(root)
            sizes = [file.size for file in listing.files]
            matched = [File(root, sum(sizes))] if sizes else []
            left_out = tree.said(listing.left_out)
            if unread is not None:
                unread.update(listing.left_out)
        else:
            below = storage.below(pattern)
            root = pattern.rstrip("/") if below else None
            matched = below or storage.matching(pattern)
            if [file.path for file in matched] != [pattern]:
                reasons = [_left_out(file, root, ENDINGS[corpus]) for file in matched]
                both = zip(matched, reasons, strict=True)
                matched = [file for file, why in both if why in (None, "empty")]
                if unread is not None:
                    unread.update(filter(None, reasons))
        if not matched:
            what = ", ".join(ENDINGS[corpus]) or _TREE + left_out
            raise InvalidValueError(
                f"found nothing to read at {paths.shown(pattern)}; wanted {what}"
            )
        found |= {file.path: file for file in matched}
    for path in found:
        if ENDINGS[corpus] and not path.endswith(ENDINGS[corpus]):
            raise InvalidValueError(
                f"cannot read {paths.shown(path)}; {corpus} wanted {', '.join(ENDINGS[corpus])}"
            )
        if ENDINGS[corpus] and path.rpartition("/")[2].startswith("._"):
            raise InvalidValueError(
                f"cannot read {path}: macOS keeps there what it knows of a file, not what is in it;"
                f" wanted {path.rpartition('/')[2][2:]}"
            )
    return sorted(found.values())
