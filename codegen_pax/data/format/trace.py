"""Provenance: from a row back to the documents it was cut from."""

from __future__ import annotations

import dataclasses
import os

import numpy as np
import pyarrow
from etils import epath
from pyarrow import parquet

from codegen_pax.data.format import manifest as manifests
from codegen_pax.data.format.manifest import DamagedShardError, Manifest, Shard
from codegen_pax.data.sources import storage
from codegen_pax.errors import InvalidValueError
from codegen_pax.text import tokenizer


@dataclasses.dataclass(frozen=True)
class Origin:
    """A piece of a document in a row.

    Attributes:
        column: position of its first token in the row.
        tokens: how many tokens of the document are in the row.
        offset: position of the first of these tokens in the document.
        source: as in `documents.Document`.
        record: as in `documents.Document`.
        path: as in `documents.Document`.
        repository: as in `documents.Document`.
        licence: as in `documents.Document`.
        language: as in `documents.Document`.
        sha256: SHA-256 of the document's content as it was read.
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


def locate(shard: str) -> tuple[epath.Path, Manifest, Shard]:
    """Find the corpus that a shard belongs to.

    Args:
        shard: Path or URL of a `.tfrecord` file.

    Returns:
        The corpus's folder, its manifest, and the manifest's entry of the shard.

    Raises:
        ManifestError: The shard is not in the folder of a finished corpus, or the manifest does not
            list it.
        OSError: The corpus cannot be reached.
    """
    path = storage.as_epath(shard if storage.is_url(shard) else os.path.abspath(shard))
    with storage.translate_errors(shard):
        return _locate(path)


def _locate(path: epath.Path) -> tuple[epath.Path, Manifest, Shard]:
    for folder in (path.parent, path.parent.parent):
        if (folder / manifests.FILE).exists():
            manifest = manifests.load(folder)
            name = "/".join(path.parts[len(folder.parts) :])
            for splits in manifest.parts.values():
                for shards in splits.values():
                    for entry in shards:
                        if entry.name == name:
                            return folder, manifest, entry
            raise manifests.ManifestError(f"{path} is no shard of the corpus in {folder}")
    raise manifests.ManifestError(
        f"{path} belongs to no finished corpus: found no {manifests.FILE} beside it or above it"
    )


def trace(shard: str, row: int) -> list[Origin]:
    """Return the documents of a row of a shard, in order.

    Args:
        shard: Path or URL of a `.tfrecord` file of a finished corpus.
        row: Number of the row in the shard, from 0.

    Raises:
        ManifestError: See `locate`.
        ValueError: The shard has no such row, or its list of documents is damaged.
    """
    folder, manifest, entry = locate(shard)
    if not 0 <= row < entry.rows:
        valid = f"expected 0 to {entry.rows - 1}" if entry.rows else "it has no rows"
        raise InvalidValueError(f"{shard} has no row {row}: {valid}")
    with storage.translate_errors(shard), storage.open_file(str(folder / entry.documents)) as file:
        try:
            # In this thread only: a thread of pyarrow's that releases the file after Python has
            # been finalised aborts the process.
            table = parquet.ParquetFile(file, pre_buffer=False).read(use_threads=False)
        except pyarrow.ArrowException as error:
            raise DamagedShardError(f"{folder / entry.documents} is damaged: {error}") from error
    first, end = row * manifest.row_length, (row + 1) * manifest.row_length
    starts, tokens = table["start"].to_numpy(), table["tokens"].to_numpy()
    origins = []
    for index in ((starts < end) & (starts + tokens > first)).nonzero()[0]:
        piece = table.slice(int(index), 1).to_pylist()[0]
        start, num_tokens = piece.pop("start"), piece.pop("tokens")
        num_before = max(0, first - start)  # tokens of the piece in rows before this one
        piece["offset"] += num_before
        num_inside = min(start + num_tokens, end) - max(start, first)
        origins.append(Origin(column=start + num_before - first, tokens=num_inside, **piece))
    return origins


def text(shard: str, row: int) -> str:
    """Return the text of a row, end-of-text tokens included.

    Args:
        shard: Path or URL of a `.tfrecord` file of a finished corpus.
        row: Number of the row in the shard, from 0.

    Raises:
        ManifestError: See `locate`.
        DamagedShardError: The row is not as it was written.
    """
    folder, manifest, entry = locate(shard)
    size = manifest.row_format.record_bytes
    with storage.translate_errors(shard), (folder / entry.name).open("rb") as file:
        file.seek(row * size)
        data = file.read(size)
    if len(data) < size:
        raise DamagedShardError(f"{shard} is damaged: it ends in row {row}")
    (record,) = records = np.frombuffer(data, manifest.row_format.dtype)
    if not manifest.row_format.intact(records).all():
        raise DamagedShardError(f"{shard} is damaged: row {row} does not fit its checksum")
    length = int(record["length"]) if manifest.answers else manifest.row_length
    bpe = tokenizer.load(manifest.vocabulary)
    return bpe.decode(record["tokens"][:length].tolist(), skip_special_tokens=False)
