"""What a file is by its own bytes, whatever its name says."""

from __future__ import annotations

import csv
import json
import re

from codegen_pax import git_lfs
from codegen_pax.data.sources import arrays
from codegen_pax.data.sources.discovery import COMPRESSED, TABLES
from codegen_pax.data.sources.errors import ForeignInputError
from codegen_pax.data.sources.lines import head

# How the records of JSON lie in a file.
LINES, VALUES, WRAPPED = "lines", "values", "wrapped"
WRAPPERS = ("data", "dataset", "examples", "instances", "items", "records", "rows", "samples")
WRAPPERS += ("test", "train", "validation")

_OF_MESSAGES = ("role", "from")  # what sets a message apart from a record
_UNPACK = "unpack it"
_AGAIN = "fetch it again"
_NAMES = {ending: f"name it {ending}" for ending in (*COMPRESSED, *TABLES)}
# First bytes -> what they are of, and what helps.
_SIGNATURES = (
    (b"\x1f\x8b", "gzip", _NAMES[".gz"]),
    (b"\x28\xb5\x2f\xfd", "Zstandard", _NAMES[".zst"]),
    (b"PK\x03\x04", "a zip archive", _UNPACK),
    (b"\xfd7zXZ\0", "xz", _UNPACK),
    (b"BZh", "bzip2", _UNPACK),
    (b"\x04\x22\x4d\x18", "LZ4", _UNPACK),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", _UNPACK),
    (b"Rar!\x1a\x07", "a RAR archive", _UNPACK),
    (b"\x5d\0\0", "LZMA", _UNPACK),
    (b"PAR1", "Parquet", _NAMES[".parquet"]),
    (b"Obj\x01", "Avro", _NAMES[".avro"]),
    (b"ORC", "ORC", "write it as Parquet"),
    (b"ARROW1", "an Arrow file", "write it as Parquet"),
    (b"\x89HDF", "HDF5", "write it as JSON lines"),
    (b"\x93NUMPY", "a NumPy array", "write it as JSON lines"),
    (b"SQLite format 3\0", "an SQLite database", "write it as JSON lines"),
    (b"%PDF", "PDF", "write its text as JSON lines"),
    *((b"\x80" + bytes([n]), "a Python pickle", "write it as JSON lines") for n in range(2, 6)),
    (b"\xff\xfe\0\0", "UTF-32 text", "write it as UTF-8"),
    (b"\0\0\xfe\xff", "UTF-32 text", "write it as UTF-8"),
    (b"\xff\xfe", "UTF-16 text", "write it as UTF-8"),
    (b"\xfe\xff", "UTF-16 text", "write it as UTF-8"),
)
_TAR = re.compile(rb".{257}ustar", re.S)
_OWN = {".gz": "gzip", ".zst": "Zstandard", ".parquet": "Parquet", ".avro": "Avro"}

GIT_LFS = "`git lfs pull` in its repository fetches the content"

_FEW = 4 << 10  # bytes that are enough to know text by
_DEEPEST = 5  # brackets in one another, in a member before them
_STRING = rb'"(?:[^"\\]|\\.)*+"'
# `{"data": [{`, perhaps after members that are no arrays of objects.
_WRAPPED = re.compile(
    rb"\s*+\{(?:\s*+"
    + _STRING
    + rb"\s*+:\s*+(?!\[\s*+\{)(?:"
    + _STRING
    + rb"|[-+.\w]++|"
    + arrays.bracketed(_DEEPEST)
    + rb")\s*+,)*+"
    + rb'\s*+"(?:'
    + "|".join(WRAPPERS).encode()
    + rb')"\s*+:\s*+\[\s*+\{',
    re.S,
)


def json_layout(path: str) -> str:
    """How the records of a file of JSON lie in it: `LINES`, `VALUES` or `WRAPPED`.

    Raises ForeignInputError if it is something else than its name says.
    """
    check(path)
    start, is_complete = head(path)
    if found := _foreign(start, is_complete):
        looks, helps = found
        if path.endswith(COMPRESSED) and helps in _NAMES.values():
            looks, helps = f"{looks} in {_OWN[path[path.rindex('.') :]]}", "unpack it once"
        raise ForeignInputError(path, looks, helps)
    return _layout(start, is_complete)


def check(path: str) -> None:
    """Raises ForeignInputError if a packed file or a table is something else."""
    ending = next((one for one in (*COMPRESSED, *TABLES) if path.endswith(one)), None)
    if not ending:
        return
    start, is_complete = head(path, unpacked=False)
    looks = _binary(start) or _text(start, is_complete)
    if looks and looks[0] != _OWN[ending]:
        what, helps = looks
        if helps == _RENAME:
            helps = f"name it without {ending}" if ending in COMPRESSED else "write it as a table"
        raise ForeignInputError(path, what, helps)


def looks_like(path: str) -> str:
    """What a file of JSON that cannot be read may be, as words that follow its name; or ''."""
    start, is_complete = head(path)
    found = _foreign(start, is_complete) or _odd(start, is_complete)
    return f"it looks like {found[0]}: {found[1]}" if found else ""


