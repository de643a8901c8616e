"""A folder that is made whole or not at all, and that can be gone on with when it was cut short.

Everything is written to `<folder>.unfinished`, which is renamed when all of it is there. A journal
in it says for what it was begun and what is done: a process that is killed at any point loses the
pieces it was at, and no more.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import threading
from pathlib import Path

SUFFIX = ".unfinished"
_JOURNAL = "journal"
_LOCKS = "*.__lock"  # that tensorstore leaves when it is killed


class Workspace:
    """The unfinished folder.

    Attributes:
        folder: where to write.
        done: the pieces that an earlier run has written.
    """

    def __init__(self, output: Path, purpose: dict):
        """Opens the unfinished folder of `output`; empties it if it was begun for another purpose.

        Args:
            output: the folder that is to be.
            purpose: what decides its content, as plain values.

        Raises:
            FileExistsError: `output` is there already and not empty.
            BlockingIOError: another process is writing it.
        """
        if output.exists() and (not output.is_dir() or any(output.iterdir())):
            raise FileExistsError(
                f"{output} is there already; wanted a new folder, or remove this one first"
            )
        self._output = output
        self.folder = output.with_name(output.name + SUFFIX)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._journal = open(self.folder / _JOURNAL, "a+")  # noqa: SIM115 (closed by `close`)
        self._writing = threading.Lock()
        try:
            fcntl.flock(self._journal, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._journal.close()
            raise BlockingIOError(f"another process is writing {self.folder}") from None
        self.done = self._take_up(json.dumps(purpose, sort_keys=True))

    def mark(self, piece: str) -> None:
        """Says that a piece is written."""
        with self._writing:
            self._journal.write(f"{piece}\n")
            self._journal.flush()

    def finish(self) -> None:
        """Gives the folder its name: all of it is there."""
        for lock in self.folder.rglob(_LOCKS):
            lock.unlink()
        (self.folder / _JOURNAL).unlink()
        if self._output.exists():
            self._output.rmdir()  # it was empty
        os.replace(self.folder, self._output)

    def close(self) -> None:
        """Lets go of the folder, finished or not."""
        self._journal.close()

    def __enter__(self) -> Workspace:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def _take_up(self, purpose: str) -> set[str]:
        """What is done, if the folder was begun for this; empties it if not."""
        self._journal.seek(0)
        lines = self._journal.read().split("\n")
        if lines[0] == purpose:
            return set(lines[1:-1])  # a last line without an end was being written
        for path in self.folder.iterdir():
            if path.name != _JOURNAL:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        self._journal.truncate(0)
        self._journal.write(f"{purpose}\n")
        self._journal.flush()
        return set()


def check_room(output: Path, wanted: int, have: int = 0) -> None:
    """Raises OSError unless the disk has room.

    Args:
        output: a folder that is to be on it.
        wanted: bytes that will be written.
        have: bytes of them that are written already.
    """
    folder = output.absolute()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if wanted - have > free:
        raise OSError(
            f"no room for {output}: {(wanted - have) / 1e9:,.2f} GB are wanted, "
            f"{free / 1e9:,.2f} GB are free in {folder}"
        )
