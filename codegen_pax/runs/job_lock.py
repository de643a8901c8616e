"""Which run trains in a job's directory: one at a time, of however many hosts.

Its first host holds the directory, for all of them, until it ends:

    holder.lock   locked by that process; the system unlocks it when the process dies, however
    holder.json   who it is, for others to read; written anew every few seconds, removed at the end

A lock reaches every process of a machine, and of a network file system that keeps locks. Where it
does not reach (a bucket, another machine), a process that finds `holder.json` waits for it to
change: if it does, its writer lives, and if not, it is dead. No clock is compared with another's.
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

FILE = "holder.json"
LOCK = "holder.lock"

SIGN_SECONDS = 10.0  # between two signs of life
SILENCE_SECONDS = 60.0  # without one, a holder is dead
# Its own last sign is so old, by a clock that need not be ours, that nobody waits for another.
_LONG_AGO = 3_600.0
# Of two that write `holder.json` of a bucket at once, the last one holds it: both look again then.
_SETTLED_SECONDS = 2.0

_BOOT = Path("/proc/sys/kernel/random/boot_id")  # another one whenever the machine has started
_MESSAGE_BYTES = 2_048

_held: dict[str, _Hold] = {}


class JobInUseError(UserError):
    """Another run trains in the job's directory."""


def hold(job: epath.PathLike, experiment: str) -> None:
    """Makes this run the one that trains in a job's directory, until its first host ends.

    Every host of a run calls it, after `jax.distributed` has been initialised.

    Args:
      job: the directory; made if it is not there.
      experiment: what is trained, for whoever finds it held.

    Raises:
      JobInUseError: another run trains there; raised on every host.
    """
    found: Exception | None = None
    if jax.process_index() == 0:
        try:
            _take(epath.Path(job), experiment)
        except (UserError, OSError) as error:
            found = error
    said = str(found or "")
    if jax.process_count() > 1:
        said = _from_the_first_host(said)
    if said:
        raise found or JobInUseError(said)


def check_held(job: epath.PathLike) -> None:
    """Raises JobInUseError if another run has taken a directory from this process meanwhile.

    That happens where no lock reaches, to a process that could give no sign of life for long.
    """
    own = _held.get(str(job))
    if own and own.lost:
        raise JobInUseError(own.lost)


def read(job: epath.PathLike) -> dict[str, Any] | None:
    """Who holds a job's directory, as its `holder.json` says; None without one."""
    path = epath.Path(job) / FILE
    if not path.exists():
        return None
    try:
        said = json_files.read(path)
    except ValueError:
        said = None  # it is being written, or is another's
    return said if isinstance(said, dict) else {}


class _Hold:
    """A directory that this process holds, and the thread that gives its signs of life.

    Attributes:
      lost: who has taken it from this process, as an error says it; nothing while it is held.
    """

    def __init__(self, job: epath.Path, said: dict[str, Any], lock: IO | None):
        self._job, self._said, self._lock = job, said, lock
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._live, name="holder", daemon=True)
        self.lost = ""

    def start(self) -> None:
        """Says whose the directory is; JobInUseError if another has said so at the same time."""
        self._sign()
        if self._lock is None:
            time.sleep(_SETTLED_SECONDS)
            if not self._is_ours():
                raise _in_use(self._job, read(self._job))
        self._thread.start()
        atexit.register(self.release)

    def release(self) -> None:
        """Lets go of the directory."""
        self._end.set()
        self._thread.join()
        # What cannot be removed is a dead holder's.
        with contextlib.suppress(OSError):
            if self._is_ours():
                (self._job / FILE).unlink()
        if self._lock is not None:
            self._lock.close()
        _held.pop(str(self._job), None)
        atexit.unregister(self.release)

    def _live(self) -> None:
        while not self._end.wait(SIGN_SECONDS):
            try:
                if not self._is_ours():
                    self.lost = str(_in_use(self._job, read(self._job)))
                    logging.error("%s", self.lost)
                    return
                self._sign()
            except Exception as error:  # whatever the file system raises: try again, and train on
                logging.warning("%s: no sign of life written: %s", self._job, error)

    def _is_ours(self) -> bool:
        return (read(self._job) or {}).get("token") == self._said["token"]

    def _sign(self) -> None:
        self._said["signs"] += 1
        self._said["time"] = time.time()
        path, text = self._job / FILE, json.dumps(self._said, indent=1) + "\n"
        if _is_url(self._job):
            path.write_text(text)  # whole or not at all
            return
        unfinished = path.with_name(f"{FILE}.unfinished")
        unfinished.write_text(text)
        unfinished.replace(path)


def _take(job: epath.Path, experiment: str) -> None:
    if str(job) in _held:
        return
    job.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as closing:
        lock = None if _is_url(job) else _locked(job)
        if lock:
            closing.enter_context(lock)
        boot = _boot()
        before = read(job)
        # A process of this machine that lives would have the lock.
        if before is not None and not (lock and before.get("boot") == boot):
            _wait_until_dead(job, before)
        said = {
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
        hold = _Hold(job, said, lock)
        hold.start()
        _held[str(job)] = hold
        closing.pop_all()


def _locked(job: epath.Path) -> IO | None:
    """The lock of a directory of this machine; None where the file system has no locks.

    Raises JobInUseError if another process has it.
    """
    with contextlib.ExitStack() as closing:
        lock = closing.enter_context(open(job / LOCK, "a"))
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _in_use(job, read(job)) from None
        except OSError as error:
            logging.warning("%s: its file system has no locks (%s)", job, error)
            return None
        closing.pop_all()
        return lock


def _wait_until_dead(job: epath.Path, found: dict[str, Any]) -> None:
    """Returns when a holder that no lock tells of is dead; JobInUseError if it lives."""
    last = found.get("time")
    if isinstance(last, float) and time.time() - last > _LONG_AGO:
        return
    logging.info("%s: waiting for a sign of life of %s", job, _described(found))
    end = time.monotonic() + SILENCE_SECONDS
    while time.monotonic() < end:
        time.sleep(min(1.0, SIGN_SECONDS))
        now = read(job)
        if now is None:
            return  # it has ended
        if now != found:
            raise _in_use(job, now)


def _in_use(job: epath.Path, found: dict[str, Any] | None) -> JobInUseError:
    return JobInUseError(
        f"another run trains in {job}: {_described(found or {})}; wait until it has ended, stop it,"
        " or give this one a --job_log_dir of its own"
    )


def _described(found: dict[str, Any]) -> str:
    """A holder, in words."""
    if not found:
        return f"its {FILE} does not say which"
    hosts = found.get("hosts", 1)
    also = f" and {hosts - 1} more" if isinstance(hosts, int) and hosts > 1 else ""
    return (
        f"{found.get('experiment')}, process {found.get('pid')} on {found.get('host')}{also},"
        f" since {found.get('since')} ({found.get('command')})"
    )


def _boot() -> str:
    return _BOOT.read_text().strip()


def _is_url(job: epath.Path) -> bool:
    return "://" in str(job)


def _from_the_first_host(said: str) -> str:
    """What the first host says, on every host."""
    content = said.encode()[:_MESSAGE_BYTES].ljust(_MESSAGE_BYTES, b"\0")
    sent = multihost_utils.broadcast_one_to_all(np.frombuffer(content, np.uint8).astype(np.int32))
    return np.asarray(sent).astype(np.uint8).tobytes().rstrip(b"\0").decode(errors="replace")
