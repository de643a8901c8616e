"""Summaries of training steps: which are written, and what they say of the speed."""

import functools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tensorflow as tf
from absl import flags
from etils import epath
from paxml import tasks_lib, trainer_lib
from praxis import base_input, base_layer, pax_fiddle, py_utils

from codegen_pax.runs import programs, summary, utilisation
from codegen_pax.runs.progress import Pace


@pytest.fixture(autouse=True)
def parsed_flags():
    """Pax reads one when it writes a summary."""
    flags.FLAGS(["paxml.main"])
    yield
    flags.FLAGS.unparse_flags()


def make_handler(folder, records):
    return programs.StepSummaryHandler(
        tf.summary.create_file_writer(str(folder)),
        5,
        log_interval_steps=5,
        extra_steps=(1, 12),
        on_record=lambda *values: records.append(values),
    )


def process(handler, step, **scalars):
    suffix = base_layer.get_summary_type_suffix(base_layer.SummaryType.AGGREGATE_SCALAR)
    handler.process(
        step,
        jnp.float32(99),  # the loss with what is added to it
        scalars or None,
        {f"learning/lr{suffix}": jnp.float32(step / 1_000)},
    )


def test_the_first_and_the_last_step_are_recorded_and_reported(tmp_path):
    records = []
    handler = make_handler(tmp_path / "summaries" / "train", records)
    for step in range(1, 13):
        process(handler, step, log_pplx=(jnp.float32(10 - step), jnp.float32(64)))
    assert [(step, entropy) for step, entropy, _ in records] == [(1, 9), (5, 5), (10, 0), (12, -2)]
    assert [rate for *_, rate in records] == pytest.approx([0.001, 0.005, 0.01, 0.012])
    actual = summary.training_losses(tmp_path)
    assert [(one.step, one.value) for one in actual] == [(1, 9.0), (5, 5.0), (10, 0.0), (12, -2.0)]


def test_a_model_without_that_metric_is_reported_by_its_loss(tmp_path):
    records = []
    process(make_handler(tmp_path, records), 1)
    assert records[0][1] == 99


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


class SlowInput(base_input.BaseInput):
    """An input whose every batch takes `seconds` of a clock."""

    def get_next(self):
        self.clock.now += self.seconds
        return py_utils.NestedMap(ids=np.zeros((self.batch_size, 4), np.int32))


class PlainProgram(programs.TrainProgram):
    """Pax's loop around a step without a network, which takes a second of a clock."""

    def train_input_partition_spec(self, inputs):
        return None

    def train_step(self, step, state, prng_key, inputs, static_args):
        self.train_input.clock.now += 1
        output = trainer_lib.StepFnOutput(
            loss=jnp.float32(2), weighted_scalars={}, per_example_out={}, summary_tensors={}
        )
        return step + 1, state, output


class Partitioner:
    def check_input_spec(self, inputs):
        pass

    def preprocess_inputs(self, rows, inputs, specs):
        return inputs


@pytest.mark.parametrize(("seconds", "share"), [(3.0, 0.75), (0.0, 0.0)])
def test_speed_and_the_wait_for_input_are_recorded(seconds, share, tmp_path, monkeypatch, caplog):
    """By Pax's own loop, with an evaluation between two records."""
    clock = Clock()
    monkeypatch.setattr(programs, "Pace", functools.partial(Pace, clock=clock))
    monkeypatch.setattr(utilisation, "peak", lambda dtype: utilisation.Peak(1e9, "a test"))
    rows = pax_fiddle.Config(SlowInput, batch_size=2, is_training=True).Instantiate()
    rows.clock, rows.seconds = clock, seconds
    task = pax_fiddle.Config(tasks_lib.SingleTask, name="task")
    train = task.train
    train.num_train_steps, train.summary_interval_steps, train.eval_interval_steps = 9, 4, 6
    train.eval_skip_train, train.enforce_input_specs = True, False
    task = types.SimpleNamespace(
        train=pax_fiddle.build(train), decode=pax_fiddle.build(task.decode)
    )
    program = PlainProgram(
        utilisation.Work(100, 10**6, 5 * 10**5, "float32"), lambda step, rows: ["x"]
    )
    seed = jax.random.PRNGKey(0)
    with caplog.at_level("INFO", "codegen_pax"):
        program.setup(task, rows, Partitioner(), epath.Path(tmp_path), seed, seed, 0)
        for step in range(9):
            program.update_state(None, step)
            program.run(None, step)
            if step + 1 == 6:
                clock.now += 50  # an evaluation
        program.shutdown()
    speed = 100 / (1 + seconds)
    left = {4: 5 * (1 + seconds), 8: (7 * (1 + seconds) + 50) / 7, 9: 0}
    for tag, expected in {
        utilisation.TOKENS_PER_SECOND: dict.fromkeys((4, 8, 9), speed),
        utilisation.MFU: dict.fromkeys((4, 8, 9), speed / 1e3),
        utilisation.CAUSAL_MFU: dict.fromkeys((4, 8, 9), speed / 2e3),
        utilisation.INPUT_WAIT: dict.fromkeys((4, 8, 9), share),
        utilisation.SECONDS_LEFT: left,
    }.items():
        actual = summary.read_scalars(tmp_path / "summaries" / "train", tag)
        assert {one.step: one.value for one in actual} == pytest.approx(expected), tag
    lines = [record.getMessage().removeprefix("codegen-pax: ") for record in caplog.records]
    assert lines[1].startswith("utilisation: MFU is model FLOPs (1 M a token: ")
    assert lines[3] == "step 1 of 9: loss 2.0000"
    assert lines[4] == (
        f"step 4 of 9: loss 2.0000, {speed:.0f} tokens/s, MFU {speed / 1e3:.1%}, "
        f"input wait {share:.1%}, {left[4]:.0f} s left"
    )
