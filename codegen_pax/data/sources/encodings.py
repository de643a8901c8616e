"""The text of a file of source code, by the encoding that it says it is in."""

from __future__ import annotations

import codecs
import io
import re
import tokenize

from codegen_pax.data.rules import languages

MARK = "\ufeff"  # the byte-order mark of text that is decoded already

# Of those that begin alike the longer one first.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
# Text by name alone: what they decode is parts of host names, in time that grows with its square.
_NO_SOURCE = frozenset({"idna", "punycode", "undefined"})
_COOKIE_LINES = 2  # PEP 263
_SHEBANG = re.compile(rb"#!.*\bpython")
_LINE_END = r"\r\n|\r|\n"


class EncodingError(Exception):
    """A file is no text in the encoding it says it is in; the message is the rule that says so."""


def decode(raw: bytes, path: str) -> str:
    """The text of a file without its byte-order mark.

    UTF-8, or UTF-16 or UTF-32 with a mark; of a Python source also what its first two lines say
    (PEP 263), as Python itself reads them.

    Args:
      raw: its bytes.
      path: its name, which says whether it is a Python source.

    Raises EncodingError: 'invalid_utf8'; 'invalid_encoding' if it is not in the encoding that it
      says; 'unknown_encoding' if Python has no such encoding of text; 'contradictory_encoding' if
      its mark and its lines do not agree.
    """
    mark, encoding = next(
        ((mark, name) for mark, name in _MARKS if raw.startswith(mark)), (b"", "utf-8")
    )
    if raw == mark and encoding != "utf-8":  # too little to be a mark
        raise EncodingError("invalid_utf8")
    if encoding == "utf-8" and is_python(raw, path):
        encoding = _of_python(raw)
    content = raw[len(mark) :]
    try:
        text = content.decode(encoding)
    except LookupError:  # of bytes to bytes, as zlib is
        raise EncodingError("unknown_encoding") from None
    except ValueError:
        rule = "invalid_utf8" if encoding == "utf-8" else "invalid_encoding"
        raise EncodingError(rule) from None
    if not mark and encoding != "utf-8" and not _declares(text):
        # Not a superset of ASCII, in which alone the line could have been read.
        raise EncodingError("contradictory_encoding")
    return text


def has_wide_mark(raw: bytes) -> bool:
    """Whether a file begins with the mark of UTF-16 or UTF-32: its NUL bytes are no binary's."""
    return raw.startswith(tuple(mark for mark, name in _MARKS if name != "utf-8"))


def is_python(raw: bytes, path: str) -> bool:
    """Whether Python or Cython would read a file: by its name, or, without an ending, its start."""
    if languages.by_path(path, "", ("python", "cython")) or path.lower().endswith((".pyi", ".pyw")):
        return True
    return "." not in path.rpartition("/")[2] and bool(_SHEBANG.match(raw))


def _of_python(raw: bytes) -> str:
    # `detect_encoding` knows no line that ends with a carriage return alone, as Python does.
    first = re.split(_LINE_END.encode(), raw, maxsplit=_COOKIE_LINES)[:_COOKIE_LINES]
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(b"\n".join(first)).readline)
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
    if codecs.lookup(encoding).name in _NO_SOURCE:
        raise EncodingError("unknown_encoding")
    return encoding


def _declares(text: str) -> bool:
    """Whether one of the first lines names an encoding."""
    lines = re.split(_LINE_END, text, maxsplit=_COOKIE_LINES)[:_COOKIE_LINES]
    return any(tokenize.cookie_re.match(line) for line in lines)
