"""Progress bars that follow the steps of a run, or the bytes of a conversion."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.filesize import decimal
from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from codegen_pax.runs.launch import Line

_SECONDS = 1.0  # between two lines of bytes, at least


@contextlib.contextmanager
def follow_run(title: str, steps: int, console: Console) -> Iterator[Callable[[Line], None]]:
    """Shows what a run says of itself, until the block ends.

    On a terminal a bar has its step and the line about it, and other lines stand above. Elsewhere
    each line is printed, of those about steps one for every tenth of the run.

    Yields:
      What to call with each line.
    """
    if not console.is_terminal:
        yield _line_printer(title, steps, console)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[said]}"))
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task(title, total=steps, said="")

        def on_line(line: Line) -> None:
            if line.step is None:
                progress.console.print(line.text, highlight=False, markup=False)
            else:
                progress.update(bar, completed=line.step, said=escape(line.text))

        yield on_line


def _line_printer(title: str, steps: int, console: Console) -> Callable[[Line], None]:
    last_tenth = -1

    def on_line(line: Line) -> None:
        nonlocal last_tenth
        if line.step is not None:
            tenth = 10 * line.step // steps
            if tenth <= last_tenth:
                return
            last_tenth = tenth
        console.print(f"{title}: {line.text}", highlight=False, markup=False, soft_wrap=True)

    return on_line


@contextlib.contextmanager
def follow_bytes(title: str, total: int, console: Console) -> Iterator[Callable[[int], None]]:
    """Shows how many of `total` bytes are done, the speed and the time left, until the block ends.

    Where there is no terminal a line is printed for every tenth instead, but for those that follow
    the last one within a second, and for the end.

    Yields:
      What to call with bytes whenever some are done, from any thread; first with those that were
      there before.
    """
    if not console.is_terminal:
        yield _byte_printer(title, total, console)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        TextColumn("left"),
    )
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task(title, total=total)
        yield lambda count: progress.advance(bar, count)


def _byte_printer(title: str, total: int, console: Console) -> Callable[[int], None]:
    lock = threading.Lock()
    begun = last = time.monotonic()
    done = said = 0
    before: int | None = None  # what was there already, and took no time

    def on_bytes(count: int) -> None:
        nonlocal done, said, before, last
        with lock:
            before = count if before is None else before
            done += count
            tenth = 10 * done // max(1, total)
            now = time.monotonic()
            if tenth > said and done > before and (done >= total or now - last >= _SECONDS):
                said, last = tenth, now
                left = (now - begun) / (done - before) * (total - done)
                console.print(f"{title}: {decimal(done)} of {decimal(total)}, {left:.0f} s left")

    return on_bytes
