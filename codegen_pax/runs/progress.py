"""Measures the speed and the remaining time of runs and conversions, and shows progress bars."""

from __future__ import annotations

import contextlib
import functools
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

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
from rich.table import Column

from codegen_pax.runs.log import Line

T = TypeVar("T")

_MIN_SECONDS = 1.0  # between two lines about bytes


@dataclass(frozen=True)
class Speed:
    """How fast the steps between two records were.

    Attributes:
        tokens_per_second: Without the pauses between the steps.
        seconds_left: Until the last step of the run, at the pace since the first record, with
            pauses.
        input_wait: The share of the steps' time that this host waits for its input, from 0 to 1.
            The devices may be busy meanwhile with steps that were started before.
    """

    tokens_per_second: float
    seconds_left: float
    input_wait: float


class Pace:
    """Measures the speed of steps, without the evaluations and checkpoints between them.

    The first measured step includes compilation, so the speed is measured from its end.
    """

    def __init__(self, steps: int, batch_tokens: int, clock: Callable[[], float] = time.monotonic):
        """Starts with no step done.

        Args:
            steps: The steps of the whole run.
            batch_tokens: The tokens of a step.
            clock: Returns seconds.
        """
        self._steps, self._batch_tokens, self._clock = steps, batch_tokens, clock
        self._paused_at: float | None = None
        self._paused_seconds = 0.0
        self._waited_seconds = 0.0
        self._first: tuple[int, float] | None = None  # a step, and when it was done
        self._last: _Record | None = None

    def pause(self) -> None:
        """Notes that the time from now on is not spent on training."""
        self._paused_at = self._clock()

    def resume(self) -> None:
        """Notes that training begins or continues."""
        if self._paused_at is not None:
            self._paused_seconds += self._clock() - self._paused_at
            self._paused_at = None

    def timed(self, read: Callable[[], T]) -> Callable[[], T]:
        """Returns a function that reads as `read` does, and counts its time as wait for input."""

        @functools.wraps(read)
        def read_timed() -> T:
            start = self._clock()
            try:
                return read()
            finally:
                self._waited_seconds += self._clock() - start

        return read_timed

    def at(self, step: int) -> Speed | None:
        """Notes that a step is done, and returns the speed since the last noted one.

        Returns:
            None at the first noted step, and where the clock has not moved.
        """
        now = self._clock()
        training, waited = now - self._paused_seconds, self._waited_seconds
        speed = None
        if self._first is None or self._last is None:
            self._first = (step, now)
        elif (seconds := training - self._last.training) > 0:
            first_step, first_time = self._first
            speed = Speed(
                tokens_per_second=(step - self._last.step) * self._batch_tokens / seconds,
                seconds_left=(now - first_time) / (step - first_step) * (self._steps - step),
                input_wait=(waited - self._last.waited) / seconds,
            )
        self._last = _Record(step, training, waited)
        return speed


@dataclass(frozen=True)
class _Record:
    """A noted step, and the seconds of training and of waiting for input until then."""

    step: int
    training: float
    waited: float


def format_duration(seconds: float) -> str:
    """Formats `'3 d 4 h'`, `'2 h 5 min'`, `'12 min 30 s'` or `'8 s'`."""
    total = round(seconds)
    for size, name, smaller_size, smaller_name in (
        (86_400, "d", 3_600, "h"),
        (3_600, "h", 60, "min"),
        (60, "min", 1, "s"),
    ):
        if total >= size:
            rest = total % size // smaller_size
            larger = f"{total // size} {name}"
            return f"{larger} {rest} {smaller_name}" if rest else larger
    return f"{total} s"


@contextlib.contextmanager
def follow_run(title: str, steps: int, console: Console) -> Iterator[Callable[[Line], None]]:
    """Shows the lines that a run reports, until the block ends.

    On a terminal, the newest line about a step stands beside a bar, and other lines above it.
    Elsewhere each line is printed, but those about steps only once for each tenth of the run.

    Args:
        title: The name of the run.
        steps: The steps of the whole run.
        console: Where to print.

    Yields:
        A function to call with each line.
    """
    if not console.is_terminal:
        yield _line_printer(title, steps, console)
        return
    # On a narrow terminal the line takes two rows: without its end it would lack the time left.
    line_column = TextColumn("{task.fields[line]}", table_column=Column(no_wrap=False))
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=20), line_column)
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task(title, total=steps, line="")

        def on_line(line: Line) -> None:
            if line.step is None:
                progress.console.print(line.text, highlight=False, markup=False)
            else:
                progress.update(bar, completed=line.step, line=escape(line.text))

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
        # Some lines of a run begin with its name already.
        text = line.text if line.text.startswith(title) else f"{title}: {line.text}"
        console.print(text, highlight=False, markup=False, soft_wrap=True)

    return on_line


@contextlib.contextmanager
def follow_bytes(title: str, total: int, console: Console) -> Iterator[Callable[[int], None]]:
    """Shows how many bytes are done, the speed and the time left, until the block ends.

    Without a terminal, a line is printed for each tenth instead: at most one a second, and one at
    the end.

    Args:
        title: The name of the operation.
        total: The number of bytes in all.
        console: Where to print.

    Yields:
        A function to call, from any thread, with the bytes done since the last call.
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
    start = last_time = time.monotonic()
    done = last_tenth = 0

    def on_bytes(count: int) -> None:
        nonlocal done, last_tenth, last_time
        with lock:
            done += count
            tenth = 10 * done // max(1, total)
            now = time.monotonic()
            is_due = done >= total or now - last_time >= _MIN_SECONDS
            if tenth > last_tenth and is_due:
                last_tenth, last_time = tenth, now
                left = (now - start) / done * (total - done)
                console.print(f"{title}: {decimal(done)} of {decimal(total)}, {left:.0f} s left")

    return on_bytes
