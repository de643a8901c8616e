"""What steps share: files that they leave for one another, how far they have come, how they fail.

A defect that shows in one document costs that document (`Guard`); whatever else ends a step names
the input and the record that it was at (`named`).
"""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

from etils import epath

from codegen_pax.data.format.documents import Document, Dropped
from codegen_pax.data.sources import storage
from codegen_pax.data.sources.partitions import Partition
from codegen_pax.data.sources.schemas import INTERNAL_ERROR
from codegen_pax.errors import UserError

MOST_DEFECTS = 20  # of a partition that are written out
# These are not for one document: the machine's, or the user's.
_OF_THE_RUN = (MemoryError, OSError, UserError)


class StepError(UserError):
    """A step ended at an input: the message names it, the record, and the error."""


class Guard:
    """A block that looks at one document: what fails in it is noted, and does not end the step.

    Attributes:
      rule: `INTERNAL_ERROR` if it failed, else None.
      why: the error; '' if it did not.
    """

    def __init__(self) -> None:
        self.rule: str | None = None
        self.why = ""

    def __enter__(self) -> Guard:
        return self

    def __exit__(self, kind, error, trace) -> bool:
        if not isinstance(error, Exception) or isinstance(error, _OF_THE_RUN):
            return False
        self.rule, self.why = INTERNAL_ERROR, described(error)
        return True


def described(error: BaseException) -> str:
    """An error in one line."""
    said = storage.escape_path(" ".join(str(error).split()))
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


def naming(function: Callable, place: Callable[[Any], str]) -> Callable:
    """A step whose errors say what it was at, where they are neither the user's nor the machine's.

    Args:
      function: of an element of Beam's, and more.
      place: what an element is, in words.
    """

    def step(element, *more):
        try:
            found = function(element, *more)
            return [*found] if isinstance(found, Iterator) else found
        except (OSError, UserError):
            raise
        except Exception as error:
            raise StepError(f"cannot go on at {place(element)}: {described(error)}") from error

    return step


def of_record(found: Document | Dropped, why: str, partition: Partition) -> str:
    """What is wrong with a record of a partition, in one line."""
    place = "" if partition.files else f", {partition.describe_record(found.record)}"
    return f"{found.source}{place}: {why}"


def named(
    documents: Iterator[Document | Dropped], partition: Partition
) -> Iterator[tuple[int, Document | Dropped]]:
    """Numbers the documents of a partition.

    Raises StepError for whatever the reader of the partition raises, if it is not the user's error.
    """
    found = None
    try:
        for number, found in enumerate(documents):
            yield number, found
    except UserError:
        raise
    except Exception as error:
        place = f"after {partition.describe_record(found.record)}" if found else "at its beginning"
        source = (
            found.source if found and partition.files else storage.escape_path(partition.source)
        )
        raise StepError(f"cannot read {source} ({place}): {described(error)}") from error


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
    """How many bytes of a partition a step has seen, in a file that is written every second.

    Behind a URL nobody looks for it, and nothing is written.
    """

    def __init__(self, folder: epath.Path, step: str, partition: Partition):
        self._path = folder / "progress" / f"{step}-{partition.number:06d}"
        self._is_read = not storage.is_url(str(folder))
        if self._is_read:
            self._path.parent.mkdir(parents=True, exist_ok=True)
        self._total = partition.size
        self._seen = 0
        self._next = time.monotonic() + 1
        self._tell(0)

    def add(self, size: int) -> None:
        """`size` more bytes of text were seen; a compressed partition holds more than its size."""
        self._seen += size
        if time.monotonic() >= self._next:
            self._tell(min(self._seen, self._total))
            self._next = time.monotonic() + 1

    def finish(self) -> None:
        """The partition was read to its end."""
        self._tell(self._total)

    def _tell(self, seen: int) -> None:
        if self._is_read:
            self._path.write_text(str(seen))
