"""The drawings of the architecture page: described as data here, drawn as SVG.

A drawing is one or more columns of steps, each with the module that does it. A test checks that
every module that is named exists.
"""

from __future__ import annotations

import html
from collections.abc import Iterator
from dataclasses import dataclass

WIDTH, GAP, MARGIN = 430, 34, 14  # of a box, between boxes, around the drawing
LINE, PADDING = 17, 11  # of text, inside a box
FONT = "font-family='system-ui, sans-serif'"


@dataclass(frozen=True)
class Step:
    """One box.

    Attributes:
        title: The name of a thing or of an action.
        lines: Details, below the title.
        module: The path of its code in the repository; '' if it is not code of this project.
        arrow: The label of the arrow to the next step.
    """

    title: str
    lines: tuple[str, ...] = ()
    module: str = ""
    arrow: str = ""


@dataclass(frozen=True)
class Column:
    """Steps from top to bottom, or from bottom to top."""

    steps: tuple[Step, ...]
    upwards: bool = False


DRAWINGS: dict[str, tuple[Column, ...]] = {
    "row": (
        Column(
            (
                Step(
                    "raw files",
                    ("JSON, Parquet, Avro, source trees; local or in object storage",),
                    "codegen_pax/data/sources",
                    "documents",
                ),
                Step(
                    "rules, in order",
                    (
                        "language, filters, licence, exact and near duplicates,",
                        "redaction, benchmarks: each drop is counted by its rule",
                    ),
                    "codegen_pax/data/rules",
                    "documents that are kept",
                ),
                Step(
                    "preparation",
                    (
                        "tokenise, shuffle by the seed, join, cut into rows of T tokens;",
                        "in processes of one machine, or by Apache Beam",
                    ),
                    "codegen_pax/data/prepare",
                    "rows of T tokens",
                ),
                Step(
                    "prepared corpus",
                    ("TFRecord shards; manifest.json says what is in them and why",),
                    "codegen_pax/data/format",
                    "rows, by number",
                ),
            )
        ),
        Column(
            (
                Step(
                    "task and mixture",
                    ("seqio names: codegen_pile, codegen_bigquery, …",),
                    "tasks",
                    "shares",
                ),
                Step(
                    "stream",
                    (
                        "the row at (step, place) is a function of the seed alone:",
                        "any host finds it, and a resumed run goes on exactly there",
                    ),
                    "codegen_pax/data/stream",
                    "batch: ids, labels, weights [B, T]",
                ),
                Step(
                    "network",
                    ("embedding, blocks of attention and feed-forward, projection",),
                    "codegen_pax/model",
                    "logits [B, T, V]",
                ),
                Step(
                    "loss and update",
                    ("cross entropy and z-loss; clip, Adam, decay, schedule",),
                    "codegen_pax/training",
                ),
            )
        ),
    ),
    "weights": (
        Column(
            (
                Step(
                    "Hugging Face folder",
                    ("safetensors or .bin shards, configuration, tokenizer",),
                    "",
                    "codegen-pax import hf",
                ),
                Step(
                    "tensors by their names there",
                    ("fused query, value, key in column groups (mp_num)",),
                    "codegen_pax/weights",
                    "slices of at most 32 MiB",
                ),
                Step(
                    "arrays by their names in Pax",
                    ("q, k, v apart, [layers, D, N, H]; the embedding's bias",),
                    "codegen_pax/weights",
                    "one zarr an array",
                ),
                Step(
                    "job at step 0",
                    ("a checkpoint that Pax decodes, trains on or starts from;", "lineage.json"),
                    "codegen_pax/runs",
                ),
            )
        ),
        Column(
            (
                Step(
                    "Hugging Face folder",
                    (
                        "CodeGenForCausalLM or GPTJForCausalLM, a model card;",
                        "in the former, byte for byte what was imported",
                    ),
                    "",
                    "codegen-pax export hf",
                ),
                Step(
                    "tensors by their names there",
                    ("the embedding's bias is added to its table",),
                    "codegen_pax/weights",
                    "slices of at most 32 MiB",
                ),
                Step(
                    "arrays by their names in Pax",
                    ("parts of the devices are read piece by piece",),
                    "codegen_pax/weights",
                    "checked against its receipt",
                ),
                Step(
                    "checkpoint of a run",
                    ("weights of the last step, or of --step; lineage.json",),
                    "codegen_pax/runs",
                ),
            ),
            upwards=True,
        ),
    ),
    "declaration": (
        Column(
            (
                Step(
                    "tables",
                    ("sizes, phases, recipes, meshes: one row each",),
                    "experiments/sizes.py",
                    "a row of each",
                ),
                Step(
                    "declaration",
                    ("what a person declares; steps, batch and rates follow",),
                    "experiments/declaration.py",
                    "the declared numbers",
                ),
                Step(
                    "settings",
                    ("the CODEGEN_* variables, read once: recipe, mesh, data, start",),
                    "experiments/settings.py",
                    "the numbers of this run",
                ),
            )
        ),
        Column(
            (
                Step(
                    "experiment",
                    ("a class that stock paxml finds, as codegen.CodeGen16BMono",),
                    "experiments/registry.py",
                    "an instance",
                ),
                Step(
                    "Fiddle configuration",
                    ("task(), datasets(): functions of declaration and settings",),
                    "experiments/experiment.py",
                    "what compare and the golden files read",
                ),
                Step(
                    "paxml.main",
                    ("builds and shards it; trains, evaluates, decodes",),
                ),
            )
        ),
    ),
}


