"""A progress bar that follows a run's steps."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


@contextlib.contextmanager
def follow_steps(
    title: str, steps: int, console: Console
) -> Iterator[Callable[[int, float], None]]:
    """Shows `title`, the step of `steps`, the loss and the time left, until the block ends.

    Where there is no terminal a line is printed for every tenth of the steps instead.

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

    def on_step(step: int, loss: float) -> None:
        nonlocal last_tenth
        tenth = 10 * step // steps
        if tenth > last_tenth:
            last_tenth = tenth
            console.print(f"{title}: step {step} of {steps}, loss {loss:.3f}")

    return on_step
