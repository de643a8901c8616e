"""Moves the cuts of a network, several at a time, and never holds more than those."""

from __future__ import annotations

import concurrent.futures
import threading
from collections.abc import Callable, Iterable

from codegen_pax.weights.cuts import Cut
from codegen_pax.weights.workspace import Workspace

# Cuts that are alive at a time: while one is read or written others are turned.
THREADS = 4


def move(
    cuts: Iterable[Cut],
    one: Callable[[Cut], None],
    nbytes: Callable[[Cut], int],
    workspace: Workspace,
    on_bytes: Callable[[int], None],
) -> None:
    """Moves every cut that is not done yet.

    Args:
        cuts: of one weight or of all.
        one: moves a cut, in any thread.
        nbytes: of a cut.
        workspace: is told what is done.
        on_bytes: is told of the bytes of each.

    Raises:
        Whatever `one` raised first; no further cut is begun then.
    """
    waiting = iter([cut for cut in cuts if key(cut) not in workspace.done])
    taking = threading.Lock()
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            with taking:
                cut = next(waiting, None)
            if cut is None:
                return
            try:
                one(cut)
            except BaseException:
                stop.set()
                raise
            workspace.mark(key(cut))
            on_bytes(nbytes(cut))

    with concurrent.futures.ThreadPoolExecutor(THREADS, "cuts") as pool:
        workers = [pool.submit(work) for _ in range(THREADS)]
        try:
            for worker in concurrent.futures.as_completed(workers):
                worker.result()
        except BaseException:  # an interrupt too
            stop.set()
            raise


def moved_before(cuts: Iterable[Cut], nbytes: Callable[[Cut], int], workspace: Workspace) -> int:
    """Bytes of the cuts that an earlier run has moved."""
    return sum(nbytes(cut) for cut in cuts if key(cut) in workspace.done)


def key(cut: Cut) -> str:
    """What a journal calls a cut."""
    return f"{cut.tensor} {cut.start} {cut.stop}"
