"""What `run` and `ladder` share: one experiment through the stock binary, and its summary."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from codegen_pax.quiet import quietly
from codegen_pax.runs import launch, progress
from codegen_pax.weights import lineage
from experiments.declaration import EVALUATE_VARIABLE, Declaration
from experiments.report import SCRATCH, START_VARIABLE, wanted_margin

if TYPE_CHECKING:
    from codegen_pax.runs.summary import Summary


def train(
    experiment: str,
    declaration: Declaration,
    job: Path,
    console: Console,
    *,
    start: str | None,
    evaluate: Sequence[str] = (),
) -> Summary:
    """Trains, evaluates and decodes one experiment in one process of the stock binary.

    Args:
      experiment: `module.Class`, as the binary takes it.
      declaration: of the experiment, with the environment's settings.
      job: its directory; a job that is there already is resumed.
      console: where progress is shown.
      start: directory of the job whose weights to start from, or 'scratch'; what the environment
        says if None.
      evaluate: mixtures to evaluate on; what the environment says if empty, and the experiment's
        own in any case.

    Raises:
      launch.PaxFailedError: the binary failed.
    """
    settings = {}
    if start is not None:
        settings[START_VARIABLE] = start
    mixtures = list(evaluate) or os.environ.get(EVALUATE_VARIABLE, "").split(",")
    if declaration.mixture not in mixtures:
        mixtures.append(declaration.mixture)
    settings[EVALUATE_VARIABLE] = ",".join(filter(None, mixtures))
    console.print(
        f"{experiment}: {declaration.steps:,} steps of {declaration.batch_tokens:,} tokens, "
        f"from {_origin(declaration, job, start)} -> {job}"
    )
    with progress.follow_steps(declaration.name, declaration.steps, console) as on_step:
        launch.run_pax(
            experiment,
            job,
            flags=("--eval_on_test", "--decode_during_train"),
            environment=settings,
            on_step=on_step,
        )
    with quietly():  # after the run: what the summary needs takes seconds to import
        import tasks  # noqa: F401  (registers the mixture that is read)
        from codegen_pax.runs.summary import summarise
        from codegen_pax.text.vocabulary import vocabulary

        return summarise(
            job,
            experiment=declaration.name,
            mixture=declaration.mixture,
            row_length=declaration.row_length,
            batch_tokens=declaration.batch_tokens,
            vocab_size=declaration.size.vocab_size,
            to_text=vocabulary(declaration.phase.vocabulary).decode,
        )


def _origin(declaration: Declaration, job: Path, start: str | None) -> str:
    """Which weights a run begins with, or goes on with."""
    if (step := lineage.last_step(job)) is not None:
        return f"its own step {step:,}"
    named = start or os.environ.get(START_VARIABLE, "")
    if declaration.start is None or named in ("", SCRATCH):
        return "random weights"
    return f"the weights of {named}"


def print_summary(
    found: Summary, declaration: Declaration, job: Path, seconds: float, console: Console
) -> None:
    """Prints what a run of so many seconds came to, and where everything lies."""
    from codegen_pax.runs.summary import COMPLETIONS, LOSS_CURVE
    from tasks import decoding

    table = Table(title=found.experiment, show_header=False)
    table.add_row("validation loss", f"{found.validation_loss:.3f} nats a token")
    margin = found.unigram_entropy - found.validation_loss
    wanted = wanted_margin(declaration)
    judged = wanted and f"; wanted {wanted}: {'reached' if margin >= wanted else 'missed'}"
    table.add_row(
        "unigram entropy",
        f"{found.unigram_entropy:.3f} ({margin:+.3f}{judged or ''})",
    )
    table.add_row(
        "bigram entropy",
        f"{found.bigram_entropy:.3f} ({found.bigram_entropy - found.validation_loss:+.3f})",
    )
    table.add_row(
        "bigram of the training files",
        f"{found.fitted_bigram:.3f} ({found.fitted_bigram - found.validation_loss:+.3f})",
    )
    table.add_row("held-out tokens", f"{found.validation_tokens:,}")
    table.add_row("trained on", f"{found.tokens:,} tokens in {found.steps:,} steps")
    table.add_row("speed", f"{found.tokens_per_second:,.0f} tokens/s")
    minutes, rest = divmod(round(seconds), 60)
    table.add_row("time", f"{minutes} min {rest} s")
    table.add_row("loss curve", str(job / LOSS_CURVE))
    table.add_row("completions", str(job / COMPLETIONS))
    table.add_row("checkpoints", str(job / "checkpoints"))
    table.add_row("events", f"tensorboard --logdir {job / 'summaries'}")
    console.print(table)
    prompt = decoding.prompts(declaration.phase, os.environ.get(decoding.PROMPTS_VARIABLE, ""))
    command = shlex.join(["codegen-pax", "sample", os.fspath(job), prompt.example])
    console.print(f"Try: {command}", highlight=False, markup=False, soft_wrap=True)
