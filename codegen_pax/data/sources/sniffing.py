"""What a file is: its format, the framing of its JSON records, and the encoding of source code.

The format is identified by a file's bytes, not by its name.
"""

from __future__ import annotations

import codecs
import csv
import enum
import io
import json
import re
import tokenize
from collections.abc import Callable
from typing import NamedTuple

from codegen_pax import git_lfs
from codegen_pax.data.rules import languages
from codegen_pax.data.sources import json_records
from codegen_pax.data.sources.errors import ForeignInputError
from codegen_pax.data.sources.json_records import read_head

# File extensions.
JSON_LINES = (".jsonl", ".json", ".ndjson")
COMPRESSED = (".gz", ".zst")
TABLES = (".parquet", ".avro")

GIT_LFS_REMEDY = "`git lfs pull` in its repository fetches the content"
_UNPACK = "unpack it"
_FETCH = "fetch it again"
_AS_UTF8 = "write it as UTF-8"
_AS_JSON_LINES = "write it as JSON lines"
_AS_PARQUET = "write it as Parquet"
_RENAMES = {extension: f"name it {extension}" for extension in (*COMPRESSED, *TABLES)}


class Framing(enum.Enum):
    """How the records of a JSON file are told apart."""

    LINES = "lines"  # one record per line
    VALUES = "values"  # an array, or values one after another
    WRAPPED = "wrapped"  # an object around arrays


# The names of the arrays of records in a wrapping object.
WRAPPERS = (
    *("data", "dataset", "examples", "instances", "items", "records", "rows", "samples"),
    *("test", "train", "validation"),
)
_MESSAGE_FIELDS = ("role", "from")  # an object with one of these is a message, not a record


class _Content(NamedTuple):
    """What a file holds, and what the user can do about it.

    Attributes:
        description: The kind of content, such as 'a zip archive'.
        remedy: An instruction to the user; None if it depends on the name of the file.
    """

    description: str
    remedy: str | None


_SIGNATURES = (  # first bytes, description, remedy
    (b"\x1f\x8b", "gzip", _RENAMES[".gz"]),
    (b"\x28\xb5\x2f\xfd", "Zstandard", _RENAMES[".zst"]),
    (b"PK\x03\x04", "a zip archive", _UNPACK),
    (b"\xfd7zXZ\0", "xz", _UNPACK),
    (b"BZh", "bzip2", _UNPACK),
    (b"\x04\x22\x4d\x18", "LZ4", _UNPACK),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", _UNPACK),
    (b"Rar!\x1a\x07", "a RAR archive", _UNPACK),
    (b"\x5d\0\0", "LZMA", _UNPACK),
    (b"PAR1", "Parquet", _RENAMES[".parquet"]),
    (b"Obj\x01", "Avro", _RENAMES[".avro"]),
    (b"ORC", "ORC", _AS_PARQUET),
    (b"ARROW1", "an Arrow file", _AS_PARQUET),
    (b"\x89HDF", "HDF5", _AS_JSON_LINES),
    (b"\x93NUMPY", "a NumPy array", _AS_JSON_LINES),
    (b"SQLite format 3\0", "an SQLite database", _AS_JSON_LINES),
    (b"%PDF", "PDF", "write its text as JSON lines"),
    *((b"\x80" + bytes([n]), "a Python pickle", _AS_JSON_LINES) for n in range(2, 6)),
    (b"\xff\xfe\0\0", "UTF-32 text", _AS_UTF8),
    (b"\0\0\xfe\xff", "UTF-32 text", _AS_UTF8),
    (b"\xff\xfe", "UTF-16 text", _AS_UTF8),
    (b"\xfe\xff", "UTF-16 text", _AS_UTF8),
)
_TAR = re.compile(rb".{257}ustar", re.S)
# Extension -> the format of files with this extension.
_EXPECTED = {".gz": "gzip", ".zst": "Zstandard", ".parquet": "Parquet", ".avro": "Avro"}

