"""The entries of the inputs in the manifest."""

from __future__ import annotations

from typing import Any

from codegen_pax.data.rules import languages
from codegen_pax.data.sources import storage, tree


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
