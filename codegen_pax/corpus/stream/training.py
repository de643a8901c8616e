"""The Pax input over a stream of rows, which resumes exactly, on any number of hosts."""

from __future__ import annotations

import concurrent.futures
import hashlib
import json
from typing import Any

import jax
import numpy as np
import seqio
from etils import epath
from jax.experimental import multihost_utils
from praxis import base_input, py_utils

from codegen_pax.corpus import installed, prepared
from codegen_pax.corpus.stream import batches, sources
from codegen_pax.corpus.stream.schedule import Schedule, shares
from codegen_pax.errors import InvalidValueError
from codegen_pax.text import tokenizer
from codegen_pax.weights import lineage

FORMAT = 2  # of the state, and of what stands at a position


class ChangedDataError(InvalidValueError):
    """A run was to be resumed on other data than it was stopped on."""


class DifferentHostsError(InvalidValueError):
    """The hosts of a run were to read different streams."""


class TrainingRows(base_input.BaseInput):
    """Batches of rows without end.

    Attributes:
      mixture_name: a registered seqio task or mixture.
      split_name: of it.
      row_length: T.
      packing: whether the documents of a row do not see each other.
      seed: of the order of the rows.
    """

    mixture_name: str = ""
    split_name: str = installed.TRAIN
    row_length: int = 0
    packing: bool = False
    seed: int = 0

    def __post_init__(self):
        super().__post_init__()
        self._position = 0  # of the first row of the next global batch
        self._schedule: Schedule | None = None
        self._rows: list[sources.Rows] = []
        self._ahead: tuple[int, concurrent.futures.Future] | None = None
        self._pool = concurrent.futures.ThreadPoolExecutor(1, f"{self.name}_rows")

    def _open(self) -> Schedule:
        """The schedule; opens it and `_rows` when first asked: Pax makes inputs it never reads."""
        if self._schedule is None:
            rates = prepared.rates(self.mixture_name, self.split_name)
            self._rows = [
                sources.open_rows(seqio.TaskRegistry.get(name), self.split_name, self.row_length)
                for name in rates
            ]
            found = dict(zip(rates, self._rows, strict=True))
            sizes = {name: rows.count for name, rows in found.items()}
            pages = {name: rows.page_rows for name, rows in found.items()}
            schedule = Schedule(sizes, shares(rates), pages, self.seed)
            self._check_hosts(self._identity(schedule))
            self._schedule = schedule
        return self._schedule

    def _check_hosts(self, identity: dict[str, Any]) -> None:
        """Raises DifferentHostsError, on every host, unless all would read the same stream."""
        if jax.process_count() == 1:
            return
        said = json.dumps(identity, sort_keys=True).encode()
        # Of 32 bits: what JAX gathers of 64 it would cut.
        digest = np.frombuffer(hashlib.sha256(said).digest(), np.int32)
        digests = [each.tobytes() for each in multihost_utils.process_allgather(digest)]
        usual = max(digests, key=digests.count)  # of the first host, if there are as many of each
        if others := [str(host) for host, each in enumerate(digests) if each != usual]:
            data = (f"{name} {_short(task['data'])}" for name, task in identity["tasks"].items())
            raise DifferentHostsError(
                f"the hosts do not hold the same {self.mixture_name} ({self.split_name}):"
                f" {'host' if len(others) == 1 else 'hosts'} {', '.join(others)} of {len(digests)},"
                f" counted from 0, unlike the rest; host {jax.process_index()} holds"
                f" {', '.join(data)}. Give every host the same ${prepared.DATA_VARIABLE} and the"
                " same version of this package"
            )

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
        shape = (self.batch_size, self.row_length)
        ids, lengths = np.empty(shape, np.int32), np.empty(self.batch_size, np.int64)
        predicted = np.ones(shape, bool)
        some = False
        for number, source in enumerate(self._rows):
            places = np.flatnonzero(tasks == number)
            if places.size:
                ids[places], lengths[places], answers = source.take(rows[places])
                if answers is not None:
                    predicted[places], some = answers, True
        apart = tokenizer.END_OF_TEXT_ID if self.packing else None
        made = batches.fields(ids, lengths, predicted if some else None, apart)
        return py_utils.NestedMap(made)

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
        """
        super().save(checkpoint_path)
        if jax.process_index() == 0:
            lineage.copy_to(epath.Path(checkpoint_path).parent.parent)

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
    return [f"{name}: then {_short(found)}, now {_short(wanted)}"]


def _short(value: Any) -> str:
    is_digest = isinstance(value, str) and len(value) == 2 * hashlib.sha256().digest_size
    return value[:12] if is_digest else "nothing" if value is None else str(value)