_PROBE_BYTES = 4 << 10  # enough to recognise text
_UTF8_MARK = codecs.BOM_UTF8
_MAX_DEPTH = 5  # nested brackets of a member before the wrapped array
_STRING = rb'"(?:[^"\\]|\\.)*+"'
# `{"data": [{`, perhaps after members that are not arrays of objects.
_WRAPPED = re.compile(
    rb"\s*+\{(?:\s*+"
    + _STRING
    + rb"\s*+:\s*+(?!\[\s*+\{)(?:"
    + _STRING
    + rb"|[-+.\w]++|"
    + json_records.bracketed(_MAX_DEPTH)
    + rb")\s*+,)*+"
    + rb'\s*+"(?:'
    + "|".join(WRAPPERS).encode()
    + rb')"\s*+:\s*+\[\s*+\{',
    re.S,
)


def json_framing(path: str) -> Framing:
    """Return how the records of a JSON file are told apart.

    Raises:
        ForeignInputError: The file is not what its name says.
    """
    check_container(path)
    head, is_complete = read_head(path)
    if content := _foreign_content(head, is_complete):
        description, remedy = content
        if path.endswith(COMPRESSED) and remedy in _RENAMES.values():
            description = f"{description} in {_EXPECTED[path[path.rindex('.') :]]}"
            remedy = "unpack it once"
        raise ForeignInputError(path, description, remedy or _AS_JSON_LINES)
    return _framing(head, is_complete)


def check_container(path: str) -> None:
    """Check that a compressed file or a table is what its name says.

    Raises:
        ForeignInputError: The file is not what its name says.
    """
    extension = next((one for one in (*COMPRESSED, *TABLES) if path.endswith(one)), None)
    if not extension:
        return
    head, is_complete = read_head(path, decompress=False)
    content = _binary_content(head) or _text_content(head, is_complete)
    if content and content.description != _EXPECTED[extension]:
        by_name = (
            f"name it without {extension}" if extension in COMPRESSED else "write it as a table"
        )
        raise ForeignInputError(path, content.description, content.remedy or by_name)


def describe_unreadable(path: str) -> str:
    """Return a clause on what a JSON file without readable records may be; '' if unknown."""
    head, is_complete = read_head(path)
    content = _foreign_content(head, is_complete) or _odd_json(head, is_complete)
    return f"it looks like {content.description}: {content.remedy}" if content else ""


def _odd_json(head: bytes, is_complete: bool) -> _Content | None:
    """Return what a file that looks like JSON but has no readable record may be."""
    try:
        head[: None if is_complete else -4].decode()  # its last character may be incomplete
    except UnicodeDecodeError:
        return _Content("text that is not UTF-8", _AS_UTF8)
    try:
        value = json.loads(head)
    except (ValueError, RecursionError):
        return None
    if isinstance(value, dict) and value and {type(one) for one in value.values()} <= {dict, list}:
        return _Content("one object that holds all", "write its records as JSON lines")
    return None


def _binary_content(head: bytes) -> _Content | None:
    """Return what a file is by its first bytes; None if they are not a known signature."""
    for signature, description, remedy in _SIGNATURES:
        if head.startswith(signature):
            return _Content(description, remedy)
    if _TAR.match(head):
        return _Content("a tar archive", _UNPACK)
    probe = head[:_PROBE_BYTES]
    # ASCII in UTF-32 has three zero bytes in four, in UTF-16 every other one.
    zeros = [probe[n::4].count(0) * 4 / max(1, len(probe)) > 0.9 for n in range(4)]
    if sum(zeros) == 3:
        return _Content("UTF-32 text", _AS_UTF8)
    if zeros in ([True, False] * 2, [False, True] * 2):
        return _Content("UTF-16 text", _AS_UTF8)
    return None


def _is_tab_separated(text: str) -> bool:
    tabs = {line.count("\t") for line in text.splitlines()[:-1]}
    return len(tabs) == 1 and tabs != {0}


def _is_comma_separated(text: str) -> bool:
    rows = list(csv.reader(text.splitlines()[:-1] or [text]))
    widths = {len(row) for row in rows if row}
    return len(rows) > 1 and len(widths) == 1 and max(widths) > 1


