"""Inputs in pieces that workers read in parallel."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

from codegen_pax.data.sources import sniffing, tree
from codegen_pax.data.sources.errors import ForeignInputError, InputsError
from codegen_pax.data.sources.sniffing import COMPRESSED, TABLES, Framing
from codegen_pax.data.sources.storage import File, is_url, open_file

PARTITION_BYTES = 64 << 20
# Our choice: behind a URL, lines up to this size are one partition, whose reading gives the SHA-256
# of the file: two minutes of one core. Larger files are read in parallel, and hashed in parts. On
# this machine files are read in parallel, and once more to hash them, as bytes cost nothing.
WHOLE_BYTES = 4 << 30


@dataclasses.dataclass(frozen=True)
class Partition:
    """A piece of an input, which one worker reads.

    Attributes:
        corpus: What the input is read as.
        source: The input's path or URL.
        number: The partition's number among all partitions of the corpus, from 0.
        size: Approximate size in bytes, for progress.
        start: The first byte for plain JSON lines, the first row group for Parquet, else 0.
        end: The byte or row group after the last; None for the end of the file.
        files: The files to read, relative to `source`, if the input is a tree.
        framing: How the records of a JSON file are told apart.
        fault: Why the input cannot be read, if it is not what its name says.
    """

    corpus: str
    source: str
    number: int
    size: int
    start: int = 0
    end: int | None = None
    files: tuple[tree.TreeFile, ...] = ()
    framing: Framing = Framing.LINES
    fault: str = ""

    @property
    def is_hashed(self) -> bool:
        """Whether it is hashed as it is read: a JSON file, or a part of one behind a URL."""
        is_json = self.corpus != "tree" and not self.source.endswith(TABLES)
        return is_json and (self.end is None or is_url(self.source))

    @property
    def place_format(self) -> str:
        """Format of the position of a record (`documents.Document.record`); '' for a tree."""
        if self.corpus == "tree":
            return ""
        is_plain = not self.source.endswith((*COMPRESSED, *TABLES))
        by_byte = is_plain and self.framing is Framing.LINES
        return "the line at byte {:,}" if by_byte else "record {:,}"

    def describe_record(self, record: int) -> str:
        """Describe the position of a record, given its number (`documents.Document.record`)."""
        return (self.place_format or "record {:,}").format(record)


def plan(corpus: str, inputs: Sequence[File], max_bytes: int = PARTITION_BYTES) -> list[Partition]:
    """Return all partitions of the inputs, in order; they depend on nothing but the inputs.

    An input that is damaged, or not what its name says, is one partition; reading that partition
    raises the error.

    Args:
        corpus: What the inputs are read as.
        inputs: The inputs that `discovery.find` returned.
        max_bytes: The approximate size of a partition of an input that can be divided.

    Raises:
        ForeignInputError: The only input is not what its name says.
        InputsError: There are several inputs, and more than half are not what their names say.
    """
    partitions: list[Partition] = []
    errors: list[ForeignInputError] = []
    for file in inputs:
        try:
            for fields in _divide(corpus, file, max_bytes):
                partitions.append(Partition(corpus, file.path, len(partitions), **fields))
        except ForeignInputError as error:
            errors.append(error)
            partitions.append(
                Partition(corpus, file.path, len(partitions), file.size, fault=str(error))
            )
    if 2 * len(errors) > len(inputs):
        raise errors[0] if len(errors) == 1 else InputsError(errors)
    return partitions


def _divide(corpus: str, file: File, max_bytes: int) -> Iterator[dict[str, Any]]:
    """Yield the fields that differ between the partitions of a file, for each partition."""
    if corpus == "tree":
        for files, size in tree.group_files(file.path, max_bytes):
            yield {"size": size, "files": files}
    elif file.size == 0:
        yield {"size": 0}
    elif file.path.endswith(TABLES):
        sniffing.check_container(file.path)
        if file.path.endswith(".parquet"):
            yield from _row_groups(file, max_bytes)
        else:
            yield {"size": file.size}
    elif (framing := sniffing.json_framing(file.path)) is not Framing.LINES:
        yield {"size": file.size, "framing": framing}
    elif file.path.endswith(COMPRESSED) or file.size <= _most_in_whole(file, max_bytes):
        yield {"size": file.size}
    else:
        for start in range(0, file.size, max_bytes):
            end = min(start + max_bytes, file.size)
            yield {"start": start, "end": end, "size": end - start}


def _most_in_whole(file: File, max_bytes: int) -> int:
    """Return the size of the largest file of plain lines that is one partition."""
    return max(WHOLE_BYTES, max_bytes) if is_url(file.path) else max_bytes


def _row_groups(file: File, max_bytes: int) -> Iterator[dict[str, Any]]:
    import pyarrow
    from pyarrow import parquet

    with open_file(file.path) as stream:
        try:
            metadata = parquet.ParquetFile(stream).metadata
        # Reading the partition raises the error.
        except (pyarrow.ArrowException, OSError, ValueError):
            yield {"size": file.size}
            return
        start = size = 0
        for number in range(metadata.num_row_groups):
            size += metadata.row_group(number).total_byte_size
            if size >= max_bytes or number == metadata.num_row_groups - 1:
                yield {"start": start, "end": number + 1, "size": size}
                start, size = number + 1, 0
