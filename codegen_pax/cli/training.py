"""What `run` and `ladder` share: one experiment through the stock binary, and its summary."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from codegen_pax.names import counted, printable
from codegen_pax.runs import checkpoints, launch, progress
from codegen_pax.silent_imports import silenced
from experiments import start as starting
from experiments.declaration import DOOR, EVALUATE_VARIABLE, Declaration, named_for_evaluation
from experiments.intervals import intervals
from experiments.report import SCRATCH, START_VARIABLE, wanted_margin

if TYPE_CHECKING:
    from codegen_pax.runs.summary import Summary


def check(
    declaration: Declaration, job: Path, *, start: str | None, evaluate: Sequence[str] = ()
) -> None:
    """Refuses, before the binary is started, what is known to be refused by it half a minute later.

    Arguments as of `train`.

    Raises:
      UserError: the folder cannot be written to, the weights to start from are missing, the disk
        has no room, or a corpus is missing.
    """
    checkpoints.check_writable(job)
    if checkpoints.last_step(job) is None:
        named = {START_VARIABLE: start} if start is not None else {}
        starting.check(declaration, begins=True, environment={**os.environ, **named})
    every = intervals(declaration.steps, declaration.size.embedded)
    checkpoints.check_room(
        job,
        parameters=declaration.parameters,
        steps=declaration.steps,
        interval=every.save,
        max_to_keep=every.kept,
    )
    if declaration.size.embedded:
        return  # its text is on every machine; to import what reads it takes as long as to be told
    with silenced():
        import tasks  # noqa: F401  (registers the mixtures)
        from codegen_pax.runs import data_checks

    data_checks.check_training(declaration.mixture, declaration.row_length)
    for mixture in _mixtures(declaration, evaluate):
        data_checks.check_evaluation(mixture, declaration.row_length)


def _mixtures(declaration: Declaration, evaluate: Sequence[str]) -> list[str]:
    """What is evaluated on: what is asked for, else what the environment names; and its own."""
    return list(dict.fromkeys([*(evaluate or named_for_evaluation()), declaration.mixture]))


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
      UserError: see `check`.
      launch.PaxFailedError: the binary failed.
    """
    check(declaration, job, start=start, evaluate=evaluate)
    settings = {}
    if start is not None:
        settings[START_VARIABLE] = start
    settings[EVALUATE_VARIABLE] = ",".join(_mixtures(declaration, evaluate))
    console.print(
        f"{experiment}: {counted(declaration.steps, 'step')} of "
        f"{counted(declaration.batch_tokens, 'token')}, "
        f"from {_origin(declaration, job, start)} -> {job}",
        soft_wrap=True,
    )
    with progress.follow_run(declaration.name, declaration.steps, console) as on_line:
        launch.run_pax(
            experiment,
            job,
            flags=("--eval_on_test", "--decode_during_train"),
            environment=settings,
            on_line=on_line,
        )
    with silenced():  # after the run: what the summary needs takes seconds to import
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
    if (step := checkpoints.last_step(job)) is not None:
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
    from tasks import prompts

    table = Table(title=found.experiment, show_header=False)
    table.add_column()
    table.add_column(overflow="fold")
    table.add_row("validation loss", f"{found.validation_loss:.3f} nats a token")
    if found.first_validation_loss is not None:
        change = found.validation_loss - found.first_validation_loss
        table.add_row(
            "before the first step", f"{found.first_validation_loss:.3f} ({change:+.3f} since)"
        )
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
    table.add_row("trained on", f"{found.tokens:,} tokens in {counted(found.steps, 'step')}")
    if found.tokens_per_second is not None:
        table.add_row("speed", f"{found.tokens_per_second:,.0f} tokens/s")
    minutes, rest = divmod(round(seconds), 60)
    table.add_row("time", f"{minutes} min {rest} s")
    table.add_row("loss curve", printable(job / LOSS_CURVE))
    table.add_row("completions", printable(job / COMPLETIONS))
    table.add_row("checkpoints", printable(checkpoints.directory(job)))
    table.add_row(
        "events", printable(f"tensorboard --logdir {shlex.quote(str(job / 'summaries'))}")
    )
    console.print(table)
    prompt = prompts.for_phase(declaration.phase, os.environ.get(prompts.PROMPTS_VARIABLE, ""))
    # Its own module is looked for where this ran; of a run's folder none is imported.
    module = [] if declaration.module == DOOR else ["--module", declaration.module]
    command = shlex.join(["codegen-pax", "sample", *module, os.fspath(job), prompt.example])
    console.print(f"Try: {printable(command)}", highlight=False, soft_wrap=True)
