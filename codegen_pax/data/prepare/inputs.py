"""The entries of the inputs in the manifest."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
from collections.abc import Iterable
from typing import Any

from codegen_pax.data.rules import languages
from codegen_pax.data.sources import storage, tree
from codegen_pax.data.sources.partitions import Partition


@dataclasses.dataclass(frozen=True, order=True)
class Hashed:
    """The SHA-256 of a file, or of a part of it.

    Attributes:
        path: the file.
        start: first byte of the part.
        size: bytes of the part.
        is_whole: whether it is the whole file.
        sha256: in hexadecimal.
    """

    path: str
    start: int
    size: int
    is_whole: bool
    sha256: str

    @classmethod
    def of(cls, partition: Partition, sha256: str) -> Hashed:
        """Return that of what a partition is of its input."""
        is_whole = partition.end is None
        return cls(partition.source, partition.start, partition.size, is_whole, sha256)


def describe(file: storage.File) -> str:
    """Describe an input."""
    return storage.escape_path(file.path)


def describe_input(file: storage.File, corpus: str) -> dict[str, Any]:
    """Return the entry of an input in the manifest, and the `endings` of the files of a tree."""
    if corpus != "tree":
        return describe_file(file, storage.sha256(file.path))
    listing = tree.list_files(file.path)
    return {
        "path": storage.escape_path(file.path),
        "bytes": file.size,
        "sha256": tree.sha256(file.path, listing.files),
        "endings": languages.count_extensions(
            storage.escape_path(entry.path) for entry in listing.files
        ),
    }


def describe_file(file: storage.File, sha256: str) -> dict[str, Any]:
    """Return the entry of a file."""
    return {"path": storage.escape_path(file.path), "bytes": file.size, "sha256": sha256}


def describe_hashed(hashes: Iterable[Hashed]) -> list[dict[str, Any]]:
    """Return the entries of inputs that were hashed as they were read.

    A file that was read in parts has, in place of its SHA-256, `sha256_of_parts`: the SHA-256 of
    the lines with those of its parts, each of which has `part_bytes` but the last.

    Args:
        hashes: In order, for each input either the one of the whole file or those of all parts.
    """
    entries = []
    for path, several in itertools.groupby(hashes, lambda one: one.path):
        first, *others = several
        file = storage.File(path, first.size + sum(one.size for one in others))
        if first.is_whole:
            entries.append(describe_file(file, first.sha256))
            continue
        lines = "".join(f"{one.sha256}\n" for one in (first, *others))
        entries.append(
            {
                "path": storage.escape_path(path),
                "bytes": file.size,
                "part_bytes": first.size,
                "sha256_of_parts": hashlib.sha256(lines.encode()).hexdigest(),
            }
        )
    return entries
