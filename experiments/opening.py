"""What a run begins with, said once: its weights, data, rate, batch and devices."""

from __future__ import annotations

import jax
from absl import flags
from etils import epath
from praxis import base_input

from codegen_pax.data.stream.training import TrainingRows
from codegen_pax.names import counted
from codegen_pax.runs import checkpoints, lineage
from experiments import start
from experiments.declaration import Declaration
from experiments.intervals import intervals


def lines(
    name: str, declaration: Declaration, job: epath.Path, step: int, rows: base_input.BaseInput
) -> list[str]:
    """The lines of a run that is about to make its first step, or its next.

    Args:
      name: of the experiment.
      declaration: of it.
      job: the run's folder.
      step: that it goes on from; 0 of one that begins.
      rows: what it reads, restored to its place.
    """
    return [
        f"{name}: steps {step + 1:,} to {declaration.steps:,}, in {job}",
        f"weights: {_weights(declaration, job, step)}",
        f"data: {_data(rows)}",
        (
            f"batch: {counted(declaration.batch_rows, 'row')} of "
            f"{declaration.row_length:,} tokens, as "
            f"{counted(declaration.accumulation_steps, 'micro-batch')} of "
            f"{declaration.micro_batch_rows:,}"
        ),
        (
            f"rate: up to {declaration.learning_rate:.3g} in "
            f"{counted(declaration.warmup_steps, 'step')}, by a cosine of "
            f"{counted(declaration.anneal_steps, 'step')} down to "
            f"{declaration.learning_rate_end:.3g}; recipe {declaration.recipe.name}"
        ),
        (
            f"mesh: {declaration.mesh} [replica x data x mdl], devices: {jax.device_count()} of "
            f"kind {jax.devices()[0].device_kind}, hosts: {jax.process_count()}"
        ),
        f"steps between: {_intervals(declaration)}",
    ]


def _weights(declaration: Declaration, job: epath.Path, step: int) -> str:
    last = checkpoints.last_step(job)
    if last is not None:
        return f"this run's own, of step {step:,}; the optimizer's state too"
    if parent := start.parent_job(declaration):
        found = start.start_step(parent)
        whose = lineage.of_checkpoint(parent, found)
        named = f" ({whose['experiment']})" if whose else ""
        return f"step {found:,} of {parent}{named}; a fresh optimizer"
    return "random"


def _data(rows: base_input.BaseInput) -> str:
    if not isinstance(rows, TrainingRows):  # of a person's own
        return rows.name
    tasks = rows.identity()["tasks"]
    each = ", ".join(f"{name} {counted(task['rows'], 'row')}" for name, task in tasks.items())
    return f"{rows.mixture_name} from row {rows.position:,} on: {each}"


def _intervals(declaration: Declaration) -> str:
    found = intervals(declaration.steps, declaration.size.embedded)
    evaluations = (
        f"evaluations {found.evaluate:,}"
        if flags.FLAGS.eval_on_test
        else "no evaluation (--eval_on_test asks for it)"
    )
    return f"records {found.record:,}, checkpoints {found.save:,}, {evaluations}"
