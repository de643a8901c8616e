"""A progress bar that follows a run's steps."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


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
