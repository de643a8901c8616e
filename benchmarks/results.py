"""Prints the rows of a benchmark as a table, and keeps them as JSON for `make bench`."""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

FOLDER = Path("build/benchmarks")


def report(name: str, rows: Sequence[dict[str, Any]]) -> None:
    """Prints rows of the same keys, and writes them to build/benchmarks/<name>.json."""
    texts = [[*rows[0]], *([_text(value) for value in row.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    for line in texts:
        print("  ".join(text.rjust(width) for text, width in zip(line, widths, strict=True)))
    FOLDER.mkdir(parents=True, exist_ok=True)
    content = {"benchmark": name, "machine": machine(), "rows": list(rows)}
    temporary = FOLDER / f"{name}.json.unfinished"
    temporary.write_text(json.dumps(content, indent=1) + "\n")
    temporary.rename(FOLDER / f"{name}.json")


def machine() -> dict[str, Any]:
    """Returns what the figures depend on: processor, cores and versions."""
    import importlib.metadata
    import os

    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        processor = next(line.split(": ")[1] for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        processor = platform.processor()
    versions = {}
    for package in ("jax", "paxml", "torch", "transformers"):
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = None
    return {"processor": processor, "cores": len(os.sched_getaffinity(0)), **versions}


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.2f}" if abs(value) < 100 else f"{value:,.0f}"
    return str(value)
