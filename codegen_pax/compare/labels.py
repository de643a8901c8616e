"""Short names for long paths."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

# A step starts at a dot that is outside brackets; `[0]` stays with the name before it.
_STEPS = re.compile(r"(?:[^.\[]|\[[^\]]*\])+")


def labels(paths: Iterable[str]) -> dict[str, str]:
    """Path -> the shortest end of it, of two steps or more, that is the end of no other path.

    A path that is itself the end of another one keeps all its steps.
    """
    steps = {path: _STEPS.findall(path) for path in paths}
    ends = Counter(
        end for found in steps.values() for end in {_end(found, n) for n in _lengths(found)}
    )
    return {
        path: next((end for n in _lengths(found) if ends[end := _end(found, n)] == 1), path)
        for path, found in steps.items()
    }


def _lengths(steps: list[str]) -> range:
    return range(min(2, len(steps)), len(steps) + 1)


def _end(steps: list[str], length: int) -> str:
    return ".".join(steps[-length:])
