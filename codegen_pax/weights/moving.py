"""Moves the cuts of a network, several at a time, and never holds more than those."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import threading
from collections.abc import Callable, Iterable, Mapping

import numpy as np

from codegen_pax.errors import InvalidValueError
from codegen_pax.weights import cuts, finite
from codegen_pax.weights.cuts import Cut, Layout
from codegen_pax.weights.layout import Dimensions, Weight
from codegen_pax.weights.workspace import Workspace

# Cuts that are alive at a time: while one is read or written others are turned.
THREADS = 4


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is moved, whichever way.

    Attributes:
        layout: the foreign one.
        dims: the sizes of the network.
        dtypes: what each weight is written as.
    """

    layout: Layout
    dims: Dimensions
    dtypes: Mapping[Weight, np.dtype]

    @property
    def moved(self) -> int:
        """Bytes of all cuts."""
        return sum(map(self.cut_bytes, self.layout.cuts))

    def moved_before(self, workspace: Workspace) -> int:
        """Bytes of the cuts that an earlier run has moved."""
        return sum(self.cut_bytes(cut) for cut in self.layout.cuts if key(cut) in workspace.done)

    def cut_bytes(self, cut: Cut) -> int:
        """Bytes of one cut."""
        return cuts.count(cut, self.dims) * self.dtypes[cut.weight].itemsize


def move(
    plan: Plan,
    of_plan: Iterable[Cut],
    one: Callable[[Cut], None],
    workspace: Workspace,
    on_bytes: Callable[[int], None],
) -> None:
    """Moves every cut that is not done yet.

    Args:
        plan: tells how large each is.
        of_plan: its cuts, those of one weight or all.
        one: moves a cut, in any thread.
        workspace: is told what is done.
        on_bytes: is told of the bytes of each.

    Raises:
        Whatever `one` raised first; no further cut is begun then.
    """
    waiting = iter([cut for cut in of_plan if key(cut) not in workspace.done])
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
            on_bytes(plan.cut_bytes(cut))

    with concurrent.futures.ThreadPoolExecutor(THREADS, "cuts") as pool:
        workers = [pool.submit(work) for _ in range(THREADS)]
        try:
            for worker in concurrent.futures.as_completed(workers):
                worker.result()
        except BaseException:  # an interrupt too
            stop.set()
            raise


def not_finite(
    plan: Plan, what: str, tensor: str, read: Callable[[Cut], np.ndarray]
) -> InvalidValueError:
    """An error that says which numbers of a foreign tensor are not finite.

    Args:
        plan: of the conversion.
        what: the tensor, as the message calls it.
        tensor: its name.
        read: gives the rows of a cut; all cuts of the tensor are read again.
    """
    of_tensor = (cut for cut in plan.layout.cuts if cut.tensor == tensor)
    parts = ((cut.start, read(cut)) for cut in sorted(of_tensor, key=lambda cut: cut.start))
    return finite.refusal(what, plan.layout.shapes[tensor], parts)


def key(cut: Cut) -> str:
    """What a journal calls a cut."""
    return f"{cut.tensor} {cut.start} {cut.stop}"