_TEXT_FORMATS: tuple[tuple[Callable[[str], object], _Content], ...] = (
    (
        re.compile(r"<(!doctype html|html|head|body)\b", re.I).match,
        _Content("an HTML page", _FETCH),
    ),
    (re.compile("<").match, _Content("XML or HTML", _FETCH)),
    (
        re.compile(r"\[?\s*\{\s*'").match,
        _Content("Python's own notation, in single quotes", "write it as JSON"),
    ),
    (re.compile(r"[{\[]").match, _Content("JSON", None)),
    (
        re.compile(r'"\s*[{\[]\s*\\"').match,
        _Content("JSON inside strings of JSON", "write its records as JSON lines"),
    ),
    (_is_tab_separated, _Content("tab-separated values", "write its rows as JSON lines")),
    (_is_comma_separated, _Content("comma-separated values", "write its rows as JSON lines")),
    (re.compile(r"- |---").match, _Content("YAML", _AS_JSON_LINES)),
)


def _text_content(head: bytes, is_complete: bool) -> _Content | None:
    """Return what a text file holds; None if it is not text."""
    text = _probe_text(head)
    if text is None:
        return None
    if is_complete and git_lfs.is_pointer(text):
        return _Content("a git-LFS pointer", GIT_LFS_REMEDY)
    for is_format, content in _TEXT_FORMATS:
        if is_format(text):
            return content
    return _Content("plain text", None)


def _probe_text(head: bytes) -> str | None:
    """Return the beginning of a file as text, without leading blanks; None if it is not text."""
    probe = head[:_PROBE_BYTES].removeprefix(_UTF8_MARK)
    if b"\0" in probe or not probe.strip():
        return None
    try:
        text = probe.decode().lstrip()
    except UnicodeDecodeError as error:
        if error.start < len(probe) - 4:  # not a character that the probe cuts off
            return None
        text = probe[: error.start].decode().lstrip()
    return None if any(ord(one) < 32 and one not in "\t\n\r\f\x1b" for one in text) else text


def _foreign_content(head: bytes, is_complete: bool) -> _Content | None:
    """Return what a file that should be JSON is instead; None if it may be JSON."""
    if content := _binary_content(head):
        return content
    if any(_is_record(line) for line in _complete_lines(head, is_complete)):
        return None
    content = _text_content(head, is_complete)
    if content is None or content.description == "JSON":
        return None
    return content._replace(remedy=content.remedy or _AS_JSON_LINES)


def _complete_lines(head: bytes, is_complete: bool) -> list[bytes]:
    *lines, rest = head.removeprefix(_UTF8_MARK).split(b"\n")
    return [line for line in [*lines, *([rest] if is_complete else [])] if line.strip()]


def _is_record(line: bytes) -> bool:
    """Return whether a line is a record by itself: an object, or an array of messages."""
    if not line.startswith((b"{", b"[")):
        return False
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return False
    first = value[0] if isinstance(value, list) and value else None
    return not isinstance(first, dict) or not first.keys().isdisjoint(_MESSAGE_FIELDS)


def _is_concatenated(content: bytes) -> bool:
    """Return whether the first line holds an object directly followed by another."""
    line = content.partition(b"\n")[0].decode("utf-8", "replace")
    if not line.startswith("{"):
        return False
    try:
        _, end = json.JSONDecoder().raw_decode(line)
    except (ValueError, RecursionError):
        return False
    return line[end:].lstrip().startswith("{")


def _ends_with_comma(line: bytes) -> bool:
    """Return whether a line is a record and a comma, as in an array without its brackets."""
    before, comma, after = line.rpartition(b",")
    return bool(comma) and not after.strip() and _is_record(before)


def _framing(head: bytes, is_complete: bool) -> Framing:
    lines = _complete_lines(head, is_complete)
    are_records = [_is_record(line) for line in lines]
    if len(lines) > 1 and (are_records[0] or sum(are_records) * 2 >= len(are_records)):
        return Framing.LINES
    content = head.removeprefix(_UTF8_MARK).lstrip()
    if content.startswith(b"["):
        return Framing.VALUES
    if _WRAPPED.match(content):
        return Framing.WRAPPED
    if _is_concatenated(content) or (lines and _ends_with_comma(lines[0])):
        return Framing.VALUES
    if not content.startswith(b"{") or any(are_records) or not lines:
        return Framing.LINES
    # The first line ends like this if its record continues on the next line.
    goes_on = lines[0].rstrip().endswith((b"{", b"[", b",", b":"))
    return Framing.VALUES if goes_on else Framing.LINES


