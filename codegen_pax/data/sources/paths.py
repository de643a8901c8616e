"""Names of files that are not Unicode, as text that anything can carry.

A name is bytes. Where they are not UTF-8, Python has half a surrogate pair for each byte that it
cannot decode, which neither JSON, Arrow nor a terminal takes. Here such a byte is `\\xNN`, and so
is one that ends a line or commands a terminal; half a pair that a JSON record spells is `\\uNNNN`;
a backslash before what looks like one of these is `\\x5c`. So every name has one spelling, from
which its bytes come back, and that of ordinary characters is the name itself.
"""

from __future__ import annotations

import re

_SPELT = r"x(5c|[0189a-f][0-9a-f]|7f)|u(d[89a-f][0-9a-f]{2})"
_ODD = re.compile(rf"[\0-\x1f\x7f\ud800-\udfff]|\\(?={_SPELT})")
_SPELLED = re.compile(rf"\\(?:{_SPELT})")
_LAST_ASCII = 0x7F
_FIRST_BYTE, _LAST_BYTE = 0xDC80, 0xDCFF  # Python's "surrogateescape" (PEP 383)


def shown(path: str) -> str:
    """A name as text without half surrogate pairs and control characters."""
    return _ODD.sub(_spelled, path)


def named(text: str) -> str:
    """The name that `shown` gave, as `open` takes it."""
    return _SPELLED.sub(_meant, text)


def _spelled(found: re.Match[str]) -> str:
    code = ord(found[0])
    if code == ord("\\"):
        return r"\x5c"
    if _FIRST_BYTE <= code <= _LAST_BYTE:
        code -= 0xDC00
    elif code > _LAST_ASCII:
        return f"\\u{code:04x}"
    return f"\\x{code:02x}"


def _meant(found: re.Match[str]) -> str:
    if found[2]:
        return chr(int(found[2], 16))
    code = int(found[1], 16)
    return chr(code if code <= _LAST_ASCII else 0xDC00 + code)
