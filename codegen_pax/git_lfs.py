"""Pointers of git-LFS: what a clone has in place of a large file that was not fetched.

Source: the specification of git-lfs, docs/spec.md: UTF-8 text under 1,024 bytes that begins with
the line of its version and ends with its content's hash and size; "hawser" is its first name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from codegen_pax.errors import InvalidValueError

_POINTER = re.compile(
    r"version https://(?:git-lfs\.github\.com|hawser\.github\.com)/spec/v1\r?\n"
    r"(?:[a-z0-9.-]+ [^\r\n]*\r?\n)*oid sha256:[0-9a-f]{64}\r?\nsize \d+\s*"
)
_MOST = 1_024  # a pointer is shorter


def is_pointer(text: str) -> bool:
    """Whether a text is what git-LFS leaves in place of a file that was not fetched."""
    return len(text) < _MOST and _POINTER.fullmatch(text) is not None


def _is_pointer_file(path: Path) -> bool:
    with open(path, "rb") as opened:
        return is_pointer(opened.read(_MOST).decode("utf-8", "replace"))


def check_fetched(paths: Iterable[Path]) -> None:
    """Raises ValueError if one of these files is a pointer; what is not there is passed over."""
    pointers = [path for path in paths if path.is_file() and _is_pointer_file(path)]
    if pointers:
        others = f" and {len(pointers) - 1} more are pointers" if pointers[1:] else " is a pointer"
        raise InvalidValueError(
            f"{pointers[0]}{others} of git-LFS, not the file itself: fetch it with `git lfs pull` "
            f"in {pointers[0].parent}"
        )
