"""Pax's programs that train and evaluate, with reports on host 0 about the run's progress.

Pax runs the programs that an experiment names with the executor that it names. These classes add
lines about what a run starts with, records of the first and the last step regardless of the
interval, a line for each record, and an evaluation before the first step.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import tensorflow as tf
from etils import epath
from paxml import executors, partitioning, programs, summary_utils, tasks_lib
from praxis import base_input, base_layer, py_utils

from codegen_pax.runs import log, utilisation
from codegen_pax.runs.progress import Pace, format_duration

# Results of a step: cross-entropy in nats a predicted token, without the z-loss, which the events
# have too (`summary.CROSS_ENTROPY`); and the learning rate of the step.
_CROSS_ENTROPY = "log_pplx"
_LEARNING_RATE = "learning/lr"


class StepSummaryHandler(summary_utils.SummaryHandler):
    """Writes Pax's summaries of training steps, and reports each step that is written."""

    def __init__(
        self,
        *arguments: Any,
        extra_steps: Sequence[int],
        on_record: Callable[[int, float, float | None], None],
        **keyword_arguments: Any,
    ):
        """Creates a handler.

        Args:
            *arguments: The arguments of Pax's handler.
            extra_steps: Steps that are written regardless of the interval.
            on_record: Called with the step, the cross-entropy and the learning rate of each step
                that is written, once it is computed and before it is written.
            **keyword_arguments: The keyword arguments of Pax's handler.
        """
        super().__init__(*arguments, **keyword_arguments)
        self._extra_steps, self._on_record = frozenset(extra_steps), on_record

    def should_write(self, step: int) -> bool:
        """Returns whether a step is written."""
        return step in self._extra_steps or super().should_write(step)

    def process(
        self,
        step: int,
        loss: jax.Array,
        weighted_scalars: Mapping[str, Any] | None,
        summary_tensors: Mapping[str, Any],
        **keyword_arguments: Any,
    ) -> bool:
        """Writes a step if it is due, reports it, and returns whether it was written."""
        if self.should_write(step):
            entropy = (weighted_scalars or {}).get(_CROSS_ENTROPY, (loss,))[0]
            self._on_record(step, _number(entropy), _learning_rate(summary_tensors))
        # After the report, whose scalars are flushed with Pax's own.
        return super().process(step, loss, weighted_scalars, summary_tensors, **keyword_arguments)


