"""The files of a source tree as documents."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable, Iterator

from codegen_pax.data.format.documents import Document, Dropped
from codegen_pax.data.sources import encodings, paths, schemas, storage, tree
from codegen_pax.data.sources.tree_licences import Licences

_BINARY_PROBE = 8_000  # bytes; a NUL among them is what git calls binary


def documents(root: str, files: Iterable[tree.Listed]) -> Iterator[Document | Dropped]:
    """The files of a tree, in order, each as a document or as why it is none."""
    place = functools.cache(functools.partial(_repository, root))
    licences = Licences(root)
    for file in files:
        source = paths.shown(f"{root}/{file.path}")
        try:
            with storage.open_regular(f"{root}/{file.path}") as content:
                raw = content.read(schemas.MAX_DOCUMENT_BYTES + 1)
        except OSError:  # not to be read, or gone, or another thing than when it was listed
            if storage.is_url(root):
                raise
            yield Dropped(tree.UNREADABLE, file.size, source, 0)
            continue
        if b"\0" in raw[:_BINARY_PROBE] and not encodings.has_wide_mark(raw):
            yield Dropped("binary", file.size, source, 0)
            continue
        try:
            text = encodings.decode(raw, file.path)
        except encodings.EncodingError as reason:
            is_cut = len(raw) > schemas.MAX_DOCUMENT_BYTES
            yield Dropped("document_too_large" if is_cut else str(reason), file.size, source, 0)
            continue
        name, above = place(file.repository)
        path = above + file.path.removeprefix(f"{file.repository}/")
        licence = licences.of(file.repository, file.path, text)
        found = Document(
            text, source, 0, paths.shown(path), paths.shown(name), paths.shown(licence)
        )
        rule = schemas.unusable(found)
        yield Dropped(rule, file.size, source, 0) if rule else found


def _repository(root: str, folder: str) -> tuple[str, str]:
    """A repository's name, and how the path of the tree begins in it, of one that is above.

    The name of one in the tree is the way to it, as owner/name; of another, that of its folder.
    """
    if folder and not folder.startswith(".."):
        return folder, ""
    place = root if storage.is_url(root) else os.path.realpath(root) if folder else root
    *above, name = place.rstrip("/").split("/")[-1 - folder.count("..") :]
    if not above:
        return name, ""
    return above[0], "/".join([*above[1:], name, ""])
