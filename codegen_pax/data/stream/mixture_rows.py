"""The Pax input over the rows of a seqio task or mixture, and the one that evaluates on them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
import seqio
from jax.experimental import multihost_utils
from praxis import base_input, py_utils

from codegen_pax.data import TRAIN, mixtures
from codegen_pax.data.seqio_sources import DATA_VARIABLE, CorpusMissingError
from codegen_pax.data.stream import batches, row_readers
from codegen_pax.errors import InvalidValueError


class DifferentHostsError(InvalidValueError):
    """The hosts of a run would read different rows."""


class MixtureRows(base_input.BaseInput):
    """What training and evaluation share: the rows of a mixture's tasks, read by number.

    Attributes:
        mixture_name: A registered seqio task or mixture.
        split_name: The split of it to read.
        row_length: T.
        packing: Whether attention stays within each document of a row.
    """

    mixture_name: str = ""
    split_name: str = TRAIN
    row_length: int = 0
    packing: bool = False

    def task_rates(self) -> Mapping[str, float]:
        """Return the current rate of each task in the mixture."""
        return mixtures.task_rates(self.mixture_name, self.split_name)

    def open_tasks(self, names: Iterable[str]) -> dict[str, row_readers.RowReader]:
        """Return a reader for each of the named tasks."""
        return {
            name: row_readers.open_task(
                seqio.TaskRegistry.get(name), self.split_name, self.row_length
            )
            for name in names
        }

    def make_batch(
        self,
        readers: Sequence[row_readers.RowReader],
        task_numbers: np.ndarray,
        row_numbers: np.ndarray,
    ) -> py_utils.NestedMap:
        """Return chosen rows as a batch.

        Args:
            readers: One for each task.
            task_numbers: The task of each row, as an index into `readers`, [B].
            row_numbers: The number of each row within its task, [B].
        """
        shape = (len(row_numbers), self.row_length)
        ids, lengths = np.empty(shape, np.int32), np.empty(len(row_numbers), np.int64)
        is_predicted = np.ones(shape, bool)
        all_predicted = True
        for task_number, reader in enumerate(readers):
            in_batch = np.flatnonzero(task_numbers == task_number)
            if in_batch.size:
                rows = reader.take(row_numbers[in_batch])
                ids[in_batch], lengths[in_batch] = rows.ids, rows.lengths
                if rows.is_predicted is not None:
                    is_predicted[in_batch], all_predicted = rows.is_predicted, False
        rows = batches.TokenRows(ids, lengths, None if all_predicted else is_predicted)
        document_end_id = self.document_end_id() if self.packing else None
        return py_utils.NestedMap(batches.fields(rows, document_end_id))

    def document_end_id(self) -> int:
        """Return the id of the end of text in the vocabulary of the mixture."""
        features = mixtures.get_mixture_or_task(self.mixture_name).output_features
        return features["targets"].vocabulary.eos_id

    def check_hosts(self, identity: dict[str, Any]) -> None:
        """Raise DifferentHostsError, on every host, unless all would read the same rows.

        Args:
            identity: The values that decide the rows; each of its `tasks` has the fingerprint of
                its `data`.
        """
        if jax.process_count() == 1:
            return
        serialised = json.dumps(identity, sort_keys=True).encode()
        # As 32-bit integers: JAX would cut those of 64 bits when it gathers them.
        digest = np.frombuffer(hashlib.sha256(serialised).digest(), np.int32)
        digests = [gathered.tobytes() for gathered in multihost_utils.process_allgather(digest)]
        most_common = max(digests, key=digests.count)  # ties go to the first host
        others = [str(host) for host, digest in enumerate(digests) if digest != most_common]
        if others:
            tasks = identity["tasks"].items()
            data = (f"{name} {abbreviate(task['data'])}" for name, task in tasks)
            raise DifferentHostsError(
                f"the hosts do not hold the same {self.mixture_name} ({self.split_name}):"
                f" {'host' if len(others) == 1 else 'hosts'} {', '.join(others)} of {len(digests)},"
                f" counted from 0, unlike the rest; host {jax.process_index()} holds"
                f" {', '.join(data)}. Give every host the same ${DATA_VARIABLE} and the"
                " same version of this package"
            )


class EvaluationRows(MixtureRows):
    """Every row of every task of a mixture that has rows, once, task after task.

    Consecutive rows form a global batch, and each host reads its own slice of it, so the evaluated
    rows do not depend on the number of hosts. The last batch is filled up with a row whose weights
    are all 0, so that every host reads the same number of batches and no row counts twice;
    `eval_sample_weights` float32 [B] is 0 for the filler and 1 for every other row.
    """

    def __post_init__(self):
        super().__post_init__()
        self._position = 0  # of the first row of the next global batch
        self._readers: list[row_readers.RowReader] = []
        self._task_starts = np.zeros(1, np.int64)  # positions where tasks begin, and the end

    def _open(self) -> None:
        """Open the tasks at the first read, since Pax makes inputs that it never reads."""
        if self._readers:
            return
        rates = self.task_rates()
        names = [name for name, rate in rates.items() if rate]
        if not names:
            raise CorpusMissingError(
                f"cannot read {self.mixture_name}: none of its {len(rates)} tasks has a row"
                f" in {self.split_name}"
            )
        readers = self.open_tasks(names)
        self.check_hosts(
            {
                "row_length": self.row_length,
                "tasks": {
                    name: {"rows": reader.num_rows, "data": reader.fingerprint}
                    for name, reader in readers.items()
                },
            }
        )
        self._readers = list(readers.values())
        self._task_starts = np.cumsum([0, *(reader.num_rows for reader in self._readers)])

    def get_next(self) -> py_utils.NestedMap:
        """Return this host's slice of the next global batch; StopIteration after the last one."""
        self._open()
        end = self._task_starts[-1]
        if self._position >= end:
            raise StopIteration
        first = self._position + self.infeed_host_index * self.batch_size
        positions = np.arange(first, first + self.batch_size)
        is_row = positions < end
        positions = np.where(is_row, positions, 0)
        tasks = np.searchsorted(self._task_starts, positions, side="right") - 1
        batch = self.make_batch(self._readers, tasks, positions - self._task_starts[tasks])
        batch.eval_sample_weights = is_row.astype(np.float32)
        batch.weights *= batch.eval_sample_weights[:, None]
        batch.paddings = np.where(is_row[:, None], batch.paddings, np.float32(1))
        self._position += self.batch_size * self.num_infeed_hosts
        return batch

    def reset(self) -> None:
        """Start again with the first row."""
        super().reset()
        self._position = 0


def abbreviate(value: Any) -> str:
    """Return a value of an identity for an error message: a digest is cut to 12 digits."""
    is_digest = isinstance(value, str) and len(value) == 2 * hashlib.sha256().digest_size
    return value[:12] if is_digest else "nothing" if value is None else str(value)
