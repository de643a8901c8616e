"""Tables for a terminal, fitted to its width, and the same as plain text for everything else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from codegen_pax.names import printable

_GAP = 2  # spaces between columns
_TOO_LONG = 10**15  # numbers from here on, FLOPs of a whole run, are rounded


class Terminal(Console):
    """Where every verb prints.

    Words are printed as they are: a folder may be called `[/x]` or `:x:`, which rich has a meaning
    for. A reader that has gone is an error that `main` answers; rich alone would end the program
    with status 1.
    """

    def __init__(self, **more: Any):
        super().__init__(markup=False, emoji=False, **more)

    def on_broken_pipe(self) -> None:
        raise  # the BrokenPipeError that is being handled


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes:
      key: of the rows.
      header: what stands above it.
      right: whether it is aligned to the right, as numbers are.
      keep: what is left out first on a narrow terminal: the least.
    """

    key: str
    header: str
    right: bool = False
    keep: int = 0


def shown(value: object) -> str:
    """A value as tables show it: thousands apart, floats to 12 digits, lists in line."""
    if value is None or value == [] or value == {}:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}" if value < _TOO_LONG else f"{value:.4g}"
    if isinstance(value, float):
        return repr(float(f"{value:.12g}"))  # 0.0006, not the 0.0006000000000000001 of a product
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {shown(found)}" for key, found in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(shown, value))
    return str(value)


def print_rows(columns: Sequence[Column], rows: Sequence[Mapping[str, object]]) -> None:
    """One line a row. A terminal that is too narrow gets fewer columns, and is told which."""
    console = Terminal(highlight=False)
    cells = {
        column.key: [column.header, *(printable(shown(row[column.key])) for row in rows)]
        for column in columns
    }
    widths = {key: max(map(len, texts)) for key, texts in cells.items()}
    kept = list(columns)
    if console.is_terminal:
        while len(kept) > 1 and sum(widths[c.key] + _GAP for c in kept) - _GAP > console.width:
            kept.remove(min(kept, key=lambda column: column.keep))
    for line in range(len(rows) + 1):
        texts = (
            cells[column.key][line].rjust(widths[column.key])
            if column.right
            else cells[column.key][line].ljust(widths[column.key])
            for column in kept
        )
        text = (" " * _GAP).join(texts).rstrip()
        console.print(Text(text, style="bold" if line == 0 else ""), soft_wrap=True, no_wrap=True)
    left_out = [column.header for column in columns if column not in kept]
    if left_out:
        console.print(
            Text(f"Left out in {console.width} columns (--json has all): {', '.join(left_out)}"),
            style="dim",
        )


def print_sections(header: Sequence[str], sections: Mapping[str, Sequence[Sequence[str]]]) -> None:
    """Rows of a name and its values under the titles of their sections; empty sections are not.

    A terminal gets long cells folded to its width; elsewhere every row is one line.
    """
    console = Terminal(highlight=False)
    sections = {title: rows for title, rows in sections.items() if rows}
    if not console.is_terminal:
        _print_plain_sections(header, sections)
        return
    table = Table(box=None, padding=(0, _GAP, 0, 0), show_edge=False)
    # Names stay whole as long as that leaves the values some room.
    longest = max(len(name) for rows in sections.values() for name, *_ in rows)
    table.add_column(printable(header[0]), overflow="fold", no_wrap=longest < 0.6 * console.width)
    for text in header[1:]:
        table.add_column(printable(text), overflow="fold")
    for title, rows in sections.items():
        table.add_row(Text(title, style="bold"))
        for name, *values in rows:
            table.add_row(*(Text(printable(cell)) for cell in (f"  {name}", *values)))
    console.print(table)


def _print_plain_sections(
    header: Sequence[str], sections: Mapping[str, Sequence[Sequence[str]]]
) -> None:
    lines = [tuple(map(printable, header))]
    for title, rows in sections.items():
        lines += [(title,), *(tuple(map(printable, (f"  {name}", *rest))) for name, *rest in rows)]
    widths = [max(len(line[i]) for line in lines if len(line) > i) for i in range(len(header))]
    for line in lines:
        print((" " * _GAP).join(map(str.ljust, line, widths)).rstrip())
