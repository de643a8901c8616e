"""Files that steps leave for one another, whole or not at all, and how far a step has come."""

from __future__ import annotations

import time
import uuid

from etils import epath

from codegen_pax.corpus.raw.splits import Split


def write(path: str | epath.Path, data: bytes) -> None:
    """Writes a file whole or not at all; of two attempts at the same one the last stays."""
    path = epath.Path(path)
    unfinished = begin(path)
    unfinished.write_bytes(data)
    unfinished.replace(path)


def begin(path: epath.Path) -> epath.Path:
    """Where a file is written until it is whole; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.with_name(f"{path.name}.{uuid.uuid4().hex}.unfinished")


class Progress:
    """How many bytes of a split a step has seen, in a file that is written every second."""

    def __init__(self, folder: epath.Path, step: str, split: Split):
        self._path = folder / "progress" / f"{step}-{split.number:06d}"
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._total = split.size
        self._seen = 0
        self._next = time.monotonic() + 1

    def add(self, size: int) -> None:
        """`size` more bytes of text were seen. A compressed split holds more than its own size."""
        self._seen += size
        if time.monotonic() >= self._next:
            self._path.write_text(str(min(self._seen, self._total)))
            self._next = time.monotonic() + 1

    def finish(self) -> None:
        """The split was read to its end."""
        self._path.write_text(str(self._total))