class TrainProgram(programs.SingleTaskTrainProgram):
    """Trains, and reports the progress."""

    _train_summary_handler: summary_utils.SummaryHandler
    _pace: Pace  # set by `setup`, which Pax calls first
    _peak: utilisation.Peak | None = None  # of host 0, which reports
    _is_compiled = False  # whether the first step has been made

    def __init__(
        self,
        work: utilisation.Work,
        first_lines: Callable[[int, base_input.BaseInput], Sequence[str]],
    ):
        """Creates a program.

        Args:
            work: The arithmetic of a step.
            first_lines: Takes the step that a run resumes from and its input, restored to its
                position; returns the lines to report before the first step.
        """
        super().__init__()
        self._work, self._first_lines = work, first_lines
        self._first_evaluations: Sequence[programs.BaseEvalProgram] = ()

    def evaluate_first(self, evaluations: Sequence[programs.BaseEvalProgram]) -> None:
        """Has programs run before the first step, if that is step 0."""
        self._first_evaluations = evaluations

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
        """Prepares Pax's program; also records the first and the last step, and reports."""
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
        self._pace = Pace(last, self._work.tokens)
        # Pax's loop calls it for each batch. An input may have been written by anyone, so it is
        # measured from outside.
        train_input.get_next_padded = self._pace.timed(train_input.get_next_padded)
        self._train_summary_handler.close()
        self._train_summary_handler = StepSummaryHandler(
            self.summary_writer,
            train.summary_interval_steps,
            accumulate_interval_steps=train.summary_accumulate_interval_steps,
            log_interval_steps=train.log_train_output_interval_steps
            or train.summary_interval_steps,
            is_async=train.async_summary_writing,
            name="training",
            metrics_prefix=task.decode.metrics_prefix,
            extra_steps=(init_step + 1, last),
            on_record=self._report,
        )
        # On every host, as the hosts exchange information about their data.
        for line in self._first_lines(init_step, train_input):
            log.info("%s", line)
        if jax.process_index() == 0:
            self._peak = utilisation.peak(self._work.dtype)
            log.info("utilisation: %s", utilisation.convention(self._work, self._peak))

    def update_state(self, state: Any, step: int) -> Any:
        """Evaluates before step 0; Pax calls it before each step, after saving checkpoints."""
        if step == 0 and self._first_evaluations:
            eval_state = programs.get_eval_train_state(
                self._task, state, self._task.train.eval_use_ema_states
            )
            for program in self._first_evaluations:
                program.run(eval_state, step)
        return state

    def run(self, state: Any, step: int) -> programs.TrainProgramOutput:
        """Runs a step."""
        if not self._is_compiled:
            log.info("compiling the training step")
            self._is_compiled = True
        self._pace.resume()
        output = super().run(state, step)
        if self._is_paused_after(output.new_train_step):
            # The next operation waits for the step anyway, and is not measured as a part of it.
            jax.block_until_ready(output.loss)
            self._pace.pause()
        return output

    def _is_paused_after(self, step: int) -> bool:
        """Returns whether Pax saves, evaluates or decodes before the next step."""
        train = self._task.train
        intervals = (
            train.save_interval_steps,
            train.eval_interval_steps,
            train.decode_interval_steps,
        )
        return any(interval and step % interval == 0 for interval in intervals)

    def _report(self, step: int, entropy: float, learning_rate: float | None) -> None:
        speed = self._pace.at(step)
        parts = [f"step {step:,} of {int(self._task.train.num_train_steps):,}: loss {entropy:.4f}"]
        if learning_rate is not None:
            parts.append(f"rate {learning_rate:.3g}")
        if speed and self._peak:
            self._write(step, utilisation.entries(self._work, speed, self._peak))
            mfu = utilisation.mfu(self._work.flops_per_token, speed, self._peak)
            parts += [
                f"{speed.tokens_per_second:,.0f} tokens/s",
                f"MFU {mfu:.1%}",
                f"input wait {speed.input_wait:.1%}",
                f"{format_duration(speed.seconds_left)} left",
            ]
        log.info("%s", ", ".join(parts))

    def _write(self, step: int, entries: Sequence[utilisation.Entry]) -> None:
        with self.summary_writer.as_default():
            for entry in entries:
                tf.summary.scalar(entry.tag, entry.value, step, description=entry.description)


class EvalProgram(programs.SingleTaskEvalProgram):
    """Evaluates, and reports the loss."""

    def run(self, state: Any, step: int) -> programs.EvalProgramOutput:
        """Evaluates the state of a step."""
        log.info("after step %s: evaluating on %s", f"{step:,}", self.eval_input.name)
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
    """Pax's executor, which also evaluates before the first step and reports long operations."""

    def setup(
        self,
        jax_task: tasks_lib.SingleTask,
        job_log_dir: epath.Path,
        checkpointer: Any,
        *arguments: Any,
        **keyword_arguments: Any,
    ) -> None:
        """Restores the train state, or initialises it."""
        step = checkpointer.step_to_restore
        wait = "initialising the weights" if step is None else f"restoring step {step:,}"
        log.info("%s", wait)
        super().setup(jax_task, job_log_dir, checkpointer, *arguments, **keyword_arguments)

    def start(self) -> None:
        """Runs the programs."""
        if isinstance(self._train_program, TrainProgram):
            self._train_program.evaluate_first(self._eval_programs)
        for program in self._decode_programs:
            program.run = _reported_decoding(program.run)
        super().start()


def _reported_decoding(run: Callable[[Any, int], Any]) -> Callable[[Any, int], Any]:
    """Returns a decoding program's `run`, which is not ours, with a report before it decodes."""

    @functools.wraps(run)
    def report_and_run(state: Any, step: int) -> Any:
        log.info("after step %s: decoding", f"{step:,}")
        return run(state, step)

    return report_and_run


def _number(value: Any) -> float:
    """Returns a scalar that every device holds, once it is computed."""
    return float(py_utils.maybe_unreplicate_for_fully_replicated(value))


def _learning_rate(summaries: Mapping[str, Any]) -> float | None:
    for key, value in summary_utils.flatten_summary_dict(summaries):
        if base_layer.trim_summary_type_from_key(key) == _LEARNING_RATE:
            return _number(value)
    return None
