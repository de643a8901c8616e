"""`codegen-pax prepare`: raw files to a prepared corpus."""

from __future__ import annotations

import argparse
import collections
import dataclasses
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from codegen_pax.errors import InvalidValueError, UsageError
from codegen_pax.names import counted

if TYPE_CHECKING:
    from codegen_pax.data.format.manifest import Manifest
    from codegen_pax.data.prepare.settings import Settings

HELP = "prepare a corpus: raw files to shards of rows, with a receipt"
PASSES_ON = True  # what stands after `--` is Beam's

_NAMED = 20  # damaged inputs that are named; the manifest has all

_STEPS = {"examine": "reading", "tokenise": "tokenising"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
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
            f"found {text!r}, wanted a whole number from {least} to {most:,}"
        )
    return value


def _seed(text: str) -> int:
    return _number(text, 0, 2**64 - 1)


def _positive(text: str) -> int:
    return _number(text, 1, 2**31 - 1)


def _row_length(text: str) -> int:
    return _number(text, 2, 2**31 - 1)  # of T tokens T - 1 are predicted


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"found {text!r}, wanted a number from 0 to below 1")
    return value


def run(args: argparse.Namespace) -> int:
    from codegen_pax import names
    from codegen_pax.cli.tables import Terminal
    from codegen_pax.data.prepare import duplicates, output, pipeline, settings
    from codegen_pax.data.rules import decontamination
    from codegen_pax.data.sources import discovery, partitions, storage

    if args.corpus not in settings.KINDS:
        raise UsageError(names.unknown("corpus", args.corpus, settings.KINDS))
    _check_runner(args)
    chosen = _settings(args)
    for path in args.input:  # what an earlier run left there would be read as well
        root = path if storage.is_url(path) else os.path.abspath(path)
        if Path(chosen.output).is_relative_to(root):
            raise UsageError(f"--output {chosen.output} lies in {path}, which is read")
    # What is wrong with them is told at once.
    benchmarks = decontamination.load(chosen.benchmarks, chosen.redact).benchmarks
    left_out: collections.Counter[str] = collections.Counter()
    found = discovery.find(args.corpus, args.input, left_out)
    size = sum(file.size for file in found)
    chosen = dataclasses.replace(
        chosen,
        ranges=duplicates.num_ranges(size),
        validation=settings.default_validation_share(size)
        if args.validation is None
        else args.validation,
    )
    pieces = partitions.plan(args.corpus, found)
    output.check_languages(chosen, pieces)
    console = Terminal(stderr=args.json)
    if unknowable := sum(len(file.unknowable) for file in benchmarks):
        console.print(
            f"{unknowable:,} of {sum(file.problems for file in benchmarks):,} benchmark problems"
            " are too short to be recognised; the manifest names them"
        )
    with output.lock(chosen):
        output.begin(chosen)
        with _progress(console, sum(piece.size for piece in pieces)) as on_progress:
            pipeline.run(
                chosen,
                found,
                pieces,
                workers=args.workers or len(os.sched_getaffinity(0)),
                runner=args.runner,
                options=args.passed_on,
                on_progress=on_progress,
            )
        manifest = output.finish(chosen, left_out)
    if args.json:
        print(json.dumps(manifest.counts, indent=1))
    else:
        _print(manifest, chosen.output, console)
    _warn(manifest, console)
    return 0


def _check_runner(args: argparse.Namespace) -> None:
    from codegen_pax.data.prepare import pipeline

    if not args.runner:
        if args.passed_on:
            raise UsageError(f"options of Beam ({args.passed_on[0]}) need --runner")
        return
    if args.workers:
        raise UsageError("--workers counts processes of this machine; the options of a runner follow after --")
    try:
        pipeline.check_runner(args.runner, args.passed_on)
    except pipeline.RunnerError as error:
        raise UsageError(error) from error


