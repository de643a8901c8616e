"""One record of a raw file to a document, for each corpus."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from typing import Any

from codegen_pax.corpus import licences
from codegen_pax.corpus.documents import Document, Dropped, Turn
from codegen_pax.corpus.raw.inputs import UnreadableInputError
from codegen_pax.text import prompts

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

_MESSAGES = ("messages", "conversations", "turns")
_ROLES = {"human": "user", "gpt": "assistant", "prompter": "user", "model": "assistant"}
_OUTPUTS = ("output", "response", "completion", "answer")


class _NoDocumentError(Exception):
    """A record is no document; the message is the rule that says so."""


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
                f"{source} has no column {name}{hint}: found {', '.join(types) or 'none'};"
                f" wanted one of {', '.join(COLUMNS[name])}"
            )
        if not types[chosen[name]].startswith(_TEXT_TYPES):
            raise UnreadableInputError(
                f"{source} has a column {chosen[name]} of type {types[chosen[name]]}; wanted text"
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
    try:
        if not isinstance(record, Mapping):
            raise _NoDocumentError("wrong_type")
        found = _MAKERS[corpus](record, source, number)
        rule = unusable(found)
    except _NoDocumentError as reason:
        rule = str(reason)
    return Dropped(rule, size, source, number) if rule else found


def unusable(found: Document) -> str | None:
    """The rule by which a document of any corpus cannot be used; None if it can."""
    for text in (found.text, *(turn.content for turn in found.turns)):
        if "\0" in text:
            return "nul_bytes"
    try:
        size = found.size
        f"{found.path}{found.repository}{found.licence}".encode()
    except UnicodeEncodeError:  # JSON can spell half a surrogate pair
        return "invalid_utf8"
    return "document_too_large" if size > MAX_DOCUMENT_BYTES else None


def _text(record: Mapping[str, Any], name: str) -> str:
    if name not in record:
        raise _NoDocumentError("missing_field")
    value = record[name]
    if value is None:
        raise _NoDocumentError("null_content")
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            raise _NoDocumentError("invalid_utf8") from None
    if not isinstance(value, str):
        raise _NoDocumentError("wrong_type")
    return value


def _optional(record: Mapping[str, Any], name: str | None) -> str:
    value = record.get(name)
    if isinstance(value, (list, tuple)):
        return " AND ".join(str(item) for item in value if item)
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return str(value) if isinstance(value, (str, int)) else ""


def _pile(record: Mapping[str, Any], source: str, number: int) -> Document:
    meta = record.get("meta")
    name = meta.get("pile_set_name") if isinstance(meta, Mapping) else None
    repository = name if isinstance(name, str) else ""
    return Document(_text(record, "text"), source, number, repository=repository, language="text")


def _code(record: Mapping[str, Any], source: str, number: int) -> Document:
    spelling = _spellings(record)
    if not spelling.keys() >= set(REQUIRED):
        raise _NoDocumentError("missing_field")
    values = {name: _optional(record, spelling.get(name)) for name in ("repository", "language")}
    return Document(
        _text(record, spelling["content"]),
        source,
        number,
        path=_text(record, spelling["path"]),
        licence=licences.stated(record.get(spelling.get("licence"))),
        **values,
    )


def _instruction(record: Mapping[str, Any], source: str, number: int) -> Document:
    messages = next((record[name] for name in _MESSAGES if name in record), None)
    turns = _messages(messages) if messages is not None else _pair(record)
    try:
        prompts.conversation([(turn.role, turn.content) for turn in turns])
    except ValueError:
        raise _NoDocumentError("no_turns") from None
    return Document(
        "",
        source,
        number,
        licence=licences.stated(next((record[n] for n in COLUMNS["licence"] if n in record), None)),
        language="text",
        turns=tuple(turns),
    )


def _messages(messages: object) -> list[Turn]:
    if not isinstance(messages, list):
        raise _NoDocumentError("wrong_type")
    turns = []
    for message in messages:
        if not isinstance(message, Mapping):
            raise _NoDocumentError("wrong_type")
        role = _text(message, "role" if "role" in message else "from")
        content = _text(message, "content" if "content" in message else "value")
        turns.append(Turn(_ROLES.get(role, role), content))
    return turns


def _pair(record: Mapping[str, Any]) -> list[Turn]:
    answer = next((name for name in _OUTPUTS if name in record), "output")
    given = _text(record, "input") if record.get("input") is not None else ""
    asked = prompts.user_content(_text(record, "instruction"), given)
    return [Turn("user", asked), Turn("assistant", _text(record, answer))]


_MAKERS = {"pile": _pile, "bigquery": _code, "bigpython": _code, "instruction": _instruction}
