"""Which files a corpus is read from."""

from __future__ import annotations

import os
from collections.abc import Sequence

from codegen_pax import names
from codegen_pax.corpus.raw import storage, tree
from codegen_pax.corpus.raw.storage import File
from codegen_pax.errors import InvalidValueError

_TREE = "a folder with files that are not hidden, vendored or git-ignored"

JSON_LINES = (".jsonl", ".json", ".ndjson")
COMPRESSED = (".gz", ".zst")
TABLES = (".parquet", ".avro")

_LINES = tuple(kind + by for kind in JSON_LINES for by in ("", *COMPRESSED))
# What each corpus is read from; `tree` is read from every file of a folder.
ENDINGS = {
    "pile": _LINES,
    "bigquery": (*_LINES, *TABLES),
    "bigpython": (*_LINES, *TABLES),
    "instruction": _LINES,
    "tree": (),
}


class DamagedInputError(InvalidValueError):
    """An input that ends early or is not what its name says; nothing of it can be trusted."""

    def __init__(self, path: str, found: object):
        super().__init__(f"{path} is damaged ({found}): fetch it again, or leave it out of --input")


class ChangedInputError(InvalidValueError):
    """An input that was another when it was read again."""

    def __init__(self, path: str, found: object):
        super().__init__(
            f"{path} changed while it was prepared ({found}); wanted inputs that nobody writes to"
        )


def find(corpus: str, patterns: Sequence[str]) -> list[File]:
    """The inputs of a corpus, sorted by path, each once.

    Args:
      corpus: one of `ENDINGS`.
      patterns: files, globs or folders, local or URLs. Of a folder, every file in it, or in a
        folder in it that is not hidden, with an ending that the corpus is read from. For `tree`,
        folders: each is one input.

    Raises:
      ValueError: no such corpus; a pattern that finds nothing; a file with another ending.
    """
    if corpus not in ENDINGS:
        raise InvalidValueError(names.unknown("corpus", corpus, ENDINGS))
    found: dict[str, File] = {}
    for pattern in patterns:
        if corpus == "tree":
            root = pattern.rstrip("/") if storage.is_url(pattern) else os.path.abspath(pattern)
            sizes = [file.size for file in tree.files(root)]
            matched = [File(root, sum(sizes))] if sizes else []
        else:
            root = pattern.rstrip("/")
            matched = [
                file
                for file in storage.below(pattern)
                if file.path.endswith(ENDINGS[corpus])
                and "/." not in file.path.removeprefix(root).rpartition("/")[0]
            ]
            matched = matched or storage.matching(pattern)
        if not matched:
            what = ", ".join(ENDINGS[corpus]) or _TREE
            raise InvalidValueError(f"found nothing to read at {pattern}; wanted {what}")
        found |= {file.path: file for file in matched}
    for path in found:
        if ENDINGS[corpus] and not path.endswith(ENDINGS[corpus]):
            raise InvalidValueError(
                f"cannot read {path}; {corpus} wanted {', '.join(ENDINGS[corpus])}"
            )
    return sorted(found.values())
