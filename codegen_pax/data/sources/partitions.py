"""Inputs in pieces that workers read side by side."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

from codegen_pax.data.sources import sniffing, tree
from codegen_pax.data.sources.discovery import COMPRESSED, TABLES
from codegen_pax.data.sources.errors import ForeignInputError, InputsError
from codegen_pax.data.sources.storage import File, open_file

PARTITION_BYTES = 64 << 20


@dataclasses.dataclass(frozen=True)
class Partition:
    """A piece of an input.

    Attributes:
      corpus: what the input is read as.
      source: the input's path or URL.
      number: of the piece among all of a corpus, from 0.
      layout: of JSON, how its records lie in it: one of those of `formats`.
      start, end: of plain JSON lines, bytes; of Parquet, row groups; else of no meaning (0, None).
      size: bytes, about, for progress.
      files: of a tree, the files to read, relative to `source`.
      fault: why nothing of the input can be read, if it is something else than its name says.
    """

    corpus: str
    source: str
    number: int
    size: int
    start: int = 0
    end: int | None = None
    files: tuple[tree.Listed, ...] = ()
    layout: str = sniffing.LINES
    fault: str = ""

    def place(self, record: int) -> str:
        """Which of its records one is, in words (`documents.Document.record`)."""
        is_by_byte = not self.source.endswith((*COMPRESSED, *TABLES))
        is_by_byte = is_by_byte and self.layout == sniffing.LINES and self.corpus != "tree"
        return f"the line at byte {record:,}" if is_by_byte else f"record {record:,}"


def plan(corpus: str, inputs: Sequence[File], at_most: int = PARTITION_BYTES) -> list[Partition]:
    """All pieces of the inputs, in their order; a function of the inputs alone.

    An input that is damaged, or something else than its name says, is one piece: whoever reads that
    is told.

    Raises:
      ForeignInputError: the only input is something else than its name says.
      InputsError: of several inputs more than half are.
    """
    found: list[Partition] = []
    errors: list[ForeignInputError] = []
    for file in inputs:
        try:
            for piece in _pieces(corpus, file, at_most):
                found.append(Partition(corpus, file.path, len(found), **piece))
        except ForeignInputError as error:
            errors.append(error)
            found.append(Partition(corpus, file.path, len(found), file.size, fault=str(error)))
    if 2 * len(errors) > len(inputs):
        raise errors[0] if len(errors) == 1 else InputsError(errors)
    return found


def _pieces(corpus: str, file: File, at_most: int) -> Iterator[dict]:
    if corpus == "tree":
        yield from (
            {"size": size, "files": files} for files, size in tree.groups(file.path, at_most)
        )
    elif file.size == 0:
        yield {"size": 0}
    elif file.path.endswith(TABLES):
        sniffing.check(file.path)
        if file.path.endswith(".parquet"):
            yield from _row_groups(file, at_most)
        else:
            yield {"size": file.size}
    elif (layout := sniffing.json_layout(file.path)) != sniffing.LINES:
        yield {"size": file.size, "layout": layout}
    elif file.path.endswith(COMPRESSED):
        yield {"size": file.size}
    else:
        for start in range(0, file.size, at_most):
            end = min(start + at_most, file.size)
            yield {"start": start, "end": end, "size": end - start}


def _row_groups(file: File, at_most: int) -> Iterator[dict]:
    import pyarrow
    from pyarrow import parquet

    with open_file(file.path) as opened:
        try:
            metadata = parquet.ParquetFile(opened).metadata
        # Who reads it is told what is wrong with it.
        except (pyarrow.ArrowException, OSError, ValueError):
            yield {"size": file.size}
            return
        start = size = 0
        for number in range(metadata.num_row_groups):
            size += metadata.row_group(number).total_byte_size
            if size >= at_most or number == metadata.num_row_groups - 1:
                yield {"start": start, "end": number + 1, "size": size}
                start, size = number + 1, 0
