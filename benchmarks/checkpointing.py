"""Compares training steps with and without checksums written in the background, in one run.

    python benchmarks/checkpointing.py

The stock binary trains Nano, four times as wide, on this machine's CPU. During every second step
the run's background thread (`codegen_pax.runs.verification`) writes the checksums of the first
checkpoint again. It finishes before the next step begins, and its time is measured too. The script
prints the medians, and fails if a step takes more than a tenth longer with the checksums.

Expected: the medians differ by a few percent. No real run is worse off: here a step has a
checkpoint of its own, and the thread has no core beside those of the step.
"""

import dataclasses
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import jax
from absl import flags
from paxml import experiment_registry

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import results
from codegen_pax.runs import checkpoints, checksums, launch, programs, verification
from experiments import registry
from experiments.declaration import find_declaration

WARM_UP, ROUNDS = 4, 20  # unmeasured first steps, and measured steps of each kind
STEPS = WARM_UP + 2 * ROUNDS
NANO = find_declaration("CodeGenNanoMono")
RESULT = "result.json"  # in the job directory
MOST_TOGETHER = 1.1

registry.register_all()


class Program(programs.TrainProgram):
    """Measures the time of each step after the first ones."""

    def __init__(self, batch_tokens):
        super().__init__(batch_tokens, lambda *_: ())
        self._checkpoint = Path(checkpoints.path(flags.FLAGS.job_log_dir, 0))
        self._checksums = Path(checksums.file_path(self._checkpoint))
        self._seconds = {"alone": [], "together": [], "checksums": []}

    def run(self, state, step):
        """Runs a step, every second one while the checksums are written."""
        together = step >= WARM_UP and step % 2
        self._wait_for_checksums()  # before the first step: until the checkpoint is complete
        start = time.time()
        if together:
            self._checksums.unlink()
            verification.background_writer().add_saved(self._checkpoint)
        output = super().run(state, step)
        jax.block_until_ready((output.loss, output.state))
        if step >= WARM_UP:
            self._seconds["together" if together else "alone"].append(time.time() - start)
        if together:
            self._wait_for_checksums()
            self._seconds["checksums"].append(self._checksums.stat().st_mtime - start)
        if output.new_train_step == STEPS:
            self._write_result()
        return output

    def _wait_for_checksums(self):
        while not self._checksums.exists():
            time.sleep(0.001)

    def _write_result(self):
        ms = {name: 1000 * statistics.median(seconds) for name, seconds in self._seconds.items()}
        size = sum(checksums.file_sizes(self._checkpoint).values()) / 1e6
        row = {f"{name} ms": value for name, value in ms.items()} | {"checkpoint MB": size}
        Path(flags.FLAGS.job_log_dir, RESULT).write_text(json.dumps(row))


@experiment_registry.register
class Timed(registry.experiment_class("CodeGenNanoMono")):
    """Steps of 2 rows of 128 tokens."""

    DECLARATION = dataclasses.replace(
        NANO,
        size=dataclasses.replace(NANO.size, model_dims=512, heads=16),
        row_length=128,
        batch_rows=2,
        steps=STEPS,
    )

    def task(self):
        """Returns a task that saves the first checkpoint and the last."""
        task = super().task()
        task.train.save_interval_steps = STEPS
        return task

    def train_programs(self):
        """Returns the program that measures the steps."""
        return [Program(self.declaration().batch_tokens)]


def main() -> int:
    """Runs the experiment, and reports its result; returns the exit status."""
    folder = Path(__file__).resolve().parent
    paths = [str(folder), str(folder.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {"PYTHONPATH": os.pathsep.join(paths), "JAX_PLATFORMS": "cpu"}
    with tempfile.TemporaryDirectory() as folder:
        job = Path(folder, "job")
        launch.run_pax("checkpointing.Timed", job, environment=environment)
        row = json.loads((job / RESULT).read_text())
    ratio = row["together ms"] / row["alone ms"]
    target = results.Target("a step with checksums, of one alone", ratio, most=MOST_TOGETHER)
    return results.report("checkpointing", [row], [target])


if __name__ == "__main__":
    sys.exit(main())
