"""Files that steps leave for one another, whole or not at all, and how far a step has come."""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Iterator
from typing import BinaryIO

from etils import epath

from codegen_pax.corpus.raw import storage
from codegen_pax.corpus.raw.splits import Split


def write(path: str | epath.Path, data: bytes) -> None:
    """Writes a file whole or not at all; of two attempts at the same one the last stays."""
    with whole(epath.Path(path)) as file:
        file.write(data)


@contextlib.contextmanager
def whole(path: epath.Path, staged: epath.Path | None = None) -> Iterator[BinaryIO]:
    """A file to write bit by bit, which is at `path` once that ends without an error.

    Until then it lies beside `staged`, or `path`; an attempt that is given up leaves it there.
    """
    beside = staged or path
    unfinished = beside.with_name(f"{beside.name}.{uuid.uuid4().hex}.unfinished")
    for folder in {beside.parent, path.parent}:
        folder.mkdir(parents=True, exist_ok=True)
    with unfinished.open("wb") as file:
        file.write(b"")  # behind a URL a file is made by the first write
        yield file
    unfinished.replace(path)


class Progress:
    """How many bytes of a split a step has seen, in a file that is written every second.

    Behind a URL nobody looks for it, and nothing is written.
    """

    def __init__(self, folder: epath.Path, step: str, split: Split):
        self._path = folder / "progress" / f"{step}-{split.number:06d}"
        self._is_read = not storage.is_url(str(folder))
        if self._is_read:
            self._path.parent.mkdir(parents=True, exist_ok=True)
        self._total = split.size
        self._seen = 0
        self._next = time.monotonic() + 1

    def add(self, size: int) -> None:
        """`size` more bytes of text were seen. A compressed split holds more than its own size."""
        self._seen += size
        if time.monotonic() >= self._next:
            self._tell(min(self._seen, self._total))
            self._next = time.monotonic() + 1

    def finish(self) -> None:
        """The split was read to its end."""
        self._tell(self._total)

    def _tell(self, seen: int) -> None:
        if self._is_read:
            self._path.write_text(str(seen))
