"""The Pax input for training: an endless stream of rows that resumes exactly, on any hosts."""

from __future__ import annotations

import concurrent.futures
import json
from collections.abc import Callable
from typing import Any

import numpy as np
from etils import epath
from praxis import py_utils

from codegen_pax.data.stream import row_readers
from codegen_pax.data.stream.mixture_rows import MixtureRows, abbreviate
from codegen_pax.data.stream.schedule import Schedule, shares
from codegen_pax.errors import InvalidValueError

FORMAT = 2  # of the saved state, and of the mapping from positions to rows

# Called with the folder of each checkpoint that is about to be saved, before anything is written to
# it. A module variable, because Pax makes the inputs itself and a run cannot pass them anything;
# `runs.verification.watch_saves` sets it.
on_save: list[Callable[[epath.Path], None]] = []


class ChangedDataError(InvalidValueError):
    """A run would resume on other data than its checkpoint was trained on."""


class TrainingRows(MixtureRows):
    """Batches of rows without end, in the order of a `Schedule`.

    The state of the input is the position of its next row, together with the identity of its data.

    Attributes:
        seed: Decides the order of the rows.
    """

    seed: int = 0

    def __post_init__(self):
        super().__post_init__()
        self._position = 0  # of the first row of the next global batch
        self._schedule: Schedule | None = None
        self._readers: list[row_readers.RowReader] = []
        self._prefetched: tuple[int, concurrent.futures.Future] | None = None  # position, batch
        self._executor = concurrent.futures.ThreadPoolExecutor(1, f"{self.name}_rows")

    def _open(self) -> Schedule:
        """Return the schedule; the first call opens the tasks, since Pax makes unused inputs."""
        if self._schedule is None:
            rates = self.task_rates()
            readers = self.open_tasks(rates)
            self._readers = list(readers.values())
            num_rows = {name: reader.num_rows for name, reader in readers.items()}
            page_rows = {name: reader.page_rows for name, reader in readers.items()}
            schedule = Schedule(num_rows, shares(rates), page_rows, self.seed)
            self.check_hosts(self._identity(schedule))
            self._schedule = schedule
        return self._schedule

    @property
    def position(self) -> int:
        """The first row of the next batch, counted over all hosts from the run's first row."""
        return self._position

    def _read_batch(self, position: int) -> py_utils.NestedMap:
        """Return this host's slice of the global batch that begins at a position."""
        schedule = self._open()
        first = position + self.infeed_host_index * self.batch_size
        tasks, rows = schedule.rows(np.arange(first, first + self.batch_size))
        return self.make_batch(self._readers, tasks, rows)

    def get_next(self) -> py_utils.NestedMap:
        """Return the next batch of this host, and start to read the one after it."""
        self._open()  # in the thread that runs the steps, because it communicates between hosts
        # Cleared before its result is read, so that after a failure the next call reads it again.
        prefetched, self._prefetched = self._prefetched, None
        if prefetched is None or prefetched[0] != self._position:
            prefetched = self._prefetch()
        batch = prefetched[1].result()
        self._position += self.batch_size * self.num_infeed_hosts
        self._prefetched = self._prefetch()
        return batch

    def _prefetch(self) -> tuple[int, concurrent.futures.Future]:
        """Start to read the batch at the current position."""
        return self._position, self._executor.submit(self._read_batch, self._position)

    def reset(self) -> None:
        """Start again with the first row."""
        super().reset()
        self._position = 0

    def identity(self) -> dict[str, Any]:
        """Return the values that decide the stream: equal identities mean equal streams."""
        return self._identity(self._open())

    def _identity(self, schedule: Schedule) -> dict[str, Any]:
        tasks = {
            name: {
                "rows": reader.num_rows,
                "page_rows": reader.page_rows,
                "share": schedule.shares[name],
                "data": reader.fingerprint,
            }
            for name, reader in zip(schedule.num_rows, self._readers, strict=True)
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
            loaded = json.loads(state)
            position, saved_identity = loaded["position"], loaded["identity"]
        except (ValueError, KeyError, TypeError) as error:
            raise ChangedDataError(
                f"the state of {self.name} is not of this kind of input ({error}): the checkpoint"
                " was written by another version, or with another way to read the rows"
            ) from error
        if saved_identity != (identity := self.identity()):
            raise ChangedDataError(
                f"{self.mixture_name} is not what the checkpoint was trained on: "
                f"{'; '.join(_describe_differences(saved_identity, identity))}. Resume with the"
                " data it was trained on, or start a new job from its weights"
            )
        self._position = position

    def save(self, checkpoint_path: epath.PathLike) -> None:
        """Save the state of this process, after the functions in `on_save` are called.

        This is the only code of this project that the stock binary calls for each checkpoint before
        it renames the checkpoint or marks it as complete.

        Args:
            checkpoint_path: `<checkpoint>/train_input/process_<index>-of-<count>`.

        Raises:
            Exception: Whatever a function in `on_save` raises.
        """
        checkpoint = epath.Path(checkpoint_path).parent.parent
        for hook in on_save:
            hook(checkpoint)
        super().save(checkpoint_path)

    def restore(self, checkpoint_path: epath.PathLike) -> None:
        """Restore the state of this process, or of any other, since they are all the same.

        The files of a run that had another number of hosts have other names.
        """
        path = epath.Path(checkpoint_path)
        if not path.exists():
            # No glob: it would take brackets in the job's name for a pattern.
            siblings = path.parent.iterdir() if path.parent.is_dir() else ()
            states = sorted(file for file in siblings if file.name.startswith("process_"))
            path = states[0] if states else path
        super().restore(path)


def _describe_differences(saved: Any, current: Any, path: str = "") -> list[str]:
    """Return a line for each difference between two identities."""
    if isinstance(saved, dict) and isinstance(current, dict):
        keys = [*current, *(key for key in saved if key not in current)]
        return [
            line
            for key in keys
            if saved.get(key) != current.get(key)
            for line in _describe_differences(
                saved.get(key), current.get(key), f"{path} {key}".strip()
            )
        ]
    return [f"{path}: then {abbreviate(saved)}, now {abbreviate(current)}"]
