"""The documents of a split, one after another."""

from __future__ import annotations

import json
from collections.abc import Iterator

from codegen_pax.corpus.documents import Document, Dropped
from codegen_pax.corpus.raw import records, tables, tree_documents
from codegen_pax.corpus.raw.inputs import TABLES
from codegen_pax.corpus.raw.lines import lines
from codegen_pax.corpus.raw.splits import Split
from codegen_pax.errors import InvalidValueError

# The rules by which a record may be one of another kind of file, not a damaged one of this kind.
UNREADABLE = frozenset({"missing_field", "malformed_json", "wrong_type"})
_EXAMPLE = 80  # bytes of a line that is shown


def documents(split: Split) -> Iterator[Document | Dropped]:
    """Every record of a split, in order, as a document or as why it is none.

    The memory it takes is that of one document, or of a batch of a table (`tables`).

    Raises:
      DamagedInputError: the input ends early or is not what its name says.
      UnreadableInputError: a table in which a column that is needed is missing or holds no text, or
        whose codec no library here unpacks.
    """
    if split.corpus == "tree":
        return tree_documents.documents(split.source, split.files)
    if split.source.endswith(".parquet"):
        return tables.parquet(split)
    return tables.avro(split) if split.source.endswith(".avro") else _json_lines(split)


def _json_lines(split: Split) -> Iterator[Document | Dropped]:
    for number, size, line in lines(split.source, split.start, split.end):
        if line is None:
            yield Dropped("line_too_long", size, split.source, number)
            continue
        if line.strip():
            yield _json_line(split, number, size, line)


def check(corpus: str, source: str, readable: int, unreadable: int) -> None:
    """Raises ValueError for JSON lines of which not one has the fields that are needed.

    Args:
      corpus: what the input is read as.
      source: the input, as a whole: a piece of it may well hold nothing but one damaged line.
      readable: its records, documents or not.
      unreadable: those that are dropped by one of `UNREADABLE`.
    """
    if readable or not unreadable or source.endswith(TABLES):  # a table has columns, or an error
        return
    first = next((line for _, _, line in lines(source) if line and line.strip()), b"")
    wanted = {"pile": "text", "instruction": "instruction and output, or messages"}
    raise InvalidValueError(
        f"{source} holds nothing to read: all {unreadable:,} lines lack what was wanted"
        f" ({wanted.get(corpus, ' and '.join(records.REQUIRED))}); the first is"
        f" {first[:_EXAMPLE].decode('utf-8', 'replace')!r}"
    )


def _json_line(split: Split, number: int, size: int, line: bytes) -> Document | Dropped:
    if b"\0" in line:  # JSON has no place for it; a disk that failed leaves files of nothing else
        return Dropped("nul_bytes", size, split.source, number)
    try:
        record = json.loads(line)
    except UnicodeDecodeError:
        return Dropped("invalid_utf8", size, split.source, number)
    except (ValueError, RecursionError):
        return Dropped("malformed_json", size, split.source, number)
    return records.document(split.corpus, record, split.source, number, size)
