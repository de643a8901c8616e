"""Pointers of git-LFS: what a clone has in place of a large file that was not fetched.

Source: the specification of git-lfs, docs/spec.md: UTF-8 text under 1,024 bytes that begins with
the line of its version; "hawser" is its first name.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from codegen_pax.errors import InvalidValueError

_BEGINS = tuple(b"version https://%s.github.com/spec/" % name for name in (b"git-lfs", b"hawser"))


def is_pointer(path: Path) -> bool:
    """Whether a file of this machine is a pointer."""
    with open(path, "rb") as opened:
        return opened.read(max(map(len, _BEGINS))).startswith(_BEGINS)


def check_fetched(paths: Iterable[Path]) -> None:
    """Raises ValueError if one of these files is a pointer; what is not there is passed over."""
    pointers = [path for path in paths if path.is_file() and is_pointer(path)]
    if pointers:
        others = f" and {len(pointers) - 1} more are pointers" if pointers[1:] else " is a pointer"
        raise InvalidValueError(
            f"{pointers[0]}{others} of git-LFS, not the file itself: fetch it with `git lfs pull` "
            f"in {pointers[0].parent}"
        )