BYTE_ORDER_MARK = "\ufeff"  # in text that is decoded already

# If one mark begins with another, the longer one comes first.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
# Codecs for parts of host names, which take time quadratic in the text, and one that always fails.
_NOT_FOR_SOURCE = frozenset({"idna", "punycode", "undefined"})
_COOKIE_LINES = 2  # PEP 263
_SHEBANG = re.compile(rb"#!.*\bpython")
_LINE_END = r"\r\n|\r|\n"


class EncodingError(Exception):
    """A file is not text in the encoding it declares; the message is the rule that drops it."""


def decode_source(raw: bytes, path: str) -> str:
    """Return the text of a source file without its byte-order mark.

    The encoding is UTF-8, or UTF-16 or UTF-32 with a byte-order mark. The first two lines of a
    Python file may declare another (PEP 263), as Python itself reads them.

    Args:
        raw: The bytes of the file.
        path: Its name, which helps to tell whether it is a Python file.

    Raises:
        EncodingError: 'invalid_utf8'; 'invalid_encoding' if the file is not in the encoding it
            declares; 'unknown_encoding' if Python has no such text encoding;
            'contradictory_encoding' if the byte-order mark and the declaration disagree.
    """
    mark, encoding = next(
        ((mark, name) for mark, name in _MARKS if raw.startswith(mark)), (b"", "utf-8")
    )
    if raw == mark and encoding != "utf-8":  # too short for a mark
        raise EncodingError("invalid_utf8")
    if encoding == "utf-8" and _is_python(raw, path):
        encoding = _declared_encoding(raw)
    content = raw[len(mark) :]
    try:
        text = content.decode(encoding)
    except LookupError:  # a codec from bytes to bytes, such as zlib
        raise EncodingError("unknown_encoding") from None
    except ValueError:
        rule = "invalid_utf8" if encoding == "utf-8" else "invalid_encoding"
        raise EncodingError(rule) from None
    if not mark and encoding != "utf-8" and not _has_declaration(text):
        # The declaration was read as ASCII, but this encoding is not a superset of ASCII.
        raise EncodingError("contradictory_encoding")
    return text


def has_wide_mark(raw: bytes) -> bool:
    """Return whether a file has the mark of UTF-16 or UTF-32, and so may hold NUL bytes."""
    return raw.startswith(tuple(mark for mark, name in _MARKS if name != "utf-8"))


def _is_python(raw: bytes, path: str) -> bool:
    """Return whether a file is Python or Cython, by extension or, without one, by first line."""
    if languages.detect(path, "", ("python", "cython")) or path.lower().endswith((".pyi", ".pyw")):
        return True
    return "." not in path.rpartition("/")[2] and bool(_SHEBANG.match(raw))


def _declared_encoding(raw: bytes) -> str:
    # Unlike Python itself, `detect_encoding` does not end a line at a lone carriage return.
    first_lines = re.split(_LINE_END.encode(), raw, maxsplit=_COOKIE_LINES)[:_COOKIE_LINES]
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(b"\n".join(first_lines)).readline)
    except SyntaxError as error:
        message = str(error)
        if message.startswith("unknown encoding"):
            rule = "unknown_encoding"
        elif message.startswith("encoding problem"):
            rule = "contradictory_encoding"
        else:
            rule = "invalid_utf8"
        raise EncodingError(rule) from None
    encoding = encoding.removesuffix("-sig")
    if codecs.lookup(encoding).name in _NOT_FOR_SOURCE:
        raise EncodingError("unknown_encoding")
    return encoding


def _has_declaration(text: str) -> bool:
    """Return whether one of the first lines declares an encoding."""
    lines = re.split(_LINE_END, text, maxsplit=_COOKIE_LINES)[:_COOKIE_LINES]
    return any(tokenize.cookie_re.match(line) for line in lines)
