"""The Pax input over a stream of rows, which resumes exactly, on any number of hosts."""

from __future__ import annotations

import concurrent.futures
import json
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from etils import epath
from praxis import py_utils

from codegen_pax.data.stream import row_readers
from codegen_pax.data.stream.mixture_rows import MixtureRows, short
from codegen_pax.data.stream.schedule import Schedule, shares
from codegen_pax.errors import InvalidValueError
from codegen_pax.runs import lineage

FORMAT = 2  # of the state, and of what stands at a position


# What a run does with each checkpoint that is being saved, before anything of it is written. Pax
# makes inputs by itself, and so a run (`runs.checkpoints.follow`) can hand them nothing.
on_save: list[Callable[[epath.Path], None]] = []


class ChangedDataError(InvalidValueError):
    """A run was to be resumed on other data than it was stopped on."""


class TrainingRows(MixtureRows):
    """Batches of rows without end.

    Attributes:
      seed: of the order of the rows.
    """

    seed: int = 0

    def __post_init__(self):
        super().__post_init__()
        self._position = 0  # of the first row of the next global batch
        self._schedule: Schedule | None = None
        self._rows: list[row_readers.Rows] = []
        self._ahead: tuple[int, concurrent.futures.Future] | None = None
        self._pool = concurrent.futures.ThreadPoolExecutor(1, f"{self.name}_rows")

    def _open(self) -> Schedule:
        """The schedule; opens it and `_rows` when first asked: Pax makes inputs it never reads."""
        if self._schedule is None:
            rates = self.rates()
            found = self.open_tasks(rates)
            self._rows = list(found.values())
            sizes = {name: rows.count for name, rows in found.items()}
            pages = {name: rows.page_rows for name, rows in found.items()}
            schedule = Schedule(sizes, shares(rates), pages, self.seed)
            self.check_hosts(self._identity(schedule))
            self._schedule = schedule
        return self._schedule

    @property
    def position(self) -> int:
        """The first row of the next batch, counted over all hosts from the first of the run."""
        return self._position

    def _global_batch(self) -> int:
        return self.batch_size * self.num_infeed_hosts

    def _batch(self, position: int) -> py_utils.NestedMap:
        """This host's slice of the global batch that begins at a position."""
        schedule = self._open()
        first = position + self.infeed_host_index * self.batch_size
        tasks, rows = schedule.rows(np.arange(first, first + self.batch_size))
        return self.fields(self._rows, tasks, rows)

    def get_next(self) -> py_utils.NestedMap:
        """The next batch of this host; the one after it is begun meanwhile."""
        self._open()  # here: hosts ask each other in the thread that runs the steps
        ahead, self._ahead = self._ahead, None  # gone if it fails: who asks again reads again
        if ahead is None or ahead[0] != self._position:
            ahead = (self._position, self._pool.submit(self._batch, self._position))
        batch = ahead[1].result()
        self._position += self._global_batch()
        self._ahead = (self._position, self._pool.submit(self._batch, self._position))
        return batch

    def reset(self) -> None:
        """Begins again with the first row."""
        super().reset()
        self._position = 0

    def identity(self) -> dict[str, Any]:
        """What decides the row at a position: two streams with the same identity are the same."""
        return self._identity(self._open())

    def _identity(self, schedule: Schedule) -> dict[str, Any]:
        tasks = {
            name: {
                "rows": rows.count,
                "page_rows": rows.page_rows,
                "share": schedule.shares[name],
                "data": rows.fingerprint,
            }
            for name, rows in zip(schedule.sizes, self._rows, strict=True)
        }
        return {
            "format": FORMAT,
            "mixture": self.mixture_name,
            "split": self.split_name,
            "row_length": self.row_length,
            "packing": self.packing,
            "seed": self.seed,
            "tasks": tasks,
        }

    def _get_state_internal(self) -> bytes:
        return json.dumps({"position": self._position, "identity": self.identity()}).encode()

    def _set_state_internal(self, state: bytes) -> None:
        try:
            said = json.loads(state)
            position, found = said["position"], said["identity"]
        except (ValueError, KeyError, TypeError) as error:
            raise ChangedDataError(
                f"the state of {self.name} is not of this kind of input ({error}): the checkpoint"
                " was written by another version, or reads its rows otherwise"
            ) from error
        if found != (wanted := self.identity()):
            raise ChangedDataError(
                f"{self.mixture_name} is not what the checkpoint was trained on: "
                f"{'; '.join(_differences(found, wanted))}. Resume with the data it was trained"
                " on, or start a new job from its weights"
            )
        self._position = position

    def save(self, checkpoint_path: epath.PathLike) -> None:
        """Saves the state of this process; the first one adds the job's lineage.

        It is the one part of ours that the stock binary takes along into each checkpoint, before
        that is renamed, or marked as whole.

        Args:
          checkpoint_path: `<checkpoint>/train_input/process_<index>-of-<count>`.

        Raises whatever `on_save` does.
        """
        checkpoint = epath.Path(checkpoint_path).parent.parent
        for call in on_save:
            call(checkpoint)
        super().save(checkpoint_path)
        if jax.process_index() == 0:
            lineage.copy_to(checkpoint)

    def restore(self, checkpoint_path: epath.PathLike) -> None:
        """Restores the state of this process, or of any other: they are all the same.

        A run that was stopped on another number of hosts has files of other names.
        """
        path = epath.Path(checkpoint_path)
        if not path.exists():
            # Not by a glob, which would take brackets in the job's name for a pattern too.
            there = path.parent.iterdir() if path.parent.is_dir() else ()
            others = sorted(other for other in there if other.name.startswith("process_"))
            path = others[0] if others else path
        super().restore(path)


def _differences(found: Any, wanted: Any, name: str = "") -> list[str]:
    """What differs between two identities, a line each."""
    if isinstance(found, dict) and isinstance(wanted, dict):
        keys = [*wanted, *(key for key in found if key not in wanted)]
        return [
            line
            for key in keys
            if found.get(key) != wanted.get(key)
            for line in _differences(found.get(key), wanted.get(key), f"{name} {key}".strip())
        ]
    return [f"{name}: then {short(found)}, now {short(wanted)}"]