def _odd(start: bytes, is_complete: bool) -> tuple[str, str] | None:
    """What a file is of which no record can be read though it may be JSON, and what helps."""
    try:
        start[: None if is_complete else -4].decode()  # a character may be cut
    except UnicodeDecodeError:
        return "text that is not UTF-8", "write it as UTF-8"
    try:
        record = json.loads(start)
    except (ValueError, RecursionError):
        return None
    if isinstance(record, dict) and record:
        kinds = {type(value) for value in record.values()}
        if kinds <= {dict, list}:
            return "one object that holds all", "write its records as JSON lines"
    return None


_RENAME = ""  # whoever knows the name says what helps


def _binary(start: bytes) -> tuple[str, str] | None:
    for signature, what, helps in _SIGNATURES:
        if start.startswith(signature):
            return what, helps
    if _TAR.match(start):
        return "a tar archive", _UNPACK
    few = start[:_FEW]
    zeros = [few[n::4].count(0) * 4 / max(1, len(few)) > 0.9 for n in range(4)]
    if sum(zeros) == 3:
        return "UTF-32 text", "write it as UTF-8"
    if zeros in ([True, False] * 2, [False, True] * 2):
        return "UTF-16 text", "write it as UTF-8"
    return None


def _text(start: bytes, is_complete: bool) -> tuple[str, str] | None:
    """What a file of text is, and what helps; None if it is no text."""
    few = start[:_FEW].removeprefix(b"\xef\xbb\xbf")
    if b"\0" in few or not few.strip():
        return None
    try:
        text = few.decode().lstrip()
    except UnicodeDecodeError as error:
        if error.start < len(few) - 4:  # not a character that the piece ends in
            return None
        text = few[: error.start].decode().lstrip()
    if any(ord(one) < 32 and one not in "\t\n\r\f\x1b" for one in text):
        return None
    if is_complete and git_lfs.is_pointer(text):
        return "a git-LFS pointer", GIT_LFS
    if re.match(r"<(!doctype html|html|head|body)\b", text, re.I):
        return "an HTML page", _AGAIN
    if text.startswith("<"):
        return "XML or HTML", _AGAIN
    if re.match(r"\[?\s*\{\s*'", text):
        return "Python's own notation, in single quotes", "write it as JSON"
    if text.startswith(("{", "[")):
        return "JSON", _RENAME
    if re.match(r'"\s*[{\[]\s*\\"', text):
        return "JSON inside strings of JSON", "write its records as JSON lines"
    rows = list(csv.reader(text.splitlines()[:-1] or [text]))
    tabs = [line.count("\t") for line in text.splitlines()[:-1]]
    if tabs and min(tabs) > 0 and len(set(tabs)) == 1:
        return "tab-separated values", "write its rows as JSON lines"
    widths = {len(row) for row in rows if row}
    if len(rows) > 1 and widths and len(widths) == 1 and max(widths) > 1:
        return "comma-separated values", "write its rows as JSON lines"
    if text.startswith(("- ", "---")):
        return "YAML", "write it as JSON lines"
    return "plain text", _RENAME


def _foreign(start: bytes, is_complete: bool) -> tuple[str, str] | None:
    """What a file that should be JSON is, and what helps; None if it may be JSON."""
    if found := _binary(start):
        return found
    if any(_is_record(line) for line in _complete_lines(start, is_complete)):
        return None
    found = _text(start, is_complete)
    if found and found[0] == "JSON":
        return None
    return (found[0], found[1] or "write it as JSON lines") if found else None


def _complete_lines(start: bytes, is_complete: bool) -> list[bytes]:
    *lines, rest = start.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    return [line for line in [*lines, *([rest] if is_complete else [])] if line.strip()]


def _is_record(line: bytes) -> bool:
    """Whether a line alone is a record: an object, or an array that is none of records."""
    if not line.startswith((b"{", b"[")):
        return False
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return False
    first = found[0] if isinstance(found, list) and found else None
    return not isinstance(first, dict) or not first.keys().isdisjoint(_OF_MESSAGES)


def _is_joined(content: bytes) -> bool:
    """Whether the first line holds an object, and behind it another."""
    line = content.partition(b"\n")[0].decode("utf-8", "replace")
    if not line.startswith("{"):
        return False
    try:
        _, end = json.JSONDecoder().raw_decode(line)
    except (ValueError, RecursionError):
        return False
    return line[end:].lstrip().startswith("{")


def _has_comma(line: bytes) -> bool:
    """Whether a line is a record and a comma, as in an array without its brackets."""
    before, comma, after = line.rpartition(b",")
    return bool(comma) and not after.strip() and _is_record(before)


def _layout(start: bytes, is_complete: bool) -> str:
    lines = _complete_lines(start, is_complete)
    records = [_is_record(line) for line in lines]
    if len(lines) > 1 and (records[0] or sum(records) * 2 >= len(records)):
        return LINES
    content = start.removeprefix(b"\xef\xbb\xbf").lstrip()
    if content.startswith(b"["):
        return VALUES
    if _WRAPPED.match(content):
        return WRAPPED
    if _is_joined(content) or (lines and _has_comma(lines[0])):
        return VALUES
    if not content.startswith(b"{") or any(records) or not lines:
        return LINES
    # So a record ends its first line that goes on in the next.
    return VALUES if lines[0].rstrip().endswith((b"{", b"[", b",", b":")) else LINES
