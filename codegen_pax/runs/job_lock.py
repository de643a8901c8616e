"""The lock of a job directory: one run at a time trains there, on any number of hosts.

The first host of a run holds the lock for all hosts until it ends:

    holder.lock   locked by the holder; the system unlocks it whenever and however its process dies
    holder.json   who holds the lock, for others to read; rewritten every few seconds as a sign of
                  life, removed at the end

The system's lock reaches every process of a machine, and of a network file system with locks. Where
it does not reach (object storage, another machine), a process that finds `holder.json` waits for it
to change: if it does, the holder is alive, and if not, it is dead. The clocks of two machines are
compared only to skip the wait for a holder whose last sign of life is over an hour old.
"""

from __future__ import annotations

import atexit
import contextlib
import datetime
import fcntl
import json
import os
import shlex
import socket
import sys
import threading
import time
import uuid
from pathlib import Path
from typing import IO, Any

import jax
import numpy as np
from absl import logging
from etils import epath
from jax.experimental import multihost_utils

from codegen_pax import json_files
from codegen_pax.errors import UserError

HOLDER_FILE = "holder.json"
LOCK_FILE = "holder.lock"

SIGN_SECONDS = 10.0  # between two signs of life
SILENCE_SECONDS = 60.0  # a holder without a sign of life for this long is dead
# Two runs may write `holder.json` in object storage at once, and the last one to do so holds the
# lock. After this time both check which one it is.
SETTLING_SECONDS = 2.0
# A holder whose last sign of life is older than this is dead, even if the two clocks differ.
_STALE_SECONDS = 3_600.0

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")  # changes whenever the machine starts
_MESSAGE_BYTES = 2_048

_locks: dict[str, _JobLock] = {}  # those that this process holds, by the job directory


class JobInUseError(UserError):
    """Another run trains in the job directory."""


def acquire(job: epath.PathLike, experiment: str) -> None:
    """Locks a job directory for this run until its first host ends, or releases it.

    Every host of a run calls this, after `jax.distributed` has been initialised. Acquiring a
    lock again that this process holds does nothing.

    Args:
        job: The job directory, which is made if it does not exist.
        experiment: The name of the experiment, which other runs report if they find the lock.

    Raises:
        JobInUseError: Another run trains there; raised on every host.
    """
    error: Exception | None = None
    if jax.process_index() == 0:
        try:
            _acquire_on_first_host(epath.Path(job), experiment)
        except (UserError, OSError) as raised:
            error = raised
    message = str(error or "")
    if jax.process_count() > 1:
        message = _from_first_host(message)
    if message:
        raise error or JobInUseError(message)


def release(job: epath.PathLike) -> None:
    """Unlocks a job directory, if this process holds its lock."""
    if lock := _locks.get(str(job)):
        lock.release()


def check_held(job: epath.PathLike) -> None:
    """Raises JobInUseError if another run has taken the lock of a directory from this process.

    This happens where the system's lock does not reach, if this process could not give a sign of
    life for a long time.
    """
    lock = _locks.get(str(job))
    if lock and lock.lost:
        raise JobInUseError(lock.lost)


def read_holder(job: epath.PathLike) -> dict[str, Any] | None:
    """Reads who holds the lock of a job directory.

    Returns:
        The content of `holder.json`: {} if it is unreadable, None if there is none.
    """
    path = epath.Path(job) / HOLDER_FILE
    if not path.exists():
        return None
    try:
        holder = json_files.read(path)
    except ValueError:
        holder = None  # it is being written, or no holder wrote it
    return holder if isinstance(holder, dict) else {}


