"""Where the members of a zip archive lie in its file: numpy and PyTorch pack arrays in such."""

from __future__ import annotations

import zipfile
from typing import BinaryIO

_HEADER_BYTES = 30  # of a member, before its name
_LENGTHS_AT = 26  # in it: of the name, and of what follows that


def begin(opened: BinaryIO, member: zipfile.ZipInfo) -> int:
    """The offset of a member's first byte, as its own header tells it.

    Args:
        opened: the archive's file.
        member: of the archive's directory.
    """
    opened.seek(member.header_offset + _LENGTHS_AT)
    lengths = opened.read(_HEADER_BYTES - _LENGTHS_AT)
    name, more = int.from_bytes(lengths[:2], "little"), int.from_bytes(lengths[2:], "little")
    return member.header_offset + _HEADER_BYTES + name + more
