"""Runs a module as `python -m` does, in a process that has Pax's imports already.

To import what the stock binary imports takes a core more than ten seconds, and some forty runs
need it. multiprocessing's fork server imports it once. Each run is forked from there, with its own
environment, directory and log, and executes the module from its first line.
"""

import atexit
import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path

_IMPORTS = "tests.pax_imports"
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload([_IMPORTS])


class Process:
    """A running module: what the tests use of `subprocess.Popen`."""

    def __init__(
        self,
        module: str,
        arguments: Sequence[str],
        directory: Path,
        environment: dict[str, str],
        output: Path,
        errors: Path | None = None,
    ):
        """Starts it.

        Args:
            module: The module to execute as `__main__`.
            arguments: Its command line.
            directory: The working directory.
            environment: All of its environment.
            output: The file to which its standard output is appended.
            errors: The same for its standard error; None for `output`.
        """
        values = (module, arguments, str(directory), environment, output, errors or output)
        self._process = _CONTEXT.Process(target=_execute, args=values)
        self._process.start()

    def poll(self) -> int | None:
        """Returns the exit status, or minus the signal that ended it; None while it runs."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Waits for the end; returns what `poll` does.

        Raises:
            subprocess.TimeoutExpired: It runs for longer than `timeout` seconds.
        """
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired(self._process.name, timeout or 0)
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        """Sends a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self._process.pid, number)


def run(
    module: str,
    arguments: Sequence[str],
    directory: Path,
    environment: dict[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Runs a module to the end; returns what `subprocess.run` does with its output captured.

    Args:
        module: The module to execute as `__main__`.
        arguments: Its command line.
        directory: The working directory, where modules are looked for too.
        environment: All of its environment; None for this process's own.
    """
    with tempfile.TemporaryDirectory() as folder:
        files = Path(folder, "output"), Path(folder, "errors")
        values = dict(os.environ) if environment is None else environment
        status = Process(module, arguments, directory, values, *files).wait()
        output, errors = (file.read_text() for file in files)
    return subprocess.CompletedProcess([module, *arguments], status, output, errors)


def _execute(
    module: str,
    arguments: Sequence[str],
    directory: str,
    environment: dict[str, str],
    output: Path,
    errors: Path,
) -> None:
    """Executes a module in this process, which was forked for it alone."""
    assert _IMPORTS in sys.modules, f"the fork server could not import {_IMPORTS}"
    for descriptor, path in ((1, output), (2, errors)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), descriptor)
    os.chdir(directory)
    _set_environment(environment)
    paths = filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))
    sys.path[:0] = [directory, *paths]
    sys.argv = [module, *arguments]
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    finally:
        # As an interpreter ends; multiprocessing would leave by `os._exit`.
        threading._shutdown()
        atexit._run_exitfuncs()


def _set_environment(environment: dict[str, str]) -> None:
    """Replaces the environment, and what JAX read of it when it was imported."""
    import jax

    for name, value in environment.items():
        if name.startswith("JAX_") and os.environ.get(name) != value:
            jax.config.update(name.lower(), value)
    os.environ.clear()
    os.environ.update(environment)
