"""Files that steps leave for one another, in the work folder of their run.

They are named relative to that folder, so that a step cannot name a file of another run. A file
appears under its name when it is complete; a step that is tried again writes the same bytes. Object
storage shows a file only when it is complete, so that there no temporary file is written, whose
renaming would be two more requests.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import uuid
from collections.abc import Iterable, Iterator
from typing import BinaryIO, TypeVar

from etils import epath

from codegen_pax.data.prepare.settings import Settings

# TensorFlow fetches 64 MiB from `gs://` unless this variable says otherwise, also for a read of
# one. Three are a segment, and one request for 3 MiB of a file that is read to its end. With two
# MiB, inputs of some gigabytes would take more than a request a MiB; with four, 0.2 or 0.3 bytes
# more would be read for a byte of input.
_READ_AHEAD_OPTION = "GCS_READ_CACHE_BLOCK_SIZE_MB"
READ_AHEAD_BYTES = 3 << 20
_OBJECT_STORAGE = ("gs://", "s3://")

Key = TypeVar("Key")


class WorkFileError(OSError):
    """A file in the work folder is not what a step left there."""


def limit_read_ahead() -> None:
    """Set how much is read ahead, before TensorFlow is loaded; a user's own setting is kept."""
    os.environ.setdefault(_READ_AHEAD_OPTION, str(READ_AHEAD_BYTES >> 20))


@dataclasses.dataclass(frozen=True, order=True)
class Segment:
    """A range of a file in the work folder, read by one request.

    Attributes:
        path: the file, relative to the work folder.
        start: first byte.
        size: number of bytes.
    """

    path: str
    start: int
    size: int

    def read(self, settings: Settings) -> bytes:
        """Return the bytes.

        Raises:
            WorkFileError: The file is shorter than it was.
        """
        path = settings.work_folder / self.path
        with path.open("rb") as file:
            if self.start:
                file.seek(self.start)
            data = file.read(self.size)
        if len(data) != self.size:
            raise WorkFileError(
                f"{path} is cut: found {len(data):,} bytes from byte {self.start:,}, expected"
                f" {self.size:,}"
            )
        return data


def write(settings: Settings, path: str, data: bytes) -> Segment:
    """Write a file; `path` is relative to the work folder."""
    with atomic_file(settings.work_folder / path) as file:
        file.write(data)
    return Segment(path, 0, len(data))


def write_segments(
    settings: Settings, path: str, pieces: Iterable[tuple[Key, Iterable[bytes]]]
) -> list[tuple[Key, Segment]]:
    """Write a file of segments, one after another.

    Args:
        settings: Settings of the corpus.
        path: Relative to the work folder.
        pieces: (key, pieces of its segment); if there is none, no file is written.

    Returns:
        (key, segment) in the same order.
    """
    segments = []
    start = 0
    with contextlib.ExitStack() as exits:
        file = None
        for key, parts in pieces:
            file = file or exits.enter_context(atomic_file(settings.work_folder / path))
            size = 0
            for part in parts:
                file.write(part)
                size += len(part)
            segments.append((key, Segment(path, start, size)))
            start += size
    return segments


@contextlib.contextmanager
def atomic_file(path: epath.Path) -> Iterator[BinaryIO]:
    """Open a file for writing that appears at `path` only if the block ends without an error.

    Until then its content is in a temporary file beside it, where a failed attempt leaves it; or,
    if the path is of object storage, on this machine.
    """
    _make_folder(str(path.parent))
    if str(path).startswith(_OBJECT_STORAGE):
        try:
            with path.open("wb") as file:
                file.write(b"")  # object storage creates a file at its first write
                yield file
        except BaseException:  # closing the file has uploaded what it held
            with contextlib.suppress(Exception):
                path.unlink()
            raise
        return
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex}.unfinished")
    with temporary.open("wb") as file:
        file.write(b"")
        yield file
    temporary.replace(path)


@functools.lru_cache(maxsize=1 << 12)
def _make_folder(folder: str) -> None:
    """Make a folder once: behind a URL each call is several requests."""
    epath.Path(folder).mkdir(parents=True, exist_ok=True)