def _settings(args: argparse.Namespace) -> Settings:
    from codegen_pax.data.prepare.settings import KINDS, Settings
    from codegen_pax.data.rules import languages, licences
    from codegen_pax.data.sources import storage

    kind = KINDS[args.corpus]
    for option, wanted, has_use in (
        ("--languages", args.languages, kind.code),
        ("--language-prefix", args.language_prefix is not None, kind.code),
        ("--licences", args.licences, kind.licences),
    ):
        if wanted and not has_use:
            raise UsageError(f"{option} has no use for {args.corpus}")
    given = {
        "row_length": args.row_length,
        "prefix": kind.prefixed if args.language_prefix is None else args.language_prefix,
    }
    try:
        if args.languages:
            given["languages"] = tuple(languages.resolve(name) for name in args.languages)
        if args.licences:
            given["licences"] = licences.resolve(args.licences)
    except InvalidValueError as error:
        raise UsageError(error) from error
    output = args.output if storage.is_url(args.output) else os.path.abspath(args.output)
    try:
        output.encode()
    except UnicodeEncodeError:  # steps of Beam's hand names on as UTF-8
        raise UsageError(
            f"--output {storage.escape_path(output)}: wanted a name in UTF-8"
        ) from None
    return Settings(
        corpus=args.corpus,
        output=output,
        seed=args.seed,
        near_duplicates=args.near_duplicates,
        redact=args.redact,
        benchmarks=tuple(args.benchmarks),
        **{name: value for name, value in given.items() if value is not None},
    )


def _progress(console, total: int):
    """A bar of bytes for each step, with the time left."""
    import contextlib

    from rich import progress

    @contextlib.contextmanager
    def shown():
        bars = progress.Progress(
            progress.TextColumn("{task.description}"),
            progress.BarColumn(),
            progress.DownloadColumn(),
            progress.TimeRemainingColumn(),
            console=console,
        )
        with bars:
            tasks = {step: bars.add_task(label, total=total) for step, label in _STEPS.items()}
            ordering = bars.add_task("ordering", total=None)

            def on_progress(seen: dict[str, int]) -> None:
                for step, size in seen.items():
                    bars.update(tasks[step], completed=size)

            yield on_progress
            bars.update(ordering, total=1, completed=1)

    return shown()


def _warn(manifest: Manifest, console) -> None:
    """Says what is not in the corpus though it was asked for."""
    from rich.text import Text

    from codegen_pax.data.prepare import output

    if left_out := manifest.counts.get("left_out"):
        said = ", ".join(f"{number:,} {reason}" for reason, number in sorted(left_out.items()))
        console.print(f"files that were not read: {said}", highlight=False)
    damaged = manifest.counts["damaged"]
    if damaged:
        console.print(
            f"WARNING: {len(damaged):,} of {len(manifest.inputs):,} inputs have faults; what could"
            " not be read of them is not in the corpus:",
            style="bold red",
        )
    for said in list(damaged.values())[:_NAMED]:
        console.print(Text(f"  {said}"), soft_wrap=True)
    if len(damaged) > _NAMED:
        console.print(f"  and {len(damaged) - _NAMED:,} more, which the manifest names")
    for said in output.remarks(manifest):
        console.print(Text(said), soft_wrap=True)


def _print(manifest: Manifest, output: str, console) -> None:
    from rich.table import Table

    from codegen_pax.data.format import manifest as manifests

    table = Table(title=f"{manifest.corpus} in {output}")
    table.add_column("rule")
    for what in ("documents", "bytes", "tokens"):
        table.add_column(what, justify="right")
    rules = manifests.totals_by_rule(manifest.counts["documents"])
    order = {manifests.IN: 0, manifests.KEPT: 2}
    for rule, values in sorted(rules.items(), key=lambda item: (order.get(item[0], 1), item[0])):
        table.add_row(rule, *(f"{value:,}" if value else "" for value in values))
    console.print(table)
    for part, splits in manifest.parts.items():
        rows = " and ".join(counted(manifest.rows(one, part), f"{one} row") for one in splits)
        console.print(f"{part or 'the corpus'}: {rows} of {manifest.row_length:,} tokens")
        if manifest.settings["validation"] and not manifest.rows("validation", part):
            console.print(
                f"  nothing to validate on: {part or 'the corpus'} has no second document, or what"
                f" is held out fills no row of {manifest.row_length:,} tokens"
            )
