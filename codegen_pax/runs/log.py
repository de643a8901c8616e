"""What a run says of itself, by Python's own logging.

Every line goes through the logger `codegen_pax`, which the stock binary's handler (absl's) writes
to standard error; `--logger_levels=codegen_pax:WARNING` leaves them out. Each begins with
`codegen-pax:`, so that it is found among those of Pax.
"""

from __future__ import annotations

import logging
import sys
from types import TracebackType

import jax
from absl import flags
from absl import logging as absl_logging

from codegen_pax import names
from codegen_pax.errors import UserError, is_from_the_system
from codegen_pax.runs.launch import MARK

_LOGGER = logging.getLogger("codegen_pax")


def show() -> None:
    """For a run of the stock binary: shows this project's lines, and of others' warnings.

    The binary shows all that is informative, and has JAX warn of every function that is traced and
    compiled: two thousand lines before the first step, fifty at each. Those are shown to who asks
    by `--verbosity=0`; else there are few enough to be read, and whoever has to mend something
    reads one line, not a traceback.
    """
    if _LOGGER.level == logging.NOTSET:
        _LOGGER.setLevel(logging.INFO)
    if not flags.FLAGS["verbosity"].present:
        absl_logging.set_verbosity(absl_logging.WARNING)
        jax.config.update("jax_log_compiles", False)
        sys.excepthook = _one_line


def info(message: str, *values: object) -> None:
    """Says a line on host 0."""
    if jax.process_index() == 0:
        _LOGGER.info(MARK + message, *values, stacklevel=2)


def warning(message: str, *values: object) -> None:
    """Says, on host 0, what is not as one would expect."""
    if jax.process_index() == 0:
        _LOGGER.warning(MARK + message, *values, stacklevel=2)


def _one_line(
    kind: type[BaseException], error: BaseException, traceback: TracebackType | None
) -> None:
    """As the command does: a line for what the user has to mend, a traceback for a defect."""
    is_of_the_machine = isinstance(error, OSError) and is_from_the_system(error)
    if issubclass(kind, UserError) or is_of_the_machine:
        print(MARK + names.printable(" ".join(str(error).split())), file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, traceback)
