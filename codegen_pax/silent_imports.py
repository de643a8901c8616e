"""Imports TensorFlow, and what imports it, without its log messages."""

from __future__ import annotations

import contextlib
import functools
import importlib
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from types import ModuleType

_LEVEL = "TF_CPP_MIN_LOG_LEVEL"
# Whether the user has requested TensorFlow's log by its variable. JAX sets it too, to 1, on import.
IS_LOG_REQUESTED = _LEVEL in os.environ and not ("jax" in sys.modules and os.environ[_LEVEL] == "1")


@functools.cache
def tensorflow() -> ModuleType:
    """Returns TensorFlow, imported so that it never logs unless the user has requested its log.

    Its file systems warn of missing credentials although an error says so too. If TensorFlow is
    already imported, as in a run of the stock binary, its log is left as it is.
    """
    if module := sys.modules.get("tensorflow"):
        return module
    with silenced(), contextlib.ExitStack() as exits:
        if not IS_LOG_REQUESTED:
            before = os.environ.get(_LEVEL)
            os.environ[_LEVEL] = "3"  # read once, when it is loaded
            exits.callback(_set_level, before)
        return importlib.import_module("tensorflow")


def _set_level(level: str | None) -> None:
    if level is None:
        os.environ.pop(_LEVEL, None)
    else:
        os.environ[_LEVEL] = level


@contextlib.contextmanager
def silenced() -> Iterator[None]:
    """Suppresses stderr and delays interrupts during a block that imports.

    The text is written after all if the block fails, or if the user has requested the log. An
    interrupt is raised when the block ends, a second one at once.
    """
    with _delayed_interrupt(), _suppressed_stderr():
        yield


@contextlib.contextmanager
def _delayed_interrupt() -> Iterator[None]:
    """Delays an interrupt until the block ends; a second one interrupts it at once.

    Some libraries mistake an interrupt during their import for an ImportError, and continue.
    """
    in_main = threading.current_thread() is threading.main_thread()
    if not in_main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield  # another thread gets the interrupt, or another handler is installed
        return
    is_interrupted = False

    def record(*_: object) -> None:
        nonlocal is_interrupted
        if is_interrupted:
            raise KeyboardInterrupt
        is_interrupted = True

    signal.signal(signal.SIGINT, record)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if is_interrupted:
            raise KeyboardInterrupt


@contextlib.contextmanager
def _suppressed_stderr() -> Iterator[None]:
    """Redirects file descriptor 2, since TensorFlow writes to it below Python's `sys.stderr`."""
    if IS_LOG_REQUESTED:
        yield
        return
    sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as output:
        os.dup2(output.fileno(), 2)
        try:
            yield
        except BaseException:
            output.seek(0)
            os.write(stderr, output.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(stderr, 2)
            os.close(stderr)
