"""Importing and starting TensorFlow without its greetings."""

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
# Whoever sets TensorFlow's own variable has asked for what it says. JAX, once it is imported, has
# set it too: to 1.
_IS_ASKED = _LEVEL in os.environ and not ("jax" in sys.modules and os.environ[_LEVEL] == "1")


@functools.cache
def tensorflow() -> ModuleType:
    """TensorFlow, imported so that it logs nothing then or later, unless it was asked to.

    Its file systems warn of missing credentials where an error says so too. Where it is there
    already, as in a run of the stock binary, nothing is held back.
    """
    if found := sys.modules.get("tensorflow"):
        return found
    with quietly(), contextlib.ExitStack() as afterwards:
        if not _IS_ASKED:
            before = os.environ.get(_LEVEL)
            os.environ[_LEVEL] = "3"  # read once, when it is loaded
            afterwards.callback(_set_level, before)
        return importlib.import_module("tensorflow")


def _set_level(level: str | None) -> None:
    if level is None:
        os.environ.pop(_LEVEL, None)
    else:
        os.environ[_LEVEL] = level


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """For a block that imports: holds back what is written to stderr, and interrupts.

    What was written is let out if the block fails, or if it was asked for. An interrupt comes when
    the block has ended, a second one at once.
    """
    with _interrupted_later(), _held_stderr():
        yield


@contextlib.contextmanager
def _interrupted_later() -> Iterator[None]:
    """Holds an interrupt back until the block ends; a second one interrupts it at once.

    Libraries that are being imported take an interrupt for a failure of their own, and go on.
    """
    in_main = threading.current_thread() is threading.main_thread()
    if not in_main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield  # it comes to another thread, or is somebody else's to handle
        return
    came = False

    def note(number, frame) -> None:
        nonlocal came
        if came:
            raise KeyboardInterrupt
        came = True

    signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if came:
            raise KeyboardInterrupt


@contextlib.contextmanager
def _held_stderr() -> Iterator[None]:
    """TensorFlow writes to the file descriptor itself, below Python, before any log is set up."""
    if _IS_ASKED:
        yield
        return
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            held.seek(0)
            os.write(kept, held.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)
