"""Losses are read from events as Pax writes them, and drawn as a curve."""

import pytest
import tensorflow as tf

from codegen_pax.runs import summary


def write_events(directory, tag, values):
    writer = tf.summary.create_file_writer(str(directory))
    with writer.as_default():
        for step, value in values:
            tf.summary.scalar(tag, value, step=step)
    writer.close()


def test_a_resumed_runs_events_are_one_curve(tmp_path):
    """The second file repeats the steps since the checkpoint; the newer value of each counts."""
    train = tmp_path / "summaries" / "train"
    write_events(train, summary.CROSS_ENTROPY, [(10, 3.0), (20, 2.0)])
    first = next(train.iterdir())
    first.rename(first.with_name("events.out.tfevents.1"))
    write_events(train, summary.CROSS_ENTROPY, [(20, 2.5), (30, 1.5)])
    actual = summary.training_losses(tmp_path)
    assert [(scalar.step, scalar.value) for scalar in actual] == [(10, 3.0), (20, 2.5), (30, 1.5)]
    assert summary.read_scalars(train, "another tag") == []


def test_an_evaluation_that_was_not_made_is_named(tmp_path):
    write_events(tmp_path / "summaries" / "train", summary.CROSS_ENTROPY, [(1, 1.0)])
    with pytest.raises(FileNotFoundError, match=r"codegen_nano_mono.*found: train"):
        summary.evaluation_losses(tmp_path, "codegen_nano_mono")


def test_a_curve_is_drawn(tmp_path):
    curve = [summary.Scalar(step, 0.0, 5.0 - step / 10) for step in range(10)]
    path = tmp_path / "curve.png"
    summary.write_loss_curve(path, "title", curve, curve[-1:], {"unigram entropy": 6.0})
    assert path.read_bytes().startswith(b"\x89PNG")
    assert [file.name for file in tmp_path.iterdir()] == ["curve.png"]


def test_every_reference_of_a_curve_is_named_where_it_can_be_read():
    curve = [summary.Scalar(step, 0.0, 11.0 - step / 30) for step in range(10, 190, 10)]
    figure = summary.draw_loss_curve(
        "title", curve, curve[-1:], {"unigram entropy": 6.24, "bigram entropy": 2.66}
    )
    figure.canvas.draw()
    (axes,) = figure.axes
    assert [text.get_text() for text in axes.texts] == [
        "unigram entropy 6.24",
        "bigram entropy 2.66",
    ]
    for text in axes.texts:
        place = text.get_window_extent()
        assert axes.bbox.contains(place.x0, place.y0) and axes.bbox.contains(place.x1, place.y1)
