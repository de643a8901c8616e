"""What is read from a run's folder, on files as Pax writes them."""

import json

import pytest
import tensorflow as tf

from codegen_pax.runs import completions, events
from codegen_pax.runs.checkpoint_arrays import read_variables
from codegen_pax.runs.loss_curve import draw, draw_loss_curve


def write_events(directory, tag, values):
    writer = tf.summary.create_file_writer(str(directory))
    with writer.as_default():
        for step, value in values:
            tf.summary.scalar(tag, value, step=step)
    writer.close()


def test_a_resumed_runs_events_are_one_curve(tmp_path):
    """The second file repeats the steps since the checkpoint; the newer value of each counts."""
    train = tmp_path / "summaries" / "train"
    write_events(train, events.CROSS_ENTROPY, [(10, 3.0), (20, 2.0)])
    first = next(train.iterdir())
    first.rename(first.with_name("events.out.tfevents.1"))
    write_events(train, events.CROSS_ENTROPY, [(20, 2.5), (30, 1.5)])
    found = events.training_losses(tmp_path)
    assert [(scalar.step, scalar.value) for scalar in found] == [(10, 3.0), (20, 2.5), (30, 1.5)]
    assert events.read_scalars(train, "another tag") == []


def test_an_evaluation_that_was_not_made_is_named(tmp_path):
    write_events(tmp_path / "summaries" / "train", events.CROSS_ENTROPY, [(1, 1.0)])
    with pytest.raises(FileNotFoundError, match=r"codegen_nano_mono.*found: train"):
        events.evaluation_losses(tmp_path, "codegen_nano_mono")


def test_the_last_decode_is_read(tmp_path):
    folder = tmp_path / "decoder_out" / "prompts"
    folder.mkdir(parents=True)
    for step in (20, 100):
        row = {"prefix_ids": [1], "decoded_ids": [[step, 7]]}
        name = f"decoder_out_{step}_shard_0.jsonl"
        (folder / name).write_text(json.dumps(row) + "\n")
    (row,) = completions.read_decoded(tmp_path)
    assert row["decoded_ids"] == [[100, 7]]
    text = completions.render([row], lambda ids: "/".join(map(str, ids)))
    assert "--- prompt 1\n1\n" in text and "--- completion (2 tokens)\n100/7\n" in text


def test_no_decode_and_no_weights_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no decoded prompts"):
        completions.read_decoded(tmp_path)
    with pytest.raises(FileNotFoundError, match="no weights"):
        read_variables(tmp_path)


def test_a_curve_is_drawn(tmp_path):
    curve = [events.Scalar(step, 0.0, 5.0 - step / 10) for step in range(10)]
    path = tmp_path / "curve.png"
    draw_loss_curve(path, "title", curve, curve[-1:], {"unigram entropy": 6.0})
    assert path.read_bytes().startswith(b"\x89PNG")
    assert [file.name for file in tmp_path.iterdir()] == ["curve.png"]


def test_every_reference_of_a_curve_is_named_where_it_can_be_read():
    curve = [events.Scalar(step, 0.0, 11.0 - step / 30) for step in range(10, 190, 10)]
    figure = draw("title", curve, curve[-1:], {"unigram entropy": 6.24, "bigram entropy": 2.66})
    figure.canvas.draw()
    (axes,) = figure.axes
    assert [text.get_text() for text in axes.texts] == [
        "unigram entropy 6.24",
        "bigram entropy 2.66",
    ]
    for text in axes.texts:
        place = text.get_window_extent()
        assert axes.bbox.contains(place.x0, place.y0) and axes.bbox.contains(place.x1, place.y1)
