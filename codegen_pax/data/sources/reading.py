"""The documents of a partition, one after another."""

from __future__ import annotations

import json
from collections.abc import Iterator

from codegen_pax.data.format.documents import Document, Dropped
from codegen_pax.data.sources import arrays, paths, schemas, sniffing, tables, tree_documents
from codegen_pax.data.sources.discovery import TABLES
from codegen_pax.data.sources.errors import UnreadableInputError
from codegen_pax.data.sources.lines import MAX_LINE_BYTES, chunks, head, lines
from codegen_pax.data.sources.partitions import Partition
from codegen_pax.data.sources.storage import open_file

LINE_TOO_LONG = "line_too_long"
# The rules by which a record may be one of another kind of file, not a damaged one of this kind.
UNREADABLE = frozenset(
    {"missing_field", "malformed_json", "wrong_type", "invalid_utf8", LINE_TOO_LONG}
)
_EXAMPLE = 80  # bytes of a line that is shown


def documents(partition: Partition) -> Iterator[Document | Dropped]:
    """Every record of a partition, in order, as a document or as why it is none.

    The memory it takes is that of one document, or of a batch of a table (`tables`).

    Raises:
      DamagedInputError: the input ends early or cannot be unpacked.
      UnreadableInputError: something else than its name says; a table in which a column that is
        needed is missing or holds no text, or whose codec no library here unpacks.
    """
    if partition.fault:
        return _refused(partition.fault)
    if partition.corpus == "tree":
        return tree_documents.documents(partition.source, partition.files)
    if partition.source.endswith(".parquet"):
        return tables.parquet(partition)
    return tables.avro(partition) if partition.source.endswith(".avro") else _json(partition)


def _refused(fault: str) -> Iterator[Document | Dropped]:
    """Raises UnreadableInputError when its first document is asked for, as damage does."""
    yield from ()
    raise UnreadableInputError(fault)


def complaint(corpus: str, source: str, readable: int, unreadable: int) -> str | None:
    """What is wrong with an input of JSON of which most records are unreadable: more than half.

    Args:
      corpus: what the input is read as.
      source: the input, as a whole: a piece of it may well hold nothing but one damaged line.
      readable: its records, documents or not.
      unreadable: those that are dropped by one of `UNREADABLE`.
    """
    if unreadable <= readable or corpus == "tree" or source.endswith(TABLES):
        return None  # a table has columns, or an error
    wanted = {"pile": "text", "instruction": "instruction and output, or messages"}
    total = readable + unreadable
    found = f"nothing to read: all {total:,} records lack"
    if readable:
        found = f"little to read: {unreadable:,} of {total:,} records do not parse, or lack"
    start, _ = head(source)
    first = next((line for line in start.split(b"\n") if line.strip()), b"")
    looks = sniffing.looks_like(source)
    return (
        f"{paths.shown(source)} holds {found} what was wanted"
        f" ({wanted.get(corpus, ' and '.join(schemas.REQUIRED))});"
        f" {looks + '; ' if looks else ''}it begins with"
        f" {first[:_EXAMPLE].decode('utf-8', 'replace')!r}"
    )


def _json(partition: Partition) -> Iterator[Document | Dropped]:
    source = paths.shown(partition.source)
    for number, size, text in _json_records(partition):
        if text is None:
            yield Dropped(LINE_TOO_LONG, size, source, number)
        elif text.strip():
            yield _json_record(partition, source, number, size, text)


def _json_records(partition: Partition) -> Iterator[tuple[int, int, bytes | None]]:
    """(position, bytes, JSON of it or None if it is too long) of the records of a partition."""
    if partition.layout == sniffing.LINES:
        yield from lines(partition.source, partition.start, partition.end)
        return
    with open_file(partition.source) as file:
        is_wrapped = partition.layout == sniffing.WRAPPED
        content = chunks(file, partition.source)
        yield from arrays.elements(content, partition.source, MAX_LINE_BYTES, is_wrapped)


def _json_record(
    partition: Partition, source: str, number: int, size: int, text: bytes
) -> Document | Dropped:
    if b"\0" in text:  # JSON has no place for it; a disk that failed leaves files of nothing else
        damage = f"{partition.place(number)} holds bytes of zero"
        return Dropped("nul_bytes", size, source, number, damage)
    try:
        record = json.loads(text)
    except UnicodeDecodeError:
        return Dropped("invalid_utf8", size, source, number)
    except (ValueError, RecursionError):
        return Dropped("malformed_json", size, source, number)
    return schemas.document(partition.corpus, record, source, number, size)
