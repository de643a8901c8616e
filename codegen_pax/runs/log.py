"""The lines that a run reports about itself: logged in the run, parsed by its parent process.

They go through Python's logger `codegen_pax`, which the stock binary's handler (absl's) writes to
standard error; `--logger_levels=codegen_pax:WARNING` hides them. Each begins with `codegen-pax:`,
which distinguishes it from the lines of Pax.
"""

from __future__ import annotations

import dataclasses
import logging
import re
import sys
from collections.abc import Sequence
from types import TracebackType

from absl import flags
from absl import logging as absl_logging

from codegen_pax import messages
from codegen_pax.errors import UserError, is_from_the_system

# absl writes a date and a place before the mark; a refused run prints the mark first in a line.
MARK = "codegen-pax: "

_LOGGER = logging.getLogger("codegen_pax")
_MARKED = re.compile(rf"\] {MARK}(.+)")
_STEP = re.compile(r"step ([\d,]+) of [\d,]+: loss (\S+)")
# The last line of a Python traceback: `ValueError: ...`, perhaps after a module.
_ERROR = re.compile(r"^(?:[\w.]+\.)?[A-Z]\w*(?:Error|Exception|Interrupt): .+")


def configure() -> None:
    """Shows the lines of this project, and warnings of others, in a run of the stock binary.

    By itself the binary shows all informative lines, and has JAX warn about each function that it
    traces and compiles: two thousand lines before the first step, and fifty at each. With
    `--verbosity=0` this function keeps them. Otherwise it hides them, and an error of the user is
    one line without a traceback.
    """
    import jax

    if _LOGGER.level == logging.NOTSET:
        _LOGGER.setLevel(logging.INFO)
    if not flags.FLAGS["verbosity"].present:
        absl_logging.set_verbosity(absl_logging.WARNING)
        jax.config.update("jax_log_compiles", False)
        sys.excepthook = excepthook


def info(message: str, *values: object) -> None:
    """Logs a line on host 0."""
    _log(logging.INFO, message, values)


def warning(message: str, *values: object) -> None:
    """Logs a warning on host 0."""
    _log(logging.WARNING, message, values)


def _log(level: int, message: str, values: tuple[object, ...]) -> None:
    import jax  # here, as a command that only parses lines starts faster without it

    if jax.process_index() == 0:
        _LOGGER.log(level, MARK + message, *values, stacklevel=3)


def excepthook(
    kind: type[BaseException], error: BaseException, traceback: TracebackType | None
) -> None:
    """Prints one line for an error of the user, and a traceback for a defect, as the command does.

    Args:
        kind: The class of the error.
        error: The error that ends the process.
        traceback: The traceback of the error.
    """
    is_of_the_machine = isinstance(error, OSError) and is_from_the_system(error)
    if issubclass(kind, UserError) or is_of_the_machine:
        print(MARK + messages.printable(" ".join(str(error).split())), file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, traceback)


@dataclasses.dataclass(frozen=True)
class Line:
    """A line that a run has reported.

    Attributes:
        text: The line, without the mark and the text before it.
        step: The step that the line is about; None if it is about something else.
    """

    text: str
    step: int | None = None


def parse(line: str) -> Line | None:
    """Parses a line of a log; None if it is not one that the run reports about itself."""
    marked = _MARKED.search(line)
    if not marked:
        return None
    step = _STEP.match(marked[1])
    return Line(marked[1], step and int(step[1].replace(",", "")))


def refusal(lines: Sequence[str]) -> str | None:
    """Returns the line that says why a run was refused, from the end of its log, or None."""
    refusals = (line.removeprefix(MARK) for line in reversed(lines) if line.startswith(MARK))
    return next(refusals, None)


def last_error(lines: Sequence[str]) -> str:
    """Returns the line that best says why a run failed, from the end of its log."""
    if message := refusal(lines):
        return message
    errors = [line for line in lines if _ERROR.match(line)]
    return errors[-1] if errors else next((line for line in reversed(lines) if line), "no output")
