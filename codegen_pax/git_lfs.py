"""Git LFS pointers: small files that stand for large files which have not been fetched.

Source: the specification of git-lfs, docs/spec.md: UTF-8 text under 1,024 bytes that begins with
a version line and ends with the hash and size of the content; "hawser" is the former name.
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
_MAX_BYTES = 1_024


def is_pointer(text: str) -> bool:
    """Whether a text is a Git LFS pointer."""
    return len(text) < _MAX_BYTES and _POINTER.fullmatch(text) is not None


def _is_pointer_file(path: Path) -> bool:
    with open(path, "rb") as file:
        return is_pointer(file.read(_MAX_BYTES).decode("utf-8", "replace"))


def check_fetched(paths: Iterable[Path]) -> None:
    """Raises InvalidValueError if one of the files is a pointer; missing files are ignored."""
    pointers = [path for path in paths if path.is_file() and _is_pointer_file(path)]
    if pointers:
        others = f" and {len(pointers) - 1} more are pointers" if pointers[1:] else " is a pointer"
        raise InvalidValueError(
            f"{pointers[0]}{others} of git-LFS, not the file itself: fetch it with `git lfs pull` "
            f"in {pointers[0].parent}"
        )
