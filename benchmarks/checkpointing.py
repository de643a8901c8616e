"""Time of a step while a checkpoint's checksums are written in the background, in one run.

    python benchmarks/checkpointing.py

The stock binary trains Nano, four times as wide, on this machine's CPU. Steps take turns: during
every second one the run's own thread (`codegen_pax.runs.checkpoints`) writes the checksums of the
first checkpoint anew; it has ended before the next step begins, and its time is told too. Medians
and their ratio are printed.

Expected: within a few percent. It is the worst that a run meets, a checkpoint to every step and no
core that is not the step's.
"""

import dataclasses
import os
import statistics
import tempfile
import time
from pathlib import Path

import jax
from absl import flags
from paxml import experiment_registry

from codegen_pax.runs import checkpoints, checksums, launch, lineage, programs
from experiments import registry
from experiments.declaration import find_declaration

WARM, ROUNDS = 4, 20  # steps before the first that counts, and steps of each kind
STEPS = WARM + 2 * ROUNDS
NANO = find_declaration("CodeGenNanoMono")
RESULT = "result.txt"  # in the run's folder

registry.register_all()


class Program(programs.TrainProgram):
    """Takes the time of each step after the first ones."""

    def __init__(self, batch_tokens):
        super().__init__(batch_tokens, lambda step, rows: ())
        self._checkpoint = Path(lineage.checkpoint(flags.FLAGS.job_log_dir, 0))
        self._receipt = self._checkpoint / "checksums-00000-of-00001.json"
        self._seconds = {"alone": [], "beside": [], "checksums": []}

    def run(self, state, step):
        beside = step >= WARM and step % 2
        self._wait()  # at first until the checkpoint is whole
        begun = time.time()
        if beside:
            self._receipt.unlink()
            checkpoints.is_saved(self._checkpoint)
        output = super().run(state, step)
        jax.block_until_ready((output.loss, output.state))
        if step >= WARM:
            self._seconds["beside" if beside else "alone"].append(time.time() - begun)
        if beside:
            self._wait()
            self._seconds["checksums"].append(self._receipt.stat().st_mtime - begun)
        if output.new_train_step == STEPS:
            self._say()
        return output

    def _wait(self):
        while not self._receipt.exists():
            time.sleep(0.001)

    def _say(self):
        ms = {name: 1000 * statistics.median(found) for name, found in self._seconds.items()}
        size = sum(checksums.files_of(self._checkpoint).values()) / 1e6
        Path(flags.FLAGS.job_log_dir, RESULT).write_text(
            f"step alone {ms['alone']:.0f} ms, beside the checksums of {size:.0f} MB "
            f"{ms['beside']:.0f} ms (they take {ms['checksums']:.0f} ms): "
            f"beside / alone {ms['beside'] / ms['alone']:.3f}"
        )


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
        task = super().task()
        task.train.save_interval_steps = STEPS
        return task

    def train_programs(self):
        return [Program(self.declaration().batch_tokens)]


def main():
    paths = [str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {"PYTHONPATH": os.pathsep.join(paths), "JAX_PLATFORMS": "cpu"}
    with tempfile.TemporaryDirectory() as folder:
        job = Path(folder, "job")
        launch.run_pax("checkpointing.Timed", job, environment=environment)
        print((job / RESULT).read_text())


if __name__ == "__main__":
    main()
