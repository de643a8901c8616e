"""Which files a corpus is read from."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import os
from collections.abc import Sequence
from typing import BinaryIO

from codegen_pax import names
from codegen_pax.quiet import quietly

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

_CHUNK = 1 << 20


class DamagedInputError(ValueError):
    """An input that ends early or is not what its name says; nothing of it can be trusted."""

    def __init__(self, path: str, found: object):
        super().__init__(f"{path} is damaged ({found}): fetch it again, or leave it out of --input")


@dataclasses.dataclass(frozen=True, order=True)
class Input:
    """One input: its path or URL, and its size in bytes."""

    path: str
    size: int


@functools.cache
def _filesystems():
    # Beam takes seconds to import; every path is opened through it, so that any URL works.
    with quietly():  # it warns of clients of Google's that nothing here needs
        from apache_beam.io.filesystem import CompressionTypes
        from apache_beam.io.filesystems import FileSystems

    return FileSystems, CompressionTypes.UNCOMPRESSED


def open_input(path: str) -> BinaryIO:
    """An input's own bytes, compressed ones as they are; local or behind a URL."""
    filesystems, as_it_is = _filesystems()
    return filesystems.open(path, compression_type=as_it_is)


def listing(pattern: str) -> list[Input]:
    """The files that a glob finds, in no order."""
    filesystems, _ = _filesystems()
    found = filesystems.match([pattern])[0].metadata_list
    return [Input(file.path, file.size_in_bytes) for file in found]


def find(corpus: str, patterns: Sequence[str]) -> list[Input]:
    """The inputs of a corpus, sorted by path, each once.

    Args:
      corpus: one of `ENDINGS`.
      patterns: files, globs or folders, local or URLs. Of a folder, every file in it with an ending
        that the corpus is read from. For `tree`, folders: each is one input.

    Raises:
      ValueError: no such corpus; a pattern that finds nothing; a file with another ending.
    """
    if corpus not in ENDINGS:
        raise ValueError(names.unknown("corpus", corpus, ENDINGS))
    found: dict[str, Input] = {}
    for pattern in patterns:
        if corpus == "tree":
            files = listing(pattern.rstrip("/") + "/**")
            root = os.path.abspath(pattern) if "://" not in pattern else pattern.rstrip("/")
            matched = [Input(root, sum(file.size for file in files))] if files else []
        else:
            is_glob = any(character in pattern for character in "*?[")
            inside = [] if is_glob else listing(pattern.rstrip("/") + "/*")
            matched = [file for file in inside if file.path.endswith(ENDINGS[corpus])]
            matched = matched or listing(pattern)
        if not matched:
            what = ", ".join(ENDINGS[corpus]) or "any file in a folder"
            raise ValueError(f"found nothing to read at {pattern}; wanted {what}")
        found |= {file.path: file for file in matched}
    for path in found:
        if ENDINGS[corpus] and not path.endswith(ENDINGS[corpus]):
            raise ValueError(f"cannot read {path}; {corpus} wanted {', '.join(ENDINGS[corpus])}")
    return sorted(found.values())


def sha256(path: str) -> str:
    """SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with open_input(path) as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
