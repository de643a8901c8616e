"""Draws a run's losses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # no window: the picture goes to a file

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from codegen_pax.runs.events import Scalar

_FEW = 40  # losses that are seen one by one: a single one is no line


def draw_loss_curve(
    path: Path,
    title: str,
    training: Sequence[Scalar],
    validation: Sequence[Scalar],
    references: Mapping[str, float],
) -> None:
    """Writes a PNG: loss over steps, validation as points, each reference as a dashed line.

    Args:
      path: of the picture.
      title: above it.
      training, validation: cross-entropies in nats a token.
      references: name -> entropy in nats a token.
    """
    figure = draw(title, training, validation, references)
    unfinished = path.with_suffix(".unfinished.png")
    figure.savefig(unfinished)
    plt.close(figure)
    unfinished.rename(path)


def draw(
    title: str,
    training: Sequence[Scalar],
    validation: Sequence[Scalar],
    references: Mapping[str, float],
) -> Figure:
    """The figure that `draw_loss_curve` writes."""
    figure, axes = plt.subplots(figsize=(8, 4.5), dpi=120)
    axes.plot(
        [scalar.step for scalar in training],
        [scalar.value for scalar in training],
        linewidth=1,
        marker="." if len(training) <= _FEW else None,
        label="training",
    )
    axes.plot(
        [scalar.step for scalar in validation],
        [scalar.value for scalar in validation],
        "o",
        color="tab:red",
        label="validation",
    )
    for name, value in references.items():
        axes.axhline(value, linestyle="--", linewidth=1, color="0.5")
        # Along the axis in its own breadth: the first step need not be 0.
        axes.text(
            0.99,
            value,
            f"{name} {value:.2f}",
            transform=axes.get_yaxis_transform(),
            horizontalalignment="right",
            verticalalignment="bottom",
            fontsize=8,
            bbox={"facecolor": "white", "alpha": 0.7, "edgecolor": "none", "pad": 1},
        )
    axes.set(title=title, xlabel="step", ylabel="cross-entropy, nats a token")
    axes.legend()
    axes.grid(alpha=0.3)
    figure.tight_layout()
    return figure
