"""The documents of a split, one after another."""

from __future__ import annotations

import json
from collections.abc import Iterator

from codegen_pax.data.format.documents import Document, Dropped
from codegen_pax.data.sources import arrays, paths, schemas, sniffing, tables, tree_documents
from codegen_pax.data.sources.discovery import TABLES
from codegen_pax.data.sources.errors import UnreadableInputError
from codegen_pax.data.sources.lines import MAX_LINE_BYTES, chunks, head, lines
from codegen_pax.data.sources.partitions import Split
from codegen_pax.data.sources.storage import open_file

LINE_TOO_LONG = "line_too_long"
# The rules by which a record may be one of another kind of file, not a damaged one of this kind.
UNREADABLE = frozenset(
    {"missing_field", "malformed_json", "wrong_type", "invalid_utf8", LINE_TOO_LONG}
)
_EXAMPLE = 80  # bytes of a line that is shown


def documents(split: Split) -> Iterator[Document | Dropped]:
    """Every record of a split, in order, as a document or as why it is none.

    The memory it takes is that of one document, or of a batch of a table (`tables`).

    Raises:
      DamagedInputError: the input ends early or cannot be unpacked.
      UnreadableInputError: something else than its name says; a table in which a column that is
        needed is missing or holds no text, or whose codec no library here unpacks.
    """
    if split.fault:
        return _refused(split.fault)
    if split.corpus == "tree":
        return tree_documents.documents(split.source, split.files)
    if split.source.endswith(".parquet"):
        return tables.parquet(split)
    return tables.avro(split) if split.source.endswith(".avro") else _json(split)


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


def _json(split: Split) -> Iterator[Document | Dropped]:
    source = paths.shown(split.source)
    for number, size, text in _json_records(split):
        if text is None:
            yield Dropped(LINE_TOO_LONG, size, source, number)
        elif text.strip():
            yield _json_record(split, source, number, size, text)


def _json_records(split: Split) -> Iterator[tuple[int, int, bytes | None]]:
    """(position, bytes, JSON of it or None if it is too long) of the records of a split."""
    if split.layout == sniffing.LINES:
        yield from lines(split.source, split.start, split.end)
        return
    with open_file(split.source) as file:
        is_wrapped = split.layout == sniffing.WRAPPED
        content = chunks(file, split.source)
        yield from arrays.elements(content, split.source, MAX_LINE_BYTES, is_wrapped)


def _json_record(
    split: Split, source: str, number: int, size: int, text: bytes
) -> Document | Dropped:
    if b"\0" in text:  # JSON has no place for it; a disk that failed leaves files of nothing else
        damage = f"{split.place(number)} holds bytes of zero"
        return Dropped("nul_bytes", size, source, number, damage)
    try:
        record = json.loads(text)
    except UnicodeDecodeError:
        return Dropped("invalid_utf8", size, source, number)
    except (ValueError, RecursionError):
        return Dropped("malformed_json", size, source, number)
    return schemas.document(split.corpus, record, source, number, size)
