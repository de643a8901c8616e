"""Turns the ids that `paxml.main --mode=decode_once` or training wrote into text to read."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from codegen_pax.errors import MissingFileError


def read_decoded(job: Path) -> list[dict]:
    """Every decoded row of the job's last decode: what `CodeGenModel.process_decode_out` wrote.

    Raises:
      FileNotFoundError: the job was never decoded.
    """
    files = sorted((job / "decoder_out").glob("*/decoder_out_*.jsonl"))
    if not files:
        raise MissingFileError(f"{job} has no decoded prompts; wanted decoder_out/*/*.jsonl")
    last_step = max(_step(path) for path in files)
    return [
        json.loads(line)
        for path in files
        if _step(path) == last_step
        for line in path.read_text().splitlines()
    ]


def _step(path: Path) -> int:
    """`decoder_out_600_shard_0.jsonl` -> 600."""
    return int(path.stem.split("_")[2])


def render(rows: Sequence[dict], to_text: Callable[[Sequence[int]], str]) -> str:
    """Prompts and what followed them, as one text for a person.

    Args:
      rows: of `read_decoded`.
      to_text: from ids to text.
    """
    parts = []
    for number, row in enumerate(rows, 1):
        for sample in row["decoded_ids"]:
            parts.append(
                f"--- prompt {number}\n{to_text(row['prefix_ids'])}\n"
                f"--- completion ({len(sample)} tokens)\n{to_text(sample)}\n"
            )
    return "\n".join(parts)
