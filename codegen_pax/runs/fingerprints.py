"""Hashes of what receipts name: the weights of a checkpoint, and the files of an import."""

from __future__ import annotations

import concurrent.futures
import hashlib
import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import google_crc32c
from etils import epath

from codegen_pax.errors import InvalidValueError
from codegen_pax.runs import checkpoints, checksums

_THREADS = 32
_BLOCK_BYTES = 1 << 22  # read at once


def fingerprint(
    checkpoint: epath.PathLike, is_cancelled: Callable[[], bool] = lambda: False
) -> dict[str, Any]:
    """Identifies the weights of a checkpoint, without the state of the optimizer, by a hash.

    The hash is of the stored bytes: the same values in other chunks, or with another compression,
    have another hash.

    Args:
        checkpoint: The directory of the checkpoint, local or a URL.
        is_cancelled: Polled while files are read; if true, InterruptedError is raised.

    Returns:
        `sha256` of a line for each file of the weights, in order: its name, its bytes, its SHA-256;
        and the `bytes` of all those files.

    Raises:
        FileNotFoundError: The checkpoint has no weights.
        ValueError: A file has other bytes than were saved.
    """
    state = epath.Path(checkpoint) / checkpoints.STATE
    arrays = checkpoints.weight_directories(checkpoint)
    known = checksums.read(checkpoint)
    saved = known.files if known else {}

    def checked_hash(file: epath.Path) -> _FileHash:
        result = _hash(file, is_cancelled)
        name = file.relative_to(checkpoint).as_posix()
        if name in saved and (result.size, result.crc) != saved[name]:
            raise checksums.damaged_error(checkpoint, [f"{name} has other bytes than were saved"])
        return result

    with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
        files = [file for listed in pool.map(_list_files, arrays) for file in listed]
        hashes = [*pool.map(checked_hash, files)]
    lines = sorted(
        f"{file.relative_to(state).as_posix()} {result.size} {result.sha256}\n"
        for file, result in zip(files, hashes, strict=True)
    )
    return {
        "sha256": hashlib.sha256("".join(lines).encode()).hexdigest(),
        "bytes": sum(result.size for result in hashes),
    }


def stamps(checkpoint: epath.PathLike) -> list[list]:
    """Returns the name, bytes and time of each file of the weights, to tell whether any changes."""
    state = epath.Path(checkpoint) / checkpoints.STATE
    files = [
        file for array in checkpoints.weight_directories(checkpoint) for file in _list_files(array)
    ]
    stats = sorted((file.relative_to(state).as_posix(), file.stat()) for file in files)
    return [[name, stat.length, stat.mtime] for name, stat in stats]


def hash_files(
    paths: Sequence[epath.PathLike], is_cancelled: Callable[[], bool] = lambda: False
) -> list[dict[str, Any]]:
    """Returns the `name`, `bytes` and `sha256` of files, as the parent of an import has them.

    Args:
        paths: The files; their directories are not returned.
        is_cancelled: Polled while files are read; if true, InterruptedError is raised.
    """
    hashes = [_hash(epath.Path(file), is_cancelled) for file in paths]
    return [
        {"name": epath.Path(file).name, "bytes": result.size, "sha256": result.sha256}
        for file, result in zip(paths, hashes, strict=True)
    ]


class _FileHash(NamedTuple):
    """The bytes of a file, their SHA-256 and their CRC-32C."""

    size: int
    sha256: str
    crc: int


def _list_files(directory: epath.Path) -> list[epath.Path]:
    """Returns every file below a directory, except the locks of TensorStore."""
    files = []
    for entry in directory.iterdir():
        if entry.is_dir():
            files += _list_files(entry)
        elif not entry.name.endswith(".__lock"):
            if "://" not in str(entry) and not os.path.isfile(entry):
                raise InvalidValueError(f"{entry} is not a regular file")  # a pipe would block
            files.append(entry)
    return files


def _hash(file: epath.Path, is_cancelled: Callable[[], bool]) -> _FileHash:
    digest, size, crc = hashlib.sha256(), 0, 0
    with file.open("rb") as stream:
        while block := stream.read(_BLOCK_BYTES):
            if is_cancelled():
                raise InterruptedError(f"hashing of {file} is cancelled")
            digest.update(block)
            crc = google_crc32c.extend(crc, block)
            size += len(block)
    return _FileHash(size, digest.hexdigest(), crc)
