"""Turns one record of a raw file into a document, for each corpus."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from typing import Any

from codegen_pax.data.format.documents import Document, Dropped
from codegen_pax.data.rules import licences
from codegen_pax.data.sources import conversations, sniffing
from codegen_pax.data.sources.conversations import RecordError
from codegen_pax.data.sources.errors import UnreadableInputError
from codegen_pax.data.sources.storage import escape_path

INTERNAL_ERROR = "internal_error"  # the rule for a defect of ours, in a rule or a reader
MAX_DOCUMENT_BYTES = 16 << 20  # ours

# Our name -> the names that exports of GitHub tables use.
COLUMNS = {
    "content": ("content", "text", "code"),
    "path": ("path", "sample_path", "file_path", "max_stars_repo_path", "filename"),
    "repository": ("repository", "repo_name", "repo", "sample_repo_name", "max_stars_repo_name"),
    "licence": ("licence", "license", "licenses", "max_stars_repo_licenses", "spdx"),
    "language": ("language", "lang"),
}
REQUIRED = ("content", "path")
# Prefixes of the names of types that hold text, in Parquet and Avro; a column may be all null.
_TEXT_TYPES = ("string", "large_string", "binary", "large_binary", "bytes", "null")


def match_columns(types: Mapping[str, str], source: str) -> dict[str, str]:
    """Return the column of a table for each of our names that it has.

    Args:
        types: Column of the table -> the name of its type in Parquet or Avro.
        source: The table, for errors.

    Raises:
        UnreadableInputError: A required column is missing or cannot hold text; the message lists
            the table's columns and the nearest one.
    """
    columns = _match_names(types)
    for name in REQUIRED:
        if name not in columns:
            nearest = difflib.get_close_matches(name, types, n=1, cutoff=0.5)
            hint = f" (nearest: {nearest[0]})" if nearest else ""
            raise UnreadableInputError(
                f"{escape_path(source)} has no column {name}{hint}:"
                f" found {', '.join(types) or 'none'}; expected one of {', '.join(COLUMNS[name])}"
            )
        if not types[columns[name]].startswith(_TEXT_TYPES):
            raise UnreadableInputError(
                f"{escape_path(source)} has a column {columns[name]} of type"
                f" {types[columns[name]]}; expected text"
            )
    return columns


def _match_names(available: Collection[str]) -> dict[str, str]:
    """Return our name -> the first of its other names that is available."""
    return {
        name: next(alias for alias in aliases if alias in available)
        for name, aliases in COLUMNS.items()
        if any(alias in available for alias in aliases)
    }


def to_document(
    corpus: str, record: Any, source: str, number: int, size: int
) -> Document | Dropped:
    """Return a record as a document, or as the rule that drops it.

    Args:
        corpus: 'pile', 'bigquery', 'bigpython' or 'instruction'.
        record: The record as read from JSON, Parquet or Avro.
        source: The input it comes from.
        number: The number of the record in the input.
        size: Bytes of the record in the input, reported if it is dropped.
    """
    try:
        is_messages = corpus == "instruction" and isinstance(record, list)
        if not is_messages and not isinstance(record, Mapping):
            raise RecordError("wrong_type")
        document = _CONVERTERS[corpus](record, source, number)
        rule = rejection(document)
    except RecordError as error:
        return Dropped(str(error), size, source, number)
    except Exception as error:  # a defect of ours drops only this record
        defect = f"{type(error).__name__}: {error}"
        return Dropped(INTERNAL_ERROR, size, source, number, defect=defect)
    return Dropped(rule, size, source, number) if rule else document


def rejection(document: Document) -> str | None:
    """Return the rule by which a document of any corpus is unusable; None if it can be used."""
    for text in (document.text, *(turn.content for turn in document.turns)):
        if "\0" in text:
            return "nul_bytes"
    try:
        size = document.size
    except UnicodeEncodeError:  # JSON can spell a lone surrogate
        return "invalid_utf8"
    return "document_too_large" if size > MAX_DOCUMENT_BYTES else None


def _text(record: Mapping[str, Any], name: str, path: str = "") -> str:
    """Return the content of a file at `path`, which must be text, without its byte-order mark."""
    if name not in record:
        raise RecordError("missing_field")
    value = record[name]
    if value is None:
        raise RecordError("null_content")
    if isinstance(value, bytes):
        try:
            return sniffing.decode_source(value, path)
        except sniffing.EncodingError as error:
            raise RecordError(str(error)) from None
    if not isinstance(value, str):
        raise RecordError("wrong_type")
    return value.removeprefix(sniffing.BYTE_ORDER_MARK)


def _path(record: Mapping[str, Any], name: str) -> str:
    """Return a field that must be the name of a file."""
    value = record[name]
    if isinstance(value, bytes):
        value = value.decode("utf-8", "surrogateescape")
    return escape_path(_text({name: value}, name))


def _optional(record: Mapping[str, Any], name: str | None) -> str:
    value = None if name is None else record.get(name)
    if isinstance(value, (list, tuple)):
        return " AND ".join(str(item) for item in value if item)
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    return str(value) if isinstance(value, (str, int)) else ""


def _licence(record: Mapping[str, Any], name: str | None) -> str:
    return "" if name is None else escape_path(licences.to_expression(record.get(name)))


def _pile(record: Mapping[str, Any], source: str, number: int) -> Document:
    meta = record.get("meta")
    name = meta.get("pile_set_name") if isinstance(meta, Mapping) else None
    repository = escape_path(name) if isinstance(name, str) else ""
    return Document(_text(record, "text"), source, number, repository=repository, language="text")


def _code(record: Mapping[str, Any], source: str, number: int) -> Document:
    columns = _match_names(record)
    if not columns.keys() >= set(REQUIRED):
        raise RecordError("missing_field")
    path = _optional(record, columns["path"])
    return Document(
        _text(record, columns["content"], path),
        source,
        number,
        path=_path(record, columns["path"]),
        repository=escape_path(_optional(record, columns.get("repository"))),
        licence=_licence(record, columns.get("licence")),
        language=escape_path(_optional(record, columns.get("language"))),
    )


def _instruction(record: Mapping[str, Any] | list, source: str, number: int) -> Document:
    turns, unread = conversations.parse(record)
    fields = record if isinstance(record, Mapping) else {}
    licence = next((name for name in COLUMNS["licence"] if name in fields), None)
    return Document(
        "",
        source,
        number,
        licence=_licence(fields, licence),
        language="text",
        turns=tuple(turns),
        unread_fields=tuple(name for name in unread if name != licence),
    )


_CONVERTERS = {
    "pile": _pile,
    "bigquery": _code,
    "bigpython": _code,
    "instruction": _instruction,
}
