"""Runs an experiment with the stock Pax binary and prints its summary, for `run` and `ladder`."""

from __future__ import annotations

import dataclasses
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from etils import epath
from rich.console import Console
from rich.table import Table

from codegen_pax.messages import counted, printable
from codegen_pax.runs import checkpoints, launch, progress
from codegen_pax.silent_imports import silenced
from experiments import start as starting
from experiments.declaration import Declaration
from experiments.declared import DOOR
from experiments.profiles import Data
from experiments.report import expected_margin
from experiments.settings import SCRATCH, Settings

if TYPE_CHECKING:
    from codegen_pax.runs.summary import Summary


def train(
    experiment: str, declaration: Declaration, job: Path, console: Console, settings: Settings
) -> Summary:
    """Trains, evaluates and decodes one experiment in one process of the stock binary.

    Args:
        experiment: `module.Class`, as the binary takes it.
        declaration: The declaration of the experiment, with the settings' mesh and recipe.
        job: The job directory; an existing job is resumed.
        console: Where progress is shown.
        settings: The settings that the binary runs with. The experiment's own mixture is evaluated
            in addition to those of the settings.

    Raises:
        UserError: See `check`.
        launch.PaxFailedError: The binary failed.
    """
    mixtures = dict.fromkeys([*settings.evaluate, declaration.mixture])
    settings = dataclasses.replace(settings, evaluate=tuple(mixtures))
    check(declaration, job, console, settings)
    console.print(
        f"{experiment}: {counted(declaration.steps, 'step')} of "
        f"{counted(declaration.batch_tokens, 'token')}, "
        f"from {weights_of(declaration, job, settings)} -> {job}",
        soft_wrap=True,
    )
    announce(console, "starting the Pax binary, which takes about half a minute to import")
    with progress.follow_run(declaration.name, declaration.steps, console) as on_line:
        launch.run_pax(
            experiment,
            job,
            flags=("--eval_on_test", "--decode_during_train"),
            environment=settings.to_environment(),
            on_line=on_line,
        )
    announce(console, "summing up the run: counting the entropy of its data")
    with silenced():  # after the run, as the modules of the summary take seconds to import
        import tasks  # noqa: F401  (registers the mixture that is read)
        from codegen_pax.data import seqio_sources
        from codegen_pax.runs.summary import summarise

        seqio_sources.set_corpora_folder(settings.data)
        return summarise(
            job,
            experiment=declaration.name,
            mixture=declaration.mixture,
            row_length=declaration.row_length,
            batch_tokens=declaration.batch_tokens,
            vocab_size=declaration.size.vocab_size,
            vocabulary_name=declaration.vocabulary.value,
        )


def check(declaration: Declaration, job: Path, console: Console, settings: Settings) -> None:
    """Raises at once the errors that the binary would raise half a minute later.

    Args:
        declaration: The declaration of the experiment, with the settings' mesh and recipe.
        job: The job directory, whether it exists or not.
        console: Where waits are announced.
        settings: The settings that the binary runs with.

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
        return  # every machine has it, and importing its readers takes as long as the binary
    announce(console, "checking the data, which takes some seconds to import TensorFlow and seqio")
    with silenced():
        import tasks  # noqa: F401  (registers the mixtures)
        from codegen_pax.data import seqio_sources
        from codegen_pax.runs import data_checks

    seqio_sources.set_corpora_folder(settings.data)
    data_checks.check_training(declaration.mixture, declaration.row_length)
    for mixture in settings.evaluate:
        data_checks.check_evaluation(mixture, declaration.row_length)


def announce(console: Console, wait: str) -> None:
    """Prints what the next seconds are spent on."""
    console.print(f"{wait} ...", highlight=False, style="dim")


def weights_of(declaration: Declaration, job: Path, settings: Settings) -> str:
    """Returns, in words, which weights a run begins with or resumes from; see `train`."""
    if (step := checkpoints.last_step(job)) is not None:
        return f"its own step {step:,}"
    if declaration.start is None or settings.start_from in (None, SCRATCH):
        return "random weights"
    return f"the weights of {settings.start_from}"


def print_summary(
    summary: Summary,
    declaration: Declaration,
    job: Path,
    seconds: float,
    console: Console,
    settings: Settings,
) -> None:
    """Prints the results of a run that took `seconds`, and where its files are."""
    from codegen_pax.runs.summary import COMPLETIONS, LOSS_CURVE
    from tasks import prompts

    table = Table(title=summary.experiment, show_header=False)
    table.add_column()
    table.add_column(overflow="fold")
    table.add_row(
        "validation loss",
        f"{summary.validation_loss:.3f} nats a token, "
        f"{summary.per_byte(summary.validation_loss):.3f} nats a byte",
    )
    if summary.first_validation_loss is not None:
        change = summary.validation_loss - summary.first_validation_loss
        table.add_row(
            "before the first step", f"{summary.first_validation_loss:.3f} ({change:+.3f} since)"
        )
    margin = summary.unigram_entropy - summary.validation_loss
    expected = expected_margin(declaration)
    verdict = expected and (
        f"; expected {expected}: {'reached' if margin >= expected else 'missed'}"
    )
    table.add_row(
        "unigram entropy",
        f"{summary.unigram_entropy:.3f} ({margin:+.3f}{verdict or ''})",
    )
    table.add_row(
        "bigram entropy",
        f"{summary.bigram_entropy:.3f} ({summary.bigram_entropy - summary.validation_loss:+.3f})",
    )
    table.add_row(
        "bigram of the training files",
        f"{summary.fitted_bigram:.3f} ({summary.fitted_bigram - summary.validation_loss:+.3f})",
    )
    table.add_row(
        "held-out tokens", f"{summary.validation_tokens:,} of {summary.validation_bytes:,} bytes"
    )
    table.add_row("trained on", f"{summary.tokens:,} tokens in {counted(summary.steps, 'step')}")
    if summary.tokens_per_second is not None:
        table.add_row("speed", f"{summary.tokens_per_second:,.0f} tokens/s")
    mfu, causal = summary.model_flops_utilisation, summary.model_flops_utilisation_causal
    if mfu is not None and causal is not None:
        table.add_row("MFU", f"{mfu:.1%}; {causal:.1%} with causal attention halved")
    if summary.input_wait_share is not None:
        table.add_row("input wait", f"{summary.input_wait_share:.1%} of the steps' time")
    minutes, rest = divmod(round(seconds), 60)
    table.add_row("time", f"{minutes} min {rest} s")
    table.add_row("loss curve", printable(job / LOSS_CURVE))
    table.add_row("completions", printable(job / COMPLETIONS))
    table.add_row("checkpoints", printable(checkpoints.directory(job)))
    table.add_row(
        "events", printable(f"tensorboard --logdir {shlex.quote(str(job / 'summaries'))}")
    )
    console.print(table)
    prompt = prompts.for_phase(declaration.phase, declaration.vocabulary, settings.prompts)
    # A user's own module is looked for in the working directory, never in a run's folder.
    module = [] if declaration.module == DOOR else ["--module", declaration.module]
    command = shlex.join(["codegen-pax", "sample", *module, os.fspath(job), prompt.example])
    console.print(f"Try: {printable(command)}", highlight=False, soft_wrap=True)
