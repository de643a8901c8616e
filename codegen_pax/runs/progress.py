"""Progress bars that follow the steps of a run, or the bytes of a conversion."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)


@contextlib.contextmanager
def follow_steps(
    title: str, steps: int, console: Console
) -> Iterator[Callable[[int, float], None]]:
    """Shows `title`, the step of `steps`, the loss and the time left, until the block ends.

    Where there is no terminal a line is printed for every tenth of the steps instead, with the time
    that the rest takes at the pace since the first step: compiling comes before it.

    Yields:
      What to call with each step and its loss.
    """
    if not console.is_terminal:
        yield _line_printer(title, steps, console)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]}"),
        TimeRemainingColumn(),
        TextColumn("left"),
    )
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task(title, total=steps, loss="-")

        def on_step(step: int, loss: float) -> None:
            progress.update(bar, completed=step, loss=f"{loss:.3f}")

        yield on_step


def _line_printer(title: str, steps: int, console: Console) -> Callable[[int, float], None]:
    last_tenth = -1
    first: tuple[int, float] | None = None  # a step, and when it was there

    def on_step(step: int, loss: float) -> None:
        nonlocal last_tenth, first
        first = first or (step, time.monotonic())
        tenth = 10 * step // steps
        if tenth > last_tenth:
            last_tenth = tenth
            left = ""
            if done := step - first[0]:
                seconds = (time.monotonic() - first[1]) / done * (steps - step)
                left = f", {seconds:.0f} s left"
            console.print(f"{title}: step {step} of {steps}, loss {loss:.3f}{left}")

    return on_step


@contextlib.contextmanager
def follow_bytes(title: str, total: int, console: Console) -> Iterator[Callable[[int], None]]:
    """Shows how many of `total` bytes are done, the speed and the time left, until the block ends.

    Where there is no terminal a line is printed for every tenth instead.

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
    begun = time.monotonic()
    done = said = 0
    before: int | None = None  # what was there already, and took no time

    def on_bytes(count: int) -> None:
        nonlocal done, said, before
        with lock:
            before = count if before is None else before
            done += count
            tenth = 10 * done // max(1, total)
            if tenth > said and done > before:
                said = tenth
                left = (time.monotonic() - begun) / (done - before) * (total - done)
                console.print(
                    f"{title}: {done / 1e9:.2f} of {total / 1e9:.2f} GB, {left:.0f} s left"
                )

    return on_bytes