class _JobLock:
    """A lock that this process holds, and the thread that gives its signs of life.

    Attributes:
        lost: The message of an error that says who has taken the lock; '' while it is held.
    """

    def __init__(self, job: epath.Path, holder: dict[str, Any], lock_file: IO | None):
        self._job, self._holder, self._lock_file = job, holder, lock_file
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="job_lock", daemon=True)
        self.lost = ""

    def start(self) -> None:
        """Writes the first sign of life; raises JobInUseError if another run does too."""
        self._write_sign()
        if self._lock_file is None:
            time.sleep(SETTLING_SECONDS)
            if not self._is_held():
                raise _in_use_error(self._job, read_holder(self._job))
        self._thread.start()
        atexit.register(self.release)

    def release(self) -> None:
        """Unlocks the directory."""
        self._stop.set()
        self._thread.join()
        # If the file cannot be removed, others find that its writer is dead.
        with contextlib.suppress(OSError):
            if self._is_held():
                (self._job / HOLDER_FILE).unlink()
        if self._lock_file is not None:
            self._lock_file.close()
        _locks.pop(str(self._job), None)
        atexit.unregister(self.release)

    def _run(self) -> None:
        while not self._stop.wait(SIGN_SECONDS):
            try:
                if not self._is_held():
                    self.lost = str(_in_use_error(self._job, read_holder(self._job)))
                    logging.error("%s", self.lost)
                    return
                self._write_sign()
            except Exception as error:  # any error of the file system: try again, and keep training
                logging.warning("%s: no sign of life written: %s", self._job, error)

    def _is_held(self) -> bool:
        return (read_holder(self._job) or {}).get("token") == self._holder["token"]

    def _write_sign(self) -> None:
        self._holder["signs"] += 1
        self._holder["time"] = time.time()
        path, text = self._job / HOLDER_FILE, json.dumps(self._holder, indent=1) + "\n"
        if _is_url(self._job):
            path.write_text(text)  # object storage writes atomically
            return
        unfinished = path.with_name(f"{HOLDER_FILE}.unfinished")
        unfinished.write_text(text)
        unfinished.replace(path)


def _acquire_on_first_host(job: epath.Path, experiment: str) -> None:
    if str(job) in _locks:
        return
    job.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        lock_file = None if _is_url(job) else _lock_file(job)
        if lock_file:
            stack.enter_context(lock_file)
        boot = _BOOT_ID.read_text().strip()
        before = read_holder(job)
        # A process of this machine that is alive would hold the system's lock.
        if before is not None and not (lock_file and before.get("boot") == boot):
            _wait_until_dead(job, before)
        holder = {
            "token": uuid.uuid4().hex,
            "experiment": experiment,
            "command": shlex.join(sys.argv),
            "host": socket.gethostname(),
            "boot": boot,
            "pid": os.getpid(),
            "hosts": jax.process_count(),
            "since": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "signs": 0,
        }
        lock = _JobLock(job, holder, lock_file)
        lock.start()
        _locks[str(job)] = lock
        stack.pop_all()


def _lock_file(job: epath.Path) -> IO | None:
    """Opens and locks `holder.lock`; None if the file system has no locks.

    Raises:
        JobInUseError: Another process has locked it.
    """
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(open(job / LOCK_FILE, "a"))
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _in_use_error(job, read_holder(job)) from None
        except OSError as error:
            logging.warning("%s: its file system has no locks (%s)", job, error)
            return None
        stack.pop_all()
        return file


def _wait_until_dead(job: epath.Path, holder: dict[str, Any]) -> None:
    """Returns when a holder beyond the reach of the system's lock is dead.

    Raises:
        JobInUseError: It is alive.
    """
    last_sign = holder.get("time")
    if isinstance(last_sign, float) and time.time() - last_sign > _STALE_SECONDS:
        return
    logging.info("%s: waiting for a sign of life of %s", job, _describe(holder))
    end = time.monotonic() + SILENCE_SECONDS
    while time.monotonic() < end:
        time.sleep(min(1.0, SIGN_SECONDS))
        now = read_holder(job)
        if now is None:
            return  # it has ended
        if now != holder:
            raise _in_use_error(job, now)


def _in_use_error(job: epath.Path, holder: dict[str, Any] | None) -> JobInUseError:
    return JobInUseError(
        f"another run trains in {job}: {_describe(holder or {})}; wait until it ends, stop it, or "
        "give this one a --job_log_dir of its own"
    )


def _describe(holder: dict[str, Any]) -> str:
    if not holder:
        return f"its {HOLDER_FILE} does not say which"
    hosts = holder.get("hosts", 1)
    others = f" and {hosts - 1} more" if isinstance(hosts, int) and hosts > 1 else ""
    return (
        f"{holder.get('experiment')}, process {holder.get('pid')} on {holder.get('host')}{others}, "
        f"since {holder.get('since')} ({holder.get('command')})"
    )


def _is_url(job: epath.Path) -> bool:
    return "://" in str(job)


def _from_first_host(message: str) -> str:
    """Returns the first host's message on every host."""
    content = message.encode()[:_MESSAGE_BYTES].ljust(_MESSAGE_BYTES, b"\0")
    sent = multihost_utils.broadcast_one_to_all(np.frombuffer(content, np.uint8).astype(np.int32))
    return np.asarray(sent).astype(np.uint8).tobytes().rstrip(b"\0").decode(errors="replace")
