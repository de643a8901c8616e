"""What training and evaluation share: the rows of a mixture's tasks, as the fields of a batch."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import jax
import numpy as np
import seqio
from jax.experimental import multihost_utils
from praxis import base_input, py_utils

from codegen_pax.data import installed, prepared
from codegen_pax.data.stream import batches, row_readers
from codegen_pax.errors import InvalidValueError
from codegen_pax.text import tokenizer


class DifferentHostsError(InvalidValueError):
    """The hosts of a run were to read different rows."""


class MixtureRows(base_input.BaseInput):
    """The rows of a seqio task or mixture, by their numbers.

    Attributes:
      mixture_name: a registered seqio task or mixture.
      split_name: of it.
      row_length: T.
      packing: whether the documents of a row do not see each other.
    """

    mixture_name: str = ""
    split_name: str = installed.TRAIN
    row_length: int = 0
    packing: bool = False

    def open_tasks(self, rates: dict[str, float]) -> dict[str, row_readers.Rows]:
        """Task -> its rows, of the tasks that are read."""
        return {
            name: row_readers.open_rows(
                seqio.TaskRegistry.get(name), self.split_name, self.row_length
            )
            for name in rates
        }

    def rates(self) -> dict[str, float]:
        """Task -> its rate, as the mixture has it now."""
        return dict(prepared.rates(self.mixture_name, self.split_name))

    def fields(
        self, opened: list[row_readers.Rows], tasks: np.ndarray, rows: np.ndarray
    ) -> py_utils.NestedMap:
        """Some rows as a batch.

        Args:
          opened: the rows of each task.
          tasks: number of the task in `opened`, [B].
          rows: of it, [B].
        """
        shape = (len(rows), self.row_length)
        ids, lengths = np.empty(shape, np.int32), np.empty(len(rows), np.int64)
        predicted = np.ones(shape, bool)
        some = False
        for number, source in enumerate(opened):
            places = np.flatnonzero(tasks == number)
            if places.size:
                ids[places], lengths[places], answers = source.take(rows[places])
                if answers is not None:
                    predicted[places], some = answers, True
        apart = tokenizer.END_OF_TEXT_ID if self.packing else None
        made = batches.fields(ids, lengths, predicted if some else None, apart)
        return py_utils.NestedMap(made)

    def check_hosts(self, identity: dict[str, Any]) -> None:
        """Raises DifferentHostsError, on every host, unless all would read the same rows.

        Args:
          identity: what decides the rows; of each of its `tasks` the `data`.
        """
        if jax.process_count() == 1:
            return
        said = json.dumps(identity, sort_keys=True).encode()
        # Of 32 bits: what JAX gathers of 64 it would cut.
        digest = np.frombuffer(hashlib.sha256(said).digest(), np.int32)
        digests = [each.tobytes() for each in multihost_utils.process_allgather(digest)]
        usual = max(digests, key=digests.count)  # of the first host, if there are as many of each
        if others := [str(host) for host, each in enumerate(digests) if each != usual]:
            data = (f"{name} {short(task['data'])}" for name, task in identity["tasks"].items())
            raise DifferentHostsError(
                f"the hosts do not hold the same {self.mixture_name} ({self.split_name}):"
                f" {'host' if len(others) == 1 else 'hosts'} {', '.join(others)} of {len(digests)},"
                f" counted from 0, unlike the rest; host {jax.process_index()} holds"
                f" {', '.join(data)}. Give every host the same ${prepared.DATA_VARIABLE} and the"
                " same version of this package"
            )


def short(value: Any) -> str:
    """A value of an identity, for an error."""
    is_digest = isinstance(value, str) and len(value) == 2 * hashlib.sha256().digest_size
    return value[:12] if is_digest else "nothing" if value is None else str(value)
