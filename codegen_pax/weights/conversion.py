"""What importing and exporting share: an output folder that appears complete, and moving slices.

Everything is written to `<output>.unfinished`, which is renamed to `<output>` when it is complete
and on the disk. A conversion that fails removes it. A process that is killed leaves it behind; the
same command then removes it and starts again.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import fcntl
import os
import shutil
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import IO

import numpy as np

from codegen_pax import floats
from codegen_pax.errors import ExistingFileError, InvalidValueError
from codegen_pax.weights.layouts import Layout, Weight
from codegen_pax.weights.slices import Slice

# Slices that are in memory at a time: while one is read or written, others are transposed.
THREADS = 4

SUFFIX = ".unfinished"
# The most bytes that a conversion writes besides weights: tokenizer, lineage, descriptions.
OTHER_BYTES = 16 << 20
# Its presence distinguishes a conversion's folder from a user's; its lock means it is in use.
LOCK_FILE = "conversion.lock"
_TENSORSTORE_LOCKS = "*.__lock"  # files that tensorstore leaves behind


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a conversion moves, in either direction.

    Attributes:
        layout: the layout of the foreign tensors.
        slices: the slices of the layout.
        dtypes: the type that each weight is written as.
    """

    layout: Layout
    slices: tuple[Slice, ...]
    dtypes: Mapping[Weight, np.dtype]

    @property
    def moved_bytes(self) -> int:
        """Total bytes of all slices."""
        return sum(map(self.slice_bytes, self.slices))

    def slice_bytes(self, slice_: Slice) -> int:
        """Returns the bytes of one slice as it is written."""
        return slice_.size(self.layout.dims) * self.dtypes[slice_.weight].itemsize

    @property
    def dtype_names(self) -> list[str]:
        """The types that weights are written as."""
        return sorted({dtype.name for dtype in self.dtypes.values()})


def move(
    plan: Plan,
    slices: Iterable[Slice],
    move_one: Callable[[Slice], None],
    on_bytes: Callable[[int], None],
) -> None:
    """Moves slices, `THREADS` at a time.

    Args:
        plan: the plan of the conversion.
        slices: slices of the plan: those of one weight, or all.
        move_one: moves a slice, in any thread.
        on_bytes: called with the bytes of each slice that has been moved, in any thread.

    Raises:
        Exception: the first error of `move_one`, after which no further slice is begun.
    """
    remaining = iter(list(slices))
    taking = threading.Lock()
    stop = threading.Event()

    def convert_slices() -> None:
        while not stop.is_set():
            with taking:
                slice_ = next(remaining, None)
            if slice_ is None:
                return
            try:
                move_one(slice_)
            except BaseException:
                stop.set()
                raise
            on_bytes(plan.slice_bytes(slice_))

    with concurrent.futures.ThreadPoolExecutor(THREADS, "slices") as pool:
        workers = [pool.submit(convert_slices) for _ in range(THREADS)]
        try:
            for worker in concurrent.futures.as_completed(workers):
                worker.result()
        except BaseException:  # an interrupt too
            stop.set()
            raise


def non_finite_error(
    plan: Plan, description: str, tensor: str, read: Callable[[Slice], np.ndarray]
) -> InvalidValueError:
    """Returns an error that names the numbers of a foreign tensor that are not finite.

    Args:
        plan: the plan of the conversion.
        description: a description of the tensor, for the message.
        tensor: the name of the tensor.
        read: reads the rows of a slice; all slices of the tensor are read again.
    """
    of_tensor = [slice_ for slice_ in plan.slices if slice_.tensor == tensor]
    of_tensor.sort(key=lambda slice_: slice_.start)
    parts = ((slice_.start, read(slice_)) for slice_ in of_tensor)
    return floats.non_finite_error(description, plan.layout.shapes[tensor], parts)


class StagingFolder:
    """The folder `<output>.unfinished`, which becomes the output when it is committed.

    Attributes:
        path: the folder to write to.
    """

    def __init__(self, output: Path):
        """Makes an empty folder, after removing what a killed conversion may have left there.

        Args:
            output: the folder to be made.

        Raises:
            FileExistsError: `output` exists and is not empty, or `<output>.unfinished` was not made
                by a conversion.
            BlockingIOError: another process is writing to it.
        """
        check_new(output)
        self._output = output
        self._committed = False
        self.path = output.with_name(output.name + SUFFIX)
        self._lock = self._acquire()
        try:
            check_new(output)  # another process may have finished it in the meantime
            for path in self.path.iterdir():
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                elif path.name != LOCK_FILE:
                    path.unlink()
        except BaseException:
            self.close()
            raise

    def commit(self) -> None:
        """Renames the folder to the output, once all its content is on the disk."""
        for path in [*self.path.rglob("*")]:
            if path.match(_TENSORSTORE_LOCKS):
                path.unlink()
            else:
                _sync(path)
        _sync(self.path)
        if self._output.exists():
            self._output.rmdir()  # it was empty
        os.replace(self.path, self._output)
        self._committed = True
        (self._output / LOCK_FILE).unlink()
        _sync(self._output.parent)

    def close(self) -> None:
        """Removes the folder if it was not committed, and releases its lock."""
        if not self._committed:
            # Removed while the lock is held, so that a folder another process makes next stays.
            shutil.rmtree(self.path, ignore_errors=True)
        self._lock.close()

    def __enter__(self) -> StagingFolder:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def _acquire(self) -> IO[str]:
        """Makes the folder, and returns its lock file, locked by this process."""
        while True:
            self.path.mkdir(parents=True, exist_ok=True)
            path = self.path / LOCK_FILE
            if not path.is_file() and any(self.path.iterdir()):
                raise ExistingFileError(
                    f"{self.path} has no {LOCK_FILE}, so it was not left by a conversion of this "
                    "version: remove it first"
                )
            with contextlib.suppress(FileNotFoundError), contextlib.ExitStack() as closing:
                lock = closing.enter_context(open(path, "a"))
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    raise BlockingIOError(f"another process is writing {self.path}") from None
                # The process that held the lock may have removed or renamed the folder since.
                if os.path.samestat(os.fstat(lock.fileno()), path.stat()):
                    closing.pop_all()
                    return lock


def _sync(path: Path) -> None:
    """Waits until a file, or a folder's list of names, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def check_new(output: Path) -> None:
    """Raises FileExistsError if `output` is a file, or a folder that is not empty."""
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise ExistingFileError(
            f"{output} already exists; expected a new folder, or remove this one first"
        )


def check_room(output: Path, needed: int) -> None:
    """Checks that the disk has room for a folder.

    Args:
        output: a folder to be made on the disk.
        needed: bytes needed; the space that a killed conversion's folder takes counts as free.

    Raises:
        OSError: the disk has too little room.
    """
    folder = output.absolute()
    leftover = folder.with_name(folder.name + SUFFIX)
    # Counts blocks on the disk, since a file that was made at its full size may still be empty.
    reclaimed = sum(path.lstat().st_blocks * 512 for path in leftover.rglob("*"))
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free + reclaimed
    if needed > free:
        raise OSError(
            f"no room for {output}: it needs {needed / 1e9:,.2f} GB, and "
            f"{free / 1e9:,.2f} GB are free in {folder}"
        )
