"""An interrupt while libraries are imported is neither lost nor theirs; a run redirects nothing."""

import concurrent.futures
import contextlib
import os
import signal
import sys
import types
from pathlib import Path

import pytest

from codegen_pax import silent_imports
from codegen_pax.silent_imports import silenced

PROJECT = Path(silent_imports.__file__).parents[1]


@pytest.fixture(autouse=True)
def as_at_a_terminal():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_an_interrupt_comes_when_the_block_has_ended():
    reached = []
    with pytest.raises(KeyboardInterrupt), silenced():
        with contextlib.suppress(BaseException):  # as some imports do
            signal.raise_signal(signal.SIGINT)
        reached.append(True)
    assert reached
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_second_one_comes_at_once():
    reached = []
    with pytest.raises(KeyboardInterrupt), silenced():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        reached.append(True)
    assert not reached


def test_another_thread_has_no_interrupts_to_hold():
    with concurrent.futures.ThreadPoolExecutor(1) as pool:

        def block():
            with silenced():
                return signal.getsignal(signal.SIGINT)

        assert pool.submit(block).result() is signal.default_int_handler


def test_whoever_handles_it_otherwise_still_does():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with silenced():
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


@pytest.mark.parametrize("is_asked", [False, True])
def test_what_is_written_is_held_back_unless_it_was_asked_for(is_asked, monkeypatch, capfd):
    """Asked by whoever began the program: JAX sets the variable for all who come after it."""
    monkeypatch.setattr(silent_imports, "IS_LOG_REQUESTED", is_asked)
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "1")
    with silenced():
        os.write(2, b"a greeting\n")
    assert capfd.readouterr().err == "a greeting\n" * is_asked
    with pytest.raises(ImportError), silenced():
        os.write(2, b"why it fails\n")
        raise ImportError
    assert capfd.readouterr().err == "why it fails\n"


def test_nothing_that_a_run_imports_holds_back_what_is_written():
    """The command does while it imports, and what it alone reads and prepares with."""
    importers = {
        path.relative_to(PROJECT).as_posix()
        for folder in ("codegen_pax", "experiments", "tasks")
        for path in (PROJECT / folder).rglob("*.py")
        if "silent_imports" in path.read_text()
    }
    of_the_command = ("codegen_pax/cli/", "codegen_pax/data/prepare/")
    rest = {path for path in importers if not path.startswith(of_the_command)}
    assert importers and rest == {"codegen_pax/data/sources/storage.py"}
    for path in (PROJECT / "codegen.py", *(PROJECT / "experiments").glob("*.py")):
        assert "redirect_std" not in path.read_text()


def test_a_tensorflow_that_is_there_is_taken_as_it_is(monkeypatch):
    """As in a run of the stock binary, whose standard error other threads write to."""
    there = types.ModuleType("tensorflow")
    monkeypatch.setitem(sys.modules, "tensorflow", there)
    monkeypatch.setattr(
        silent_imports, "silenced", lambda: pytest.fail("standard error was redirected")
    )
    silent_imports.tensorflow.cache_clear()
    try:
        assert silent_imports.tensorflow() is there
    finally:
        silent_imports.tensorflow.cache_clear()


def test_what_jax_sets_is_asked_for_by_nobody(monkeypatch, capfd):
    """It sets TensorFlow's variable when it is imported: what comes later is still held back."""
    monkeypatch.setattr(silent_imports, "IS_LOG_REQUESTED", False)
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "1")
    with silenced():
        os.write(2, b"greetings")
    with pytest.raises(ImportError), silenced():
        os.write(2, b"what went wrong")
        raise ImportError
    assert capfd.readouterr().err == "what went wrong"


def test_what_a_user_sets_is_asked_for(monkeypatch, capfd):
    monkeypatch.setattr(silent_imports, "IS_LOG_REQUESTED", True)
    with silenced():
        os.write(2, b"greetings")
    assert capfd.readouterr().err == "greetings"
