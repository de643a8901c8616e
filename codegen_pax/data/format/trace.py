"""From a row back to the documents it was cut from."""

from __future__ import annotations

import dataclasses
import os

import numpy as np
import pyarrow
from etils import epath
from pyarrow import parquet

from codegen_pax.data.format import manifest as manifests
from codegen_pax.data.format.manifest import Manifest, Shard
from codegen_pax.data.sources import storage
from codegen_pax.errors import InvalidValueError
from codegen_pax.text import tokenizer


@dataclasses.dataclass(frozen=True)
class Origin:
    """A piece of a document in a row.

    Attributes:
      column: where in the row it begins.
      tokens: how many of its tokens are in the row.
      offset: that of the first of them in its document.
      source, record, path, repository, licence, language: see `documents.Document`.
      sha256: of the document's content as it was read.
    """

    column: int
    tokens: int
    offset: int
    source: str
    record: int
    path: str
    repository: str
    licence: str
    language: str
    sha256: str


class DamagedShardError(InvalidValueError):
    """A file of a finished corpus is not as it was written."""

    def __init__(self, path: object, found: object):
        super().__init__(f"{path} is damaged: {found}")


def locate(shard: str) -> tuple[epath.Path, Manifest, Shard]:
    """The corpus that a shard belongs to: its folder, its manifest, and what that says of it.

    Raises:
      ManifestError: there is no finished corpus around it, or it is none of its shards.
      OSError: it cannot be reached.
    """
    path = storage.as_epath(shard if storage.is_url(shard) else os.path.abspath(shard))
    with storage.translate_errors(shard):
        return _located(path)


def _located(path: epath.Path) -> tuple[epath.Path, Manifest, Shard]:
    for folder in (path.parent, path.parent.parent):
        if (folder / manifests.FILE).exists():
            manifest = manifests.load(folder)
            name = "/".join(path.parts[len(folder.parts) :])
            for splits in manifest.parts.values():
                for shards in splits.values():
                    for found in shards:
                        if found.name == name:
                            return folder, manifest, found
            raise manifests.ManifestError(f"{path} is no shard of the corpus in {folder}")
    raise manifests.ManifestError(
        f"{path} belongs to no finished corpus: found no {manifests.FILE} beside it or above it"
    )


def trace(shard: str, row: int) -> list[Origin]:
    """The documents of a row of a shard, in order.

    Raises:
      ManifestError: see `locate`.
      ValueError: the shard has no such row.
    """
    folder, manifest, found = locate(shard)
    if not 0 <= row < found.rows:
        wanted = f"wanted 0 to {found.rows - 1}" if found.rows else "it has none at all"
        raise InvalidValueError(f"{shard} has no row {row}: {wanted}")
    with storage.translate_errors(shard), storage.open_file(str(folder / found.documents)) as file:
        try:
            # In this thread: one of pyarrow's may let go of the file when Python has ended already,
            # and that aborts the process.
            table = parquet.ParquetFile(file, pre_buffer=False).read(use_threads=False)
        except pyarrow.ArrowException as error:
            raise DamagedShardError(folder / found.documents, error) from error
    first, last = row * manifest.row_length, (row + 1) * manifest.row_length
    origins = []
    starts, tokens = table["start"].to_numpy(), table["tokens"].to_numpy()
    for place in ((starts < last) & (starts + tokens > first)).nonzero()[0]:
        piece = table.slice(int(place), 1).to_pylist()[0]
        start, count = piece.pop("start"), piece.pop("tokens")
        before = max(0, first - start)  # of the piece, in rows before this one
        piece["offset"] += before
        shown = min(start + count, last) - max(start, first)
        origins.append(Origin(column=start + before - first, tokens=shown, **piece))
    return origins


def text(shard: str, row: int) -> str:
    """The text of a row, the ends of its documents marked.

    Raises:
      ManifestError: see `locate`.
      DamagedShardError: the row is not as it was written.
    """
    folder, manifest, found = locate(shard)
    size = manifest.row_format.record_bytes
    with storage.translate_errors(shard), (folder / found.name).open("rb") as file:
        file.seek(row * size)
        data = file.read(size)
    if len(data) < size:
        raise DamagedShardError(shard, f"it ends in row {row}")
    (record,) = records = np.frombuffer(data, manifest.row_format.dtype)
    if not manifest.row_format.intact(records).all():
        raise DamagedShardError(shard, f"row {row} does not fit its checksum")
    length = int(record["length"]) if manifest.answers else manifest.row_length
    words = tokenizer.load(manifest.vocabulary)
    return words.decode(record["tokens"][:length].tolist(), skip_special_tokens=False)
