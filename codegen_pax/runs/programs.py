"""The programs of Pax that train and evaluate, as Pax has them, saying on host 0 how a run goes.

Pax runs the programs that an experiment names, and takes the executor from it. What is added: what
the run starts with; the first and the last step recorded, whatever the interval; a line for every
record; and an evaluation before the first step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
from etils import epath
from paxml import executors, partitioning, programs, summary_utils, tasks_lib
from praxis import base_input, base_layer, py_utils

from codegen_pax.runs import log
from codegen_pax.runs.pace import Pace, duration

# Names of what a step gives: cross-entropy in nats a predicted token, without the z-loss, as the
# events have it too (`events.CROSS_ENTROPY`); and the learning rate that the step was made with.
_CROSS_ENTROPY = "log_pplx"
_RATE = "learning/lr"


class _Records(summary_utils.SummaryHandler):
    """Pax's summaries of a training step; also of some steps between, and each is told of."""

    def __init__(
        self, *arguments: Any, always: Sequence[int], told: Callable[..., None], **more: Any
    ):
        """
        Args:
          always: steps that are written whatever the interval.
          told: called with step, cross-entropy and learning rate of each that is written.
        """
        super().__init__(*arguments, **more)
        self._always, self._told = frozenset(always), told

    def should_write(self, step: int) -> bool:
        return step in self._always or super().should_write(step)

    def process(
        self,
        step: int,
        loss: jax.Array,
        weighted_scalars: Mapping[str, Any] | None,
        summary_tensors: Mapping[str, Any],
        **more: Any,
    ) -> bool:
        written = super().process(step, loss, weighted_scalars, summary_tensors, **more)
        if written:
            entropy = (weighted_scalars or {}).get(_CROSS_ENTROPY, (loss,))[0]
            self._told(step, _number(entropy), _rate(summary_tensors))
        return written


class TrainProgram(programs.SingleTaskTrainProgram):
    """Trains, and says how it goes."""

    def __init__(
        self, batch_tokens: int, opening: Callable[[int, base_input.BaseInput], Sequence[str]]
    ):
        """
        Args:
          batch_tokens: tokens of a step.
          opening: gives the lines to begin with, from the step that the run goes on from and its
            input, restored to its place.
        """
        super().__init__()
        self._batch_tokens, self._opening = batch_tokens, opening
        self._evaluations: Sequence[programs.BaseEvalProgram] = ()
        self._pace: Pace | None = None

    def evaluate_first(self, evaluations: Sequence[programs.BaseEvalProgram]) -> None:
        """What is evaluated before the first step of a run that begins with step 0."""
        self._evaluations = evaluations

    def setup(
        self,
        task: tasks_lib.SingleTask,
        train_input: base_input.BaseInput,
        partitioner: partitioning.Partitioner,
        job_log_dir: epath.Path,
        train_prng_seed: jax.Array,
        eval_prng_seed: jax.Array,
        init_step: int,
        enable_summary_writer: bool = True,
    ) -> None:
        super().setup(
            task,
            train_input,
            partitioner,
            job_log_dir,
            train_prng_seed,
            eval_prng_seed,
            init_step,
            enable_summary_writer,
        )
        train, last = task.train, int(task.train.num_train_steps)
        self._pace = Pace(last, self._batch_tokens)
        self._train_summary_handler.close()
        self._train_summary_handler = _Records(
            self.summary_writer,
            train.summary_interval_steps,
            accumulate_interval_steps=train.summary_accumulate_interval_steps,
            log_interval_steps=train.log_train_output_interval_steps
            or train.summary_interval_steps,
            is_async=train.async_summary_writing,
            name="training",
            metrics_prefix=task.decode.metrics_prefix,
            always=(init_step + 1, last),
            told=self._tell,
        )
        # On every host: reading what the data is asks the others.
        for line in self._opening(init_step, train_input):
            log.info("%s", line)

    def update_state(self, state: Any, step: int) -> Any:
        """Pax calls it before each step, after the checkpoint of the step before."""
        if step == 0 and self._evaluations:
            evaluated = programs.get_eval_train_state(
                self._task, state, self._task.train.eval_use_ema_states
            )
            for program in self._evaluations:
                program.run(evaluated, step)
        return state

    def run(self, state: Any, step: int) -> programs.TrainProgramOutput:
        self._pace.resume()
        output = super().run(state, step)
        if self._is_paused_after(output.new_train_step):
            # What comes next waits for the step anyway; so it is not counted as a part of it.
            jax.block_until_ready(output.loss)
            self._pace.pause()
        return output

    def _is_paused_after(self, step: int) -> bool:
        """Whether Pax saves, evaluates or decodes before the next step."""
        train = self._task.train
        intervals = (
            train.save_interval_steps,
            train.eval_interval_steps,
            train.decode_interval_steps,
        )
        return any(interval and step % interval == 0 for interval in intervals)

    def _tell(self, step: int, entropy: float, rate: float | None) -> None:
        speed, left = self._pace.at(step)
        parts = [f"step {step:,} of {int(self._task.train.num_train_steps):,}: loss {entropy:.4f}"]
        if rate is not None:
            parts.append(f"rate {rate:.3g}")
        if speed is not None:
            parts.append(f"{speed:,.0f} tokens/s")
        if left is not None:
            parts.append(f"{duration(left)} left")
        log.info("%s", ", ".join(parts))


class EvalProgram(programs.SingleTaskEvalProgram):
    """Evaluates, and says what came of it."""

    def run(self, state: Any, step: int) -> programs.EvalProgramOutput:
        output = super().run(state, step)
        if output.eval_metrics and _CROSS_ENTROPY in output.eval_metrics:
            log.info(
                "after step %s: validation loss %.4f on %s",
                f"{step:,}",
                output.eval_metrics[_CROSS_ENTROPY],
                self.eval_input.name,
            )
        return output


class Executor(executors.DefaultExecutor):
    """Pax's own, which lets a training program evaluate before its first step."""

    def start(self) -> None:
        if isinstance(self._train_program, TrainProgram):
            self._train_program.evaluate_first(self._eval_programs)
        super().start()


def _number(value: Any) -> float:
    """A scalar that every device holds; waits until it is there."""
    return float(py_utils.maybe_unreplicate_for_fully_replicated(value))


def _rate(summaries: Mapping[str, Any]) -> float | None:
    for key, value in summary_utils.flatten_summary_dict(summaries):
        if base_layer.trim_summary_type_from_key(key) == _RATE:
            return _number(value)
    return None
