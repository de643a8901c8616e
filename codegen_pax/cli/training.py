"""What `run` and `ladder` share: one experiment through the stock binary, and its summary."""

from __future__ import annotations

import dataclasses
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from etils import epath
from rich.console import Console
from rich.table import Table

from codegen_pax.names import counted, printable
from codegen_pax.runs import checkpoints, launch, progress
from codegen_pax.silent_imports import silenced
from experiments import start as starting
from experiments.declaration import DOOR, Declaration
from experiments.profiles import Data
from experiments.report import expected_margin
from experiments.settings import SCRATCH, Settings

if TYPE_CHECKING:
    from codegen_pax.runs.summary import Summary


def check(declaration: Declaration, job: Path, settings: Settings) -> None:
    """Refuses, before the binary is started, what it would refuse half a minute later.

    Args:
        declaration: Of the experiment, with the settings' mesh and recipe.
        job: Its directory.
        settings: What the binary is run with.

    Raises:
        UserError: The folder cannot be written to, the weights to start from are missing, the disk
            has no room, or a corpus is missing.
    """
    checkpoints.check_writable(job)
    run = starting.Run(job=epath.Path(job), step=checkpoints.last_step(job), trains=True)
    starting.check(declaration, settings, run, starting.find(declaration, settings, run))
    intervals = declaration.profile.intervals(declaration.steps)
    checkpoints.check_room(
        job,
        parameters=declaration.parameters,
        steps=declaration.steps,
        interval=intervals.save,
        max_to_keep=intervals.keep,
    )
    if declaration.profile.data == Data.INSTALLED:
        return  # every machine has it, and importing what reads it takes as long as the binary
    with silenced():
        import tasks  # noqa: F401  (registers the mixtures)
        from codegen_pax.data import prepared
        from codegen_pax.runs import data_checks

    prepared.set_corpora_folder(settings.data)
    data_checks.check_training(declaration.mixture, declaration.row_length)
    for mixture in _mixtures(declaration, settings):
        data_checks.check_evaluation(mixture, declaration.row_length)


def _mixtures(declaration: Declaration, settings: Settings) -> list[str]:
    """What is evaluated on: what the settings name, and the experiment's own in any case."""
    return list(dict.fromkeys([*settings.evaluate, declaration.mixture]))


def train(
    experiment: str, declaration: Declaration, job: Path, console: Console, settings: Settings
) -> Summary:
    """Trains, evaluates and decodes one experiment in one process of the stock binary.

    Args:
        experiment: `module.Class`, as the binary takes it.
        declaration: Of the experiment, with the settings' mesh and recipe.
        job: Its directory; a job that is there already is resumed.
        console: Where progress is shown.
        settings: What the binary is run with; it is evaluated on the experiment's own mixture
            besides those of the settings.

    Raises:
        UserError: See `check`.
        launch.PaxFailedError: The binary failed.
    """
    check(declaration, job, settings)
    of_run = dataclasses.replace(settings, evaluate=tuple(_mixtures(declaration, settings)))
    console.print(
        f"{experiment}: {counted(declaration.steps, 'step')} of "
        f"{counted(declaration.batch_tokens, 'token')}, "
        f"from {weights_of(declaration, job, settings)} -> {job}",
        soft_wrap=True,
    )
    with progress.follow_run(declaration.name, declaration.steps, console) as on_line:
        launch.run_pax(
            experiment,
            job,
            flags=("--eval_on_test", "--decode_during_train"),
            environment=of_run.to_environment(),
            on_line=on_line,
        )
    with silenced():  # after the run: what the summary needs takes seconds to import
        import tasks  # noqa: F401  (registers the mixture that is read)
        from codegen_pax.data import prepared
        from codegen_pax.runs.summary import summarise
        from codegen_pax.text.vocabulary import vocabulary

        prepared.set_corpora_folder(settings.data)
        return summarise(
            job,
            experiment=declaration.name,
            mixture=declaration.mixture,
            row_length=declaration.row_length,
            batch_tokens=declaration.batch_tokens,
            vocab_size=declaration.size.vocab_size,
            to_text=vocabulary(declaration.phase.vocabulary).decode,
        )


def weights_of(declaration: Declaration, job: Path, settings: Settings) -> str:
    """Returns which weights a run begins with, or resumes with, in words."""
    if (step := checkpoints.last_step(job)) is not None:
        return f"its own step {step:,}"
    if declaration.start is None or settings.start_from in (None, SCRATCH):
        return "random weights"
    return f"the weights of {settings.start_from}"


def print_summary(
    found: Summary,
    declaration: Declaration,
    job: Path,
    seconds: float,
    console: Console,
    settings: Settings,
) -> None:
    """Prints what a run of so many seconds came to, and where everything lies."""
    from codegen_pax.runs.summary import COMPLETIONS, LOSS_CURVE
    from tasks import decoding

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
    wanted = expected_margin(declaration)
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
    prompt = decoding.prompts(declaration.phase, settings.prompts)
    # Its own module is looked for where this ran; of a run's folder none is imported.
    module = [] if declaration.module == DOOR else ["--module", declaration.module]
    command = shlex.join(["codegen-pax", "sample", *module, os.fspath(job), prompt.example])
    console.print(f"Try: {printable(command)}", highlight=False, soft_wrap=True)
