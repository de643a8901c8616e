"""Prints the rows of a benchmark as a table, and keeps them as JSON for `make bench`."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

FOLDER = Path("build/benchmarks")


@dataclasses.dataclass(frozen=True)
class Target:
    """A figure and what it must reach.

    Attributes:
        what: What the figure is: "350M float32, 1 row: of transformers' tokens/s".
        value: The figure.
        least: The least that is accepted.
        most: The most that is accepted.
    """

    what: str
    value: float
    least: float | None = None
    most: float | None = None

    @property
    def is_met(self) -> bool:
        """Whether the figure is within both bounds; what is not a number is not."""
        above = self.least is None or self.value >= self.least
        return above and (self.most is None or self.value <= self.most)

    @property
    def wanted(self) -> str:
        """The bounds in words."""
        bounds = {"at least": self.least, "at most": self.most}
        return ", ".join(f"{word} {text(x)}" for word, x in bounds.items() if x is not None)


def report(name: str, rows: Sequence[Mapping[str, Any]], targets: Sequence[Target] = ()) -> int:
    """Prints rows of the same keys, and writes them to build/benchmarks/<name>.json.

    Args:
        name: Of the benchmark, as its script's.
        rows: What was measured.
        targets: What it must reach; those that are missed are printed.

    Returns:
        The exit status of the benchmark: 1 if a target is missed, else 0.
    """
    print_table(rows)
    content = {
        "benchmark": name,
        "machine": machine(),
        "rows": list(rows),
        "targets": [
            {"what": target.what, "value": target.value, "wanted": target.wanted}
            | {"met": target.is_met}
            for target in targets
        ],
    }
    write(name, content)
    missed = [target for target in targets if not target.is_met]
    for target in missed:
        print(f"missed: {target.what}: {text(target.value)}; expected {target.wanted}")
    return int(bool(missed))


def print_table(rows: Sequence[Mapping[str, Any]]) -> None:
    """Prints rows of the same keys, texts at the left and numbers at the right of columns."""
    if not rows:
        return
    texts = [[*rows[0]], *([text(value) for value in row.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    is_text = [isinstance(value, str) for value in rows[0].values()]
    for line in texts:
        cells = zip(line, widths, is_text, strict=True)
        cells = (cell.ljust(width) if left else cell.rjust(width) for cell, width, left in cells)
        print("  ".join(cells).rstrip(), flush=True)


def write(name: str, content: Mapping[str, Any]) -> None:
    """Writes build/benchmarks/<name>.json, whole or not at all."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    temporary = FOLDER / f"{name}.json.unfinished"
    temporary.write_text(json.dumps(content, indent=1) + "\n")
    temporary.rename(FOLDER / f"{name}.json")


def machine() -> dict[str, Any]:
    """Returns what the figures depend on: processor, cores and versions."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        processor = next(line.split(": ")[1] for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        processor = platform.processor()
    versions: dict[str, str | None] = {}
    for package in ("jax", "paxml", "torch", "transformers"):
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = None
    return {"processor": processor, "cores": len(os.sched_getaffinity(0)), **versions}


def text(value: Any) -> str:
    """Returns a value as a table shows it, numbers with about three digits."""
    if isinstance(value, float):
        return f"{value:,.3f}" if abs(value) < 10 else f"{value:,.{1 if abs(value) < 100 else 0}f}"
    return str(value)
