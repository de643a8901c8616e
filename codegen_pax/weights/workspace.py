"""A folder that is made whole or not at all, and that can be gone on with when it was cut short.

Everything is written to `<folder>.unfinished`, which is renamed when all of it is there. A journal
in it says for what it was begun and what is done: a process that is killed at any point loses the
pieces it was at, and no more; a machine that goes down loses all of an unfinished folder.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import threading
from pathlib import Path
from typing import IO

from codegen_pax.errors import ExistingFileError, UserError

SUFFIX = ".unfinished"
# Bytes, at most, of what a conversion writes besides weights: tokenizer, lineage, descriptions.
BESIDES = 16 << 20
_JOURNAL = "journal"
_FORMAT = 2  # of it
_BEGINS = '{"for": '  # its first line
_BOOT = Path("/proc/sys/kernel/random/boot_id")  # another one whenever the machine has started
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
            FileExistsError: `output` is there already and not empty, or what would be its
                unfinished folder is none of ours.
            BlockingIOError: another process is writing it.
        """
        check_new(output)
        self._output = output
        self.folder = output.with_name(output.name + SUFFIX)
        self._writing = threading.Lock()
        self._journal = self._locked()
        try:
            check_new(output)  # another process may have finished it just now
            # What a machine that went down had not yet brought to its disk is lost without a trace.
            begun = {"format": _FORMAT, "since": _BOOT.read_text().strip(), "for": purpose}
            self.done = self._take_up(json.dumps(begun, sort_keys=True))
        except OSError:
            self._empty = not os.fstat(self._journal.fileno()).st_size
            self.close()
            raise

    def mark(self, piece: str) -> None:
        """Says that a piece is written."""
        with self._writing:
            self._journal.write(f"{piece}\n")
            self._journal.flush()
            self._empty = False

    def finish(self) -> None:
        """Gives the folder its name: all of it is there, and on the disk."""
        for path in [*self.folder.rglob("*")]:
            if path.match(_LOCKS):
                path.unlink()
            else:
                _to_disk(path)
        _to_disk(self.folder)
        if self._output.exists():
            self._output.rmdir()  # it was empty
        os.replace(self.folder, self._output)
        self._empty = False
        (self._output / _JOURNAL).unlink()
        _to_disk(self._output.parent)

    def close(self) -> None:
        """Lets go of the folder; removes it if nothing in it is worth going on with."""
        if self._empty:
            # Another process may begin in it meanwhile: what it makes stays.
            shutil.rmtree(self.folder, ignore_errors=True)
        self._journal.close()

    def __enter__(self) -> Workspace:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_) -> None:
        # What the files are refused for now they will be refused for again: nothing to go on with.
        self._empty |= kind is not None and issubclass(kind, UserError)
        self.close()

    def _locked(self) -> IO[str]:
        """The folder's journal, made if it is not there, which no other process has now."""
        while True:
            self.folder.mkdir(parents=True, exist_ok=True)
            path = self.folder / _JOURNAL
            if not path.is_file() and any(self.folder.iterdir()):
                raise ExistingFileError(
                    f"{self.folder} has no journal, and so is no unfinished conversion: remove it "
                    "first"
                )
            with contextlib.suppress(FileNotFoundError), contextlib.ExitStack() as closing:
                journal = closing.enter_context(open(path, "a+", errors="replace"))
                try:
                    fcntl.flock(journal, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    raise BlockingIOError(f"another process is writing {self.folder}") from None
                # Who had it may have removed or renamed the folder since it was opened.
                if os.path.samestat(os.fstat(journal.fileno()), path.stat()):
                    closing.pop_all()
                    return journal

    def _take_up(self, begun: str) -> set[str]:
        """What is done, if the folder was begun for this; empties it if not."""
        self._journal.seek(0)
        lines = self._journal.read().split("\n")
        done = set(lines[1:-1])  # a last line without an end was being written
        self._empty = lines[0] != begun or not done
        if lines[0] == begun:
            return done
        if not lines[0].startswith(_BEGINS) and lines != [_BEGINS[: len(lines[0])]]:
            raise ExistingFileError(
                f"{self.folder} has a journal that is none of ours: remove the folder first"
            )
        for path in self.folder.iterdir():
            if path.name != _JOURNAL:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        self._journal.truncate(0)
        self._journal.write(f"{begun}\n")
        self._journal.flush()
        return set()


def _to_disk(path: Path) -> None:
    """Waits until a file, or a folder's list of names, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def check_new(output: Path) -> None:
    """Raises FileExistsError unless there is nothing of that name, or an empty folder."""
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise ExistingFileError(
            f"{output} is there already; wanted a new folder, or remove this one first"
        )


def check_room(output: Path, wanted: int) -> None:
    """Raises OSError unless the disk has room.

    Args:
        output: a folder that is to be on it.
        wanted: bytes of it; those that its unfinished folder has already are there.
    """
    folder = output.absolute()
    unfinished = folder.with_name(folder.name + SUFFIX)
    # What is on the disk: a file that was made at its full size may be empty yet.
    have = sum(path.lstat().st_blocks * 512 for path in unfinished.rglob("*"))
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if wanted - have > free:
        raise OSError(
            f"no room for {output}: {(wanted - have) / 1e9:,.2f} GB are wanted, "
            f"{free / 1e9:,.2f} GB are free in {folder}"
        )