def svgs() -> dict[str, str]:
    """Returns the drawings: name -> SVG."""
    return {name: draw(columns) for name, columns in DRAWINGS.items()}


def modules() -> set[str]:
    """Returns every path that a drawing names."""
    steps = (step for columns in DRAWINGS.values() for column in columns for step in column.steps)
    return {step.module for step in steps if step.module}


def draw(columns: tuple[Column, ...]) -> str:
    """Returns one drawing, in which the boxes of a row have the same height."""
    count = max(len(column.steps) for column in columns)
    heights = [
        max(_height(column.steps[row]) for column in columns if row < len(column.steps))
        for row in range(count)
    ]
    tops = [MARGIN + sum(heights[:row]) + GAP * row for row in range(count)]
    width = MARGIN + (WIDTH + MARGIN) * len(columns) + GAP * (len(columns) - 1)
    height = tops[-1] + heights[-1] + MARGIN
    parts = [
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height}' {FONT}"
        " font-size='12.5'>",
        "<defs><marker id='head' viewBox='0 0 8 8' refX='7' refY='4' markerWidth='7'"
        " markerHeight='7' orient='auto-start-reverse'><path d='M0 0 8 4 0 8z' fill='#4a5568'/>"
        "</marker></defs>",
        f"<rect width='{width}' height='{height}' rx='8' fill='#ffffff'/>",
    ]
    for place, column in enumerate(columns):
        left = MARGIN + place * (WIDTH + MARGIN + GAP)
        for row, step in enumerate(column.steps):
            parts += _box(step, left, tops[row], heights[row])
            if row + 1 < len(column.steps):
                # An arrow's label belongs to the step that it comes from, or goes to if upwards.
                parts += _arrow(step.arrow, left, tops[row] + heights[row], column.upwards)
    if len(columns) > 1 and not any(column.upwards for column in columns):
        parts.append(_turn(tops, heights))
    return "\n".join([*parts, "</svg>", ""])


def _height(step: Step) -> int:
    return 2 * PADDING + LINE * (1 + len(step.lines) + bool(step.module))


def _box(step: Step, left: int, top: int, height: int) -> Iterator[str]:
    fill, stroke = ("#ebf4ff", "#3182ce") if step.module else ("#f7fafc", "#718096")
    yield (
        f"<rect x='{left}' y='{top}' width='{WIDTH}' height='{height}' rx='6' fill='{fill}'"
        f" stroke='{stroke}'/>"
    )
    texts = [(step.title, "font-weight='600' fill='#1a202c'")]
    texts += [(line, "fill='#2d3748'") for line in step.lines]
    if step.module:
        texts.append((step.module, "font-family='ui-monospace, monospace' fill='#2b6cb0'"))
    for number, (text, style) in enumerate(texts):
        baseline = top + PADDING + LINE * (number + 1) - 4
        yield f"<text x='{left + PADDING}' y='{baseline}' {style}>{html.escape(text)}</text>"


def _arrow(label: str, left: int, top: int, upwards: bool) -> Iterator[str]:
    middle, end = left + 40, top + GAP - 2
    marker = "marker-start" if upwards else "marker-end"
    yield (
        f"<path d='M{middle} {top + 2}V{end}' stroke='#4a5568' {marker}='url(#head)'/>"
        f"<text x='{middle + 12}' y='{top + GAP / 2 + 4}' fill='#4a5568'"
        f" font-style='italic'>{html.escape(label)}</text>"
    )


def _turn(tops: list[int], heights: list[int]) -> str:
    """Returns the arrow from the last box of the first column to the first box of the second."""
    right, middle = (
        MARGIN + WIDTH,
        [top + high / 2 for top, high in zip(tops, heights, strict=True)],
    )
    turn, end = right + (GAP + MARGIN) / 2, right + GAP + MARGIN - 2
    return (
        f"<path d='M{right} {middle[-1]}H{turn}V{middle[0]}H{end}' fill='none' stroke='#4a5568'"
        " marker-end='url(#head)'/>"
    )
