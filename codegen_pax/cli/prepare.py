"""`codegen-pax prepare`: raw files to a prepared corpus."""

from __future__ import annotations

import argparse
import collections
import contextlib
import dataclasses
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codegen_pax.errors import InvalidValueError, UsageError
from codegen_pax.messages import counted

if TYPE_CHECKING:
    from codegen_pax.cli.core.terminal import Terminal
    from codegen_pax.data.format.manifest import Manifest
    from codegen_pax.data.prepare.settings import Settings

_MAX_DAMAGED_NAMED = 20  # inputs; the manifest names them all

_STEP_LABELS = {"examine": "reading", "tokenise": "tokenising"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the verb."""
    parser.add_argument("corpus", help="pile, bigquery, bigpython, instruction or tree")
    parser.add_argument(
        "--input",
        nargs="+",
        required=True,
        help="files, folders (with all that are in them) or globs, local or URLs",
    )
    parser.add_argument("--output", required=True, help="the corpus's folder, local or a URL")
    parser.add_argument("--seed", type=_seed, default=0, help="of the documents' order")
    parser.add_argument(
        "--workers", type=_positive, help="processes on this machine (default: one a core)"
    )
    parser.add_argument(
        "--runner", help="a runner of Apache Beam, as DataflowRunner; its options follow after --"
    )
    parser.add_argument(
        "--languages", nargs="+", help="that are kept, of source code (default of tree: all)"
    )
    parser.add_argument("--licences", nargs="+", help="SPDX identifiers that are kept, or any")
    parser.add_argument(
        "--near-duplicates", action="store_true", help="drop near duplicates too (MinHash)"
    )
    parser.add_argument(
        "--redact", action="store_true", help="replace e-mail addresses and secrets"
    )
    parser.add_argument(
        "--benchmarks", nargs="+", default=[], help="files of problems besides HumanEval's"
    )
    parser.add_argument(
        "--language-prefix",
        action=argparse.BooleanOptionalAction,
        help="begin each file with the name of its language; bigquery's default",
    )
    parser.add_argument(
        "--validation",
        type=_share,
        help="share that is held out (default: 0.005, of large inputs that of 16 MiB of them)",
    )
    parser.add_argument("--row-length", type=_row_length, help="tokens in a row")
    parser.add_argument("--json", action="store_true", help="print the manifest's counts")


def _number(text: str, least: int, most: int) -> int:
    try:
        value = int(text)
    except ValueError:
        value = least - 1
    if not least <= value <= most:
        raise argparse.ArgumentTypeError(
            f"found {text!r}, expected a whole number from {least} to {most:,}"
        )
    return value


def _seed(text: str) -> int:
    return _number(text, 0, 2**64 - 1)


def _positive(text: str) -> int:
    return _number(text, 1, 2**31 - 1)


def _row_length(text: str) -> int:
    return _number(text, 2, 2**31 - 1)  # in a row of T tokens, T - 1 are predicted


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"found {text!r}, expected a number from 0 to below 1")
    return value


def run(args: argparse.Namespace) -> int:
    """Prepares the corpus and prints the counts of its documents, by rule."""
    from codegen_pax.cli.core.terminal import Terminal
    from codegen_pax.data.prepare import corpus_checks, duplicates, output, pipeline, work_files
    from codegen_pax.data.prepare.settings import default_validation_share
    from codegen_pax.data.rules import decontamination
    from codegen_pax.data.sources import discovery, partitions

    work_files.limit_read_ahead()
    settings = _parse_settings(args)
    _check_output(args, settings.output)
    # The benchmarks are read first, as a fault in them ends the verb.
    benchmarks = decontamination.load(settings.benchmarks, settings.redact).benchmarks
    left_out: collections.Counter[str] = collections.Counter()
    files = discovery.find(args.corpus, args.input, left_out)
    size = sum(file.size for file in files)
    share = default_validation_share(size) if args.validation is None else args.validation
    settings = dataclasses.replace(settings, ranges=duplicates.num_ranges(size), validation=share)
    inputs = partitions.plan(args.corpus, files)
    corpus_checks.check_languages(settings, inputs)
    console = Terminal(stderr=args.json)
    if too_short := sum(len(file.unknowable) for file in benchmarks):
        console.print(
            f"{too_short:,} of {sum(file.problems for file in benchmarks):,} benchmark problems"
            " are too short to be recognised; the manifest names them"
        )
    with output.lock(settings):
        output.begin(settings)
        with _follow_bytes(console, sum(partition.size for partition in inputs)) as on_progress:
            pipeline.run(
                settings,
                files,
                inputs,
                workers=args.workers or len(os.sched_getaffinity(0)),
                runner=args.runner,
                options=args.forwarded,
                on_progress=on_progress,
            )
        manifest = output.finish(settings, left_out)
    if args.json:
        print(json.dumps(manifest.counts, indent=1))
    else:
        _print(manifest, settings.output, console)
    _warn(manifest, console)
    return 0


def _parse_settings(args: argparse.Namespace) -> Settings:
    """Returns the settings that the arguments ask for.

    Raises:
        UsageError: An argument is unknown, or does not apply to this corpus or runner.
    """
    from codegen_pax import messages
    from codegen_pax.data.prepare.settings import KINDS, Settings
    from codegen_pax.data.rules import languages, licences
    from codegen_pax.data.sources import storage

    if args.corpus not in KINDS:
        raise UsageError(messages.unknown("corpus", args.corpus, KINDS))
    _check_runner(args)
    kind = KINDS[args.corpus]
    for option, is_given, has_use in (
        ("--languages", bool(args.languages), kind.code),
        ("--language-prefix", args.language_prefix is not None, kind.code),
        ("--licences", bool(args.licences), kind.licences),
    ):
        if is_given and not has_use:
            raise UsageError(f"{option} has no use for {args.corpus}")
    optional: dict[str, Any] = {
        "row_length": args.row_length,
        "prefix": kind.prefixed if args.language_prefix is None else args.language_prefix,
    }
    try:
        if args.languages:
            optional["languages"] = tuple(languages.resolve(name) for name in args.languages)
        if args.licences:
            optional["licences"] = licences.resolve(args.licences)
    except InvalidValueError as error:
        raise UsageError(error) from error
    return Settings(
        corpus=args.corpus,
        output=args.output if storage.is_url(args.output) else os.path.abspath(args.output),
        seed=args.seed,
        near_duplicates=args.near_duplicates,
        redact=args.redact,
        benchmarks=tuple(args.benchmarks),
        **{name: value for name, value in optional.items() if value is not None},
    )


def _check_runner(args: argparse.Namespace) -> None:
    from codegen_pax.data.prepare import on_beam

    if not args.runner:
        if args.forwarded:
            raise UsageError(f"options of Beam ({args.forwarded[0]}) need --runner")
        return
    if args.workers:
        raise UsageError(
            "--workers counts processes of this machine; the options of a runner follow after --"
        )
    try:
        on_beam.check_runner(args.runner, args.forwarded)
    except on_beam.RunnerError as error:
        raise UsageError(error) from error


def _check_output(args: argparse.Namespace, output: str) -> None:
    """Raises UsageError if the output is among the inputs, or its name is not UTF-8."""
    from codegen_pax.data.sources import storage

    try:
        output.encode()
    except UnicodeEncodeError:  # Beam's workers get the name as UTF-8
        raise UsageError(
            f"--output {storage.escape_path(output)}: expected a name in UTF-8"
        ) from None
    for path in args.input:  # the next run would read this one's output
        root = path if storage.is_url(path) else os.path.abspath(path)
        if Path(output).is_relative_to(root):
            raise UsageError(f"--output {output} lies in {path}, which is read")


@contextlib.contextmanager
def _follow_bytes(console: Terminal, total: int) -> Iterator[Callable[[dict[str, int]], None]]:
    """Shows a bar of bytes for each step that reads the inputs, with the time left.

    Yields:
        A function to call with step -> the bytes that are done.
    """
    from rich import progress

    bars = progress.Progress(
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.DownloadColumn(),
        progress.TimeRemainingColumn(),
        console=console,
    )
    with bars:
        tasks = {step: bars.add_task(label, total=total) for step, label in _STEP_LABELS.items()}
        ordering = bars.add_task("ordering", total=None)

        def on_progress(done: dict[str, int]) -> None:
            for step, size in done.items():
                bars.update(tasks[step], completed=size)

        yield on_progress
        bars.update(ordering, total=1, completed=1)


def _warn(manifest: Manifest, console: Terminal) -> None:
    """Prints which inputs are missing from the corpus, wholly or in part, and other remarks."""
    from rich.text import Text

    from codegen_pax.data.prepare import corpus_checks

    if left_out := manifest.counts.get("left_out"):
        reasons = ", ".join(f"{number:,} {reason}" for reason, number in sorted(left_out.items()))
        console.print(f"files that were not read: {reasons}", highlight=False)
    damaged = list(manifest.counts["damaged"].values())
    if damaged:
        console.print(
            f"WARNING: {len(damaged):,} of {len(manifest.inputs):,} inputs have faults; what could"
            " not be read of them is not in the corpus:",
            style="bold red",
        )
    for fault in damaged[:_MAX_DAMAGED_NAMED]:
        console.print(Text(f"  {fault}"), soft_wrap=True)
    if len(damaged) > _MAX_DAMAGED_NAMED:
        console.print(f"  and {len(damaged) - _MAX_DAMAGED_NAMED:,} more, which the manifest names")
    for remark in corpus_checks.remarks(manifest):
        console.print(Text(remark), soft_wrap=True)


def _print(manifest: Manifest, folder: str, console: Terminal) -> None:
    """Prints documents, bytes and tokens by rule, and the rows of each part."""
    from rich.table import Table

    from codegen_pax.data.format.manifest import IN, KEPT, totals_by_rule

    table = Table(title=f"{manifest.corpus} in {folder}")
    table.add_column("rule")
    for unit in ("documents", "bytes", "tokens"):
        table.add_column(unit, justify="right")
    rules = totals_by_rule(manifest.counts["documents"])
    order = {IN: 0, KEPT: 2}
    for rule, values in sorted(rules.items(), key=lambda item: (order.get(item[0], 1), item[0])):
        table.add_row(rule, *(f"{value:,}" if value else "" for value in values))
    console.print(table)
    for part, splits in manifest.parts.items():
        rows = " and ".join(counted(manifest.rows(split, part), f"{split} row") for split in splits)
        console.print(f"{part or 'the corpus'}: {rows} of {manifest.row_length:,} tokens")
        if manifest.settings["validation"] and not manifest.rows("validation", part):
            console.print(
                f"  nothing to validate on: {part or 'the corpus'} has no second document, or what"
                f" is held out fills no row of {manifest.row_length:,} tokens"
            )
