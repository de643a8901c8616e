"""Importing and starting TensorFlow without its greetings."""

from __future__ import annotations

import contextlib
import functools
import importlib
import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from types import ModuleType

# Whoever sets TensorFlow's own variable has asked for what it says.
_ASKED = "TF_CPP_MIN_LOG_LEVEL"


@functools.cache
def tensorflow() -> ModuleType:
    """TensorFlow, imported so that it logs nothing then or later, unless it was asked to.

    Its file systems warn of missing credentials where an error says so too.
    """
    with quietly(), contextlib.ExitStack() as afterwards:
        if _ASKED not in os.environ:
            os.environ[_ASKED] = "3"  # read once, when it is loaded
            afterwards.callback(os.environ.pop, _ASKED)
        return importlib.import_module("tensorflow")


@contextlib.contextmanager
def interrupted_later() -> Iterator[None]:
    """Holds an interrupt back until the block ends; a second one interrupts it at once.

    Libraries that are being imported take an interrupt for a failure of their own, and go on.
    """
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield  # not for a person at a terminal, or somebody else's to handle
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
def quietly() -> Iterator[None]:
    """Holds back what is written to stderr; lets it out if the block fails, or if it was asked for.

    TensorFlow writes to the file descriptor itself, below Python and before any log is set up.
    """
    if _ASKED in os.environ:
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
