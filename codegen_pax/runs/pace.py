"""How fast a run goes, and how long it will take. Standard library only."""

from __future__ import annotations

import time
from collections.abc import Callable


class Pace:
    """Takes the time of steps, leaving out what is between them: evaluations and checkpoints.

    The first step that is taken compiles, so speed is counted from its end.
    """

    def __init__(self, steps: int, batch_tokens: int, clock: Callable[[], float] = time.monotonic):
        """
        Args:
          steps: of the whole run.
          batch_tokens: tokens of a step.
          clock: gives seconds.
        """
        self._steps, self._batch_tokens, self._clock = steps, batch_tokens, clock
        self._paused_at: float | None = None
        self._pauses = 0.0  # seconds, in all
        self._first: tuple[int, float] | None = None  # a step, and when it was done
        self._last: tuple[int, float] | None = None  # the same, without the pauses before

    def pause(self) -> None:
        """From now on something else than training takes time."""
        self._paused_at = self._clock()

    def resume(self) -> None:
        """Training goes on, or begins."""
        if self._paused_at is not None:
            self._pauses += self._clock() - self._paused_at
            self._paused_at = None

    def at(self, step: int) -> tuple[float | None, float | None]:
        """To be called when a step is done.

        Returns:
          Tokens a second since the step before that was asked for, pauses left out; and seconds
          until the last step at the pace since the first, pauses included. None of the first.
        """
        now = self._clock()
        training = now - self._pauses
        speed = left = None
        if self._first is None:
            self._first = (step, now)
        else:
            done, since = step - self._last[0], training - self._last[1]
            speed = done * self._batch_tokens / since if since > 0 else None
            left = (now - self._first[1]) / (step - self._first[0]) * (self._steps - step)
        self._last = (step, training)
        return speed, left


def duration(seconds: float) -> str:
    """`'3 d 4 h'`, `'2 h 5 min'`, `'12 min 30 s'` or `'8 s'`."""
    whole = round(seconds)
    for size, name, below, smaller in (
        (86_400, "d", 3_600, "h"),
        (3_600, "h", 60, "min"),
        (60, "min", 1, "s"),
    ):
        if whole >= size:
            rest = whole % size // below
            return f"{whole // size} {name} {rest} {smaller}" if rest else f"{whole // size} {name}"
    return f"{whole} s"
