"""Summaries of a training step: the first and the last are written whatever the interval."""

import jax.numpy as jnp
import pytest
import tensorflow as tf
from absl import flags
from praxis import base_layer

from codegen_pax.runs import programs, summary


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
