"""The Pax input that evaluates: the same rows as training reads, each once, in order."""

from __future__ import annotations

import numpy as np
from praxis import py_utils

from codegen_pax.data.prepared import CorpusMissingError
from codegen_pax.data.stream import row_readers
from codegen_pax.data.stream.mixture_rows import MixtureRows


class EvaluationRows(MixtureRows):
    """Every row of every task of a mixture that has rows, task after task.

    A global batch is the rows that follow one another, of which each host reads its own slice: what
    is evaluated does not depend on how many hosts there are. The last batch is filled up with a
    row whose weights are all 0, so that every host sees as many batches and no row counts twice;
    `eval_sample_weights` float32 [B] is 0 for it, and 1 for every other.
    """

    def __post_init__(self):
        super().__post_init__()
        self._position = 0  # of the first row of the next global batch
        self._tasks: list[row_readers.Rows] = []
        self._starts = np.zeros(1, np.int64)  # of each task's rows, and the end

    def _open(self) -> None:
        """Opens the tasks when first asked."""
        if self._tasks:
            return
        rates = {name: rate for name, rate in self.rates().items() if rate}
        if not rates:
            raise CorpusMissingError(
                f"cannot read {self.mixture_name}: none of its {len(self.rates())} tasks has a row"
                f" in {self.split_name}"
            )
        found = self.open_tasks(rates)
        self.check_hosts(
            {
                "row_length": self.row_length,
                "tasks": {
                    name: {"rows": rows.count, "data": rows.fingerprint}
                    for name, rows in found.items()
                },
            }
        )
        self._tasks = list(found.values())
        self._starts = np.cumsum([0, *(rows.count for rows in self._tasks)])

    def get_next(self) -> py_utils.NestedMap:
        """This host's slice of the next global batch; StopIteration behind the last one."""
        self._open()
        end = self._starts[-1]
        if self._position >= end:
            raise StopIteration
        first = self._position + self.infeed_host_index * self.batch_size
        places = np.arange(first, first + self.batch_size)
        real = places < end
        places = np.where(real, places, 0)
        tasks = np.searchsorted(self._starts, places, side="right") - 1
        batch = self.fields(self._tasks, tasks, places - self._starts[tasks])
        batch.eval_sample_weights = real.astype(np.float32)
        batch.weights *= batch.eval_sample_weights[:, None]
        batch.paddings = np.where(real[:, None], batch.paddings, np.float32(1))
        self._position += self.batch_size * self.num_infeed_hosts
        return batch

    def reset(self) -> None:
        """Begins again with the first row."""
        super().reset()
        self._position = 0
