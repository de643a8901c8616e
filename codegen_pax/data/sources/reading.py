"""The documents of a partition, one after another."""

from __future__ import annotations

import json
from collections.abc import Iterator

from codegen_pax.data.format.documents import Document, Dropped
from codegen_pax.data.sources import json_records, schemas, sniffing, tables, tree
from codegen_pax.data.sources.errors import UnreadableInputError
from codegen_pax.data.sources.partitions import Partition
from codegen_pax.data.sources.sniffing import TABLES, Framing
from codegen_pax.data.sources.storage import Opener, escape_path, open_file

LINE_TOO_LONG = "line_too_long"
# The rules for unreadable records, which may mean that an undamaged file is of another kind.
UNREADABLE_RULES = frozenset(
    {"missing_field", "malformed_json", "wrong_type", "invalid_utf8", LINE_TOO_LONG}
)
_SHOWN_BYTES = 80  # of the first line, in a message


def documents(partition: Partition, opener: Opener = open_file) -> Iterator[Document | Dropped]:
    """Yield every record of a partition, in order, as a document or as the rule that drops it.

    One document, or a batch of a table (`tables`), is in memory at a time.

    Args:
        partition: A partition that `partitions.plan` returned.
        opener: Opens the file if it is JSON.

    Raises:
        DamagedInputError: The input is truncated or cannot be decompressed.
        UnreadableInputError: The input is not what its name says; or a table lacks a required
            column, has one that holds no text, or has a codec that no library here supports.
    """
    if partition.fault:
        return _fail(partition.fault)
    if partition.corpus == "tree":
        return tree.read_documents(partition.source, partition.files)
    if partition.source.endswith(".parquet"):
        return tables.read_parquet(partition)
    if partition.source.endswith(".avro"):
        return tables.read_avro(partition)
    return _read_json(partition, opener)


def _fail(fault: str) -> Iterator[Document | Dropped]:
    """Raise UnreadableInputError when the first document is read, as a damaged input would."""
    yield from ()
    raise UnreadableInputError(fault)


def explain_unreadable(
    corpus: str, source: str, num_readable: int, num_unreadable: int
) -> str | None:
    """Return what is wrong with a JSON input if more than half of its records are unreadable.

    Args:
        corpus: What the input is read as.
        source: The whole input, since a single partition may consist of one damaged line.
        num_readable: The number of its records that can be read, whether kept or dropped.
        num_unreadable: The number of its records that one of `UNREADABLE_RULES` drops.
    """
    if num_unreadable <= num_readable or corpus == "tree" or source.endswith(TABLES):
        return None  # a table has its columns, or raises an error
    expected = {"pile": "text", "instruction": "instruction and output, or messages"}
    total = num_readable + num_unreadable
    problem = f"nothing to read: all {total:,} records lack"
    if num_readable:
        problem = (
            f"little to read: {num_unreadable:,} of {total:,} records are not valid JSON, or lack"
        )
    head, _ = json_records.read_head(source)
    first_line = next((line for line in head.split(b"\n") if line.strip()), b"")
    guess = sniffing.describe_unreadable(source)
    return (
        f"{escape_path(source)} holds {problem} what is expected"
        f" ({expected.get(corpus, ' and '.join(schemas.REQUIRED))});"
        f" {guess + '; ' if guess else ''}it begins with"
        f" {first_line[:_SHOWN_BYTES].decode('utf-8', 'replace')!r}"
    )


def _read_json(partition: Partition, opener: Opener) -> Iterator[Document | Dropped]:
    source = escape_path(partition.source)
    for number, size, text in _json_records(partition, opener):
        if text is None:
            yield Dropped(LINE_TOO_LONG, size, source, number)
        elif text.strip():
            yield _parse_json(partition, source, number, size, text)


def _json_records(partition: Partition, opener: Opener) -> Iterator[tuple[int, int, bytes | None]]:
    """Yield (position, bytes, JSON or None if it is too long) of the records of a partition."""
    if partition.framing is Framing.LINES:
        yield from json_records.lines(partition.source, partition.start, partition.end, opener)
        return
    with opener(partition.source) as file:
        yield from json_records.elements(
            json_records.chunks(file, partition.source),
            partition.source,
            json_records.MAX_LINE_BYTES,
            is_wrapped=partition.framing is Framing.WRAPPED,
        )


def _parse_json(
    partition: Partition, source: str, number: int, size: int, text: bytes
) -> Document | Dropped:
    if b"\0" in text:  # JSON has none; a failing disk leaves files of nothing else
        damage = f"{partition.describe_record(number)} holds NUL bytes"
        return Dropped("nul_bytes", size, source, number, damage)
    try:
        record = json.loads(text)
    except UnicodeDecodeError:
        return Dropped("invalid_utf8", size, source, number)
    except (ValueError, RecursionError):
        return Dropped("malformed_json", size, source, number)
    return schemas.to_document(partition.corpus, record, source, number, size)
