"""Prints tables on the terminal, and messages while a verb waits."""

from __future__ import annotations

import concurrent.futures
import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from codegen_pax.cli.core.description import format_cell
from codegen_pax.messages import printable

_GAP = 2  # spaces between columns


class Terminal(Console):
    """The console that every verb prints to.

    Text is printed as it is: a folder may be called `[/x]` or `:x:`, which rich would interpret.
    When the reader of a pipe has gone, printing raises BrokenPipeError for `main` to handle; rich
    alone would end the program with status 1.
    """

    def __init__(self, **options: Any):
        super().__init__(markup=False, emoji=False, **options)

    def on_broken_pipe(self) -> None:
        """Re-raises the BrokenPipeError that is being handled."""
        raise


@contextlib.contextmanager
def waiting(message: str) -> Iterator[None]:
    """Shows on stderr, if it is a terminal, what the block is waiting for."""
    console = Terminal(stderr=True)
    with console.status(message) if console.is_terminal else contextlib.nullcontext():
        yield


@contextlib.contextmanager
def in_background(
    function: Callable[..., Any], *arguments: Any
) -> Iterator[concurrent.futures.Future]:
    """Runs a function in a thread while the block runs; an error in the block stops it.

    Args:
        function: Takes `arguments` and a function that returns whether to stop, which it calls
            from time to time.
        *arguments: The arguments.

    Yields:
        The future of what the function returns.
    """
    stop = threading.Event()
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        try:
            yield pool.submit(function, *arguments, stop.is_set)
        except BaseException:
            stop.set()
            raise


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        key: The key of its values in the rows.
        header: The text above it.
        right: Whether it is aligned to the right, as numbers are.
        priority: On a narrow terminal the columns of the lowest priority are left out first.
    """

    key: str
    header: str
    right: bool = False
    priority: int = 0


def print_rows(columns: Sequence[Column], rows: Sequence[Mapping[str, object]]) -> None:
    """Prints a line for each row, with fewer columns if the terminal is too narrow.

    In that case the last line names the columns that are left out.
    """
    console = Terminal(highlight=False)
    cells = {
        column.key: [column.header, *(printable(format_cell(row[column.key])) for row in rows)]
        for column in columns
    }
    widths = {key: max(map(len, texts)) for key, texts in cells.items()}
    fitting = list(columns)
    if console.is_terminal:
        while len(fitting) > 1 and sum(widths[c.key] + _GAP for c in fitting) - _GAP > (
            console.width
        ):
            fitting.remove(min(fitting, key=lambda column: column.priority))
    for line in range(len(rows) + 1):
        texts = (
            cells[column.key][line].rjust(widths[column.key])
            if column.right
            else cells[column.key][line].ljust(widths[column.key])
            for column in fitting
        )
        text = (" " * _GAP).join(texts).rstrip()
        console.print(Text(text, style="bold" if line == 0 else ""), soft_wrap=True, no_wrap=True)
    left_out = [column.header for column in columns if column not in fitting]
    if left_out:
        console.print(
            Text(f"Left out in {console.width} columns (--json has all): {', '.join(left_out)}"),
            style="dim",
        )


def print_sections(header: Sequence[str], sections: Mapping[str, Sequence[Sequence[str]]]) -> None:
    """Prints rows of a name and its values under the titles of their sections.

    Empty sections are left out. A terminal gets long cells folded to its width; elsewhere every
    row is one line.
    """
    console = Terminal(highlight=False)
    sections = {title: rows for title, rows in sections.items() if rows}
    if not console.is_terminal:
        _print_plain_sections(header, sections)
        return
    table = Table(box=None, padding=(0, _GAP, 0, 0), show_edge=False)
    # Names stay unbroken as long as that leaves the values some room.
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
