"""One record of a raw file to a document, for each corpus."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from typing import Any

from codegen_pax.data.format.documents import Document, Dropped
from codegen_pax.data.rules import licences
from codegen_pax.data.sources import conversations, encodings, paths
from codegen_pax.data.sources.conversations import NotUnderstoodError
from codegen_pax.data.sources.errors import UnreadableInputError

INTERNAL_ERROR = "internal_error"  # a rule or a reader failed: a defect of ours
MAX_DOCUMENT_BYTES = 16 << 20  # ours

# Our name -> the spellings that exports of GitHub tables have.
COLUMNS = {
    "content": ("content", "text", "code"),
    "path": ("path", "sample_path", "file_path", "max_stars_repo_path", "filename"),
    "repository": ("repository", "repo_name", "repo", "sample_repo_name", "max_stars_repo_name"),
    "licence": ("licence", "license", "licenses", "max_stars_repo_licenses", "spdx"),
    "language": ("language", "lang"),
}
REQUIRED = ("content", "path")
# How the names of types that hold text begin, in Parquet and Avro; all of a column may be null.
_TEXT_TYPES = ("string", "large_string", "binary", "large_binary", "bytes", "null")


def columns(types: Mapping[str, str], source: str) -> dict[str, str]:
    """Our name -> the spelling of it in a table.

    Args:
      types: column of the table -> its type's name, as Parquet or Avro has it.
      source: the table, for errors.

    Raises UnreadableInputError for a table in which one of `REQUIRED` is missing, with its columns
    and the nearest, or can hold no text.
    """
    chosen = _spellings(types)
    for name in REQUIRED:
        if name not in chosen:
            near = difflib.get_close_matches(name, types, n=1, cutoff=0.5)
            hint = f" (nearest: {near[0]})" if near else ""
            raise UnreadableInputError(
                f"{paths.shown(source)} has no column {name}{hint}:"
                f" found {', '.join(types) or 'none'}; wanted one of {', '.join(COLUMNS[name])}"
            )
        if not types[chosen[name]].startswith(_TEXT_TYPES):
            raise UnreadableInputError(
                f"{paths.shown(source)} has a column {chosen[name]} of type"
                f" {types[chosen[name]]}; wanted text"
            )
    return chosen


def _spellings(found: Collection[str]) -> dict[str, str]:
    """Our name -> the spelling of it, of those that are found."""
    return {
        name: next(spelling for spelling in spellings if spelling in found)
        for name, spellings in COLUMNS.items()
        if any(spelling in found for spelling in spellings)
    }


def document(
    corpus: str, record: object, source: str, number: int, size: int
) -> Document | Dropped:
    """A record of one of the corpora to a document, or why it is none.

    Args:
      corpus: 'pile', 'bigquery', 'bigpython' or 'instruction'.
      record: as JSON, Parquet or Avro gave it.
      source: the input it is from.
      number: of the record in it.
      size: its bytes there, told if it is dropped.
    """
    defect = ""
    try:
        is_listed = corpus == "instruction" and isinstance(record, list)  # of messages
        if not is_listed and not isinstance(record, Mapping):
            raise NotUnderstoodError("wrong_type")
        found = _MAKERS[corpus](record, source, number)
        rule = unusable(found)
    except NotUnderstoodError as reason:
        rule = str(reason)
    except Exception as error:  # a defect of ours costs this record alone
        rule, defect = INTERNAL_ERROR, f"{type(error).__name__}: {error}"
    return Dropped(rule, size, source, number, defect=defect) if rule else found


def unusable(found: Document) -> str | None:
    """The rule by which a document of any corpus cannot be used; None if it can."""
    for text in (found.text, *(turn.content for turn in found.turns)):
        if "\0" in text:
            return "nul_bytes"
    try:
        size = found.size
    except UnicodeEncodeError:  # JSON can spell half a surrogate pair
        return "invalid_utf8"
    return "document_too_large" if size > MAX_DOCUMENT_BYTES else None


def _text(record: Mapping[str, Any], name: str, path: str = "") -> str:
    """A field that must be text, of the file of this name, without a byte-order mark."""
    if name not in record:
        raise NotUnderstoodError("missing_field")
    value = record[name]
    if value is None:
        raise NotUnderstoodError("null_content")
    if isinstance(value, bytes):
        try:
            return encodings.decode(value, path)
        except encodings.EncodingError as reason:
            raise NotUnderstoodError(str(reason)) from None
    if not isinstance(value, str):
        raise NotUnderstoodError("wrong_type")
    return value.removeprefix(encodings.MARK)


def _name(record: Mapping[str, Any], name: str) -> str:
    """A field that must be the name of a file."""
    value = record[name]
    if isinstance(value, bytes):
        value = value.decode("utf-8", "surrogateescape")
    return paths.shown(_text({name: value}, name))


def _optional(record: Mapping[str, Any], name: str | None) -> str:
    value = record.get(name)
    if isinstance(value, (list, tuple)):
        return " AND ".join(str(item) for item in value if item)
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    return str(value) if isinstance(value, (str, int)) else ""


def _pile(record: Mapping[str, Any], source: str, number: int) -> Document:
    meta = record.get("meta")
    name = meta.get("pile_set_name") if isinstance(meta, Mapping) else None
    repository = paths.shown(name) if isinstance(name, str) else ""
    return Document(_text(record, "text"), source, number, repository=repository, language="text")


def _code(record: Mapping[str, Any], source: str, number: int) -> Document:
    spelling = _spellings(record)
    if not spelling.keys() >= set(REQUIRED):
        raise NotUnderstoodError("missing_field")
    values = {
        name: paths.shown(_optional(record, spelling.get(name)))
        for name in ("repository", "language")
    }
    path = _optional(record, spelling["path"])
    content = _text(record, spelling["content"], path)
    return Document(
        content,
        source,
        number,
        path=_name(record, spelling["path"]),
        licence=paths.shown(licences.stated(record.get(spelling.get("licence")))),
        **values,
    )


def _instruction(record: Mapping[str, Any] | list, source: str, number: int) -> Document:
    turns, unread = conversations.turns(record)
    named = record if isinstance(record, Mapping) else {}
    licence = next((name for name in COLUMNS["licence"] if name in named), None)
    return Document(
        "",
        source,
        number,
        licence=paths.shown(licences.stated(named.get(licence))),
        language="text",
        turns=tuple(turns),
        unread_fields=tuple(name for name in unread if name != licence),
    )


_MAKERS = {"pile": _pile, "bigquery": _code, "bigpython": _code, "instruction": _instruction}
