"""Entry point of `codegen-pax VERB ...`: reads the arguments and runs the verb.

A verb is a row of `VERBS` and a module `codegen_pax.cli.<verb>` with `add_arguments(parser)` and
`run(args) -> int`. Only the module of the verb that is run is imported, so no verb pays for the
imports of another.

Exit status: 0 success, 1 failure, 2 bad use; as everywhere, 130 when interrupted and 141 when the
reader of a pipe has gone. An error that the user can mend (`errors.UserError`, and what the
operating system refuses) is one line on stderr, or with `--traceback` the whole traceback. Every
other exception is a defect of the program and always shows its traceback.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import io
import os
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import NoReturn

from codegen_pax import messages
from codegen_pax.errors import UsageError, UserError, is_from_the_system

PROGRAM = "codegen-pax"


@dataclass(frozen=True)
class Verb:
    """A subcommand.

    Attributes:
        help: Its line in `codegen-pax --help`.
        forwards_options: Whether options after `--` are not parsed but given to the verb, as
            `args.forwarded`.
    """

    help: str
    forwards_options: bool = False


VERBS = {
    "compare": Verb("show what differs between experiments"),
    "doctor": Verb("say what is wrong with this environment, and how to mend it"),
    "export": Verb("export a Pax checkpoint's weights for transformers, as CodeGen or as GPT-J"),
    "import": Verb("import weights of Hugging Face or jaxformer into a Pax checkpoint"),
    "ladder": Verb(
        "train Nano through NL, Multi, Mono and Instruct, and score each on each phase's data"
    ),
    "list": Verb("list the experiments"),
    "prepare": Verb(
        "prepare a corpus: raw files to shards of rows, with a manifest", forwards_options=True
    ),
    "run": Verb("train, evaluate and decode an experiment, and leave a folder to look at"),
    "sample": Verb("continue a prompt, or answer it, with a run's last checkpoint"),
    "show": Verb("show everything that is known about an experiment or a run"),
    "trace": Verb("say which documents a row of a prepared corpus was cut from"),
    "verify": Verb("check a run's checkpoints, and name the newest good one"),
}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (see {self.prog} --help)")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command line.

    Args:
        arguments: The words after the program's name; those of this process if None.

    Returns:
        The exit status.
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Printing a character that the locale lacks, or a name that is not UTF-8, must not fail.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        status = _dispatch(arguments)
        sys.stdout.flush()  # so that a closed pipe is noticed here, not when Python exits
        return status
    except BrokenPipeError:
        return _end_quietly()
    except KeyboardInterrupt:
        return _print_error("interrupted", 130)
    except UserError as error:
        _print_traceback(arguments)
        return _print_error(error, 2 if isinstance(error, UsageError) else 1)
    except OSError as error:
        if not is_from_the_system(error):
            raise
        _print_traceback(arguments)
        return _print_error(error, 1)


def _dispatch(arguments: list[str]) -> int:
    # No option of the program itself takes a value, so the first word is the verb.
    name = next((word for word in arguments if not word.startswith("-")), None)
    if name is not None and name not in VERBS:
        raise UsageError(messages.unknown("verb", name, VERBS))
    forwarded: list[str] = []
    if name and VERBS[name].forwards_options and "--" in arguments:
        end = arguments.index("--")
        arguments, forwarded = arguments[:end], arguments[end + 1 :]
    module = importlib.import_module(f"codegen_pax.cli.{name}") if name else None
    try:
        args = _parser(name, module).parse_args(arguments)
    except SystemExit as end:  # argparse has printed the help
        return int(end.code or 0)
    if args.version:
        print(f"{PROGRAM} {_version()}")
        return 0
    if not module:
        raise UsageError(f"expected a verb: {', '.join(VERBS)} (see {PROGRAM} --help)")
    args.forwarded = forwarded
    return module.run(args)


def _parser(name: str | None, module: ModuleType | None) -> argparse.ArgumentParser:
    """Returns the parser of the command, with the arguments of the verb `name` alone."""
    parser = _Parser(prog=PROGRAM, description="CodeGen on Pax: train, decode, compare, extend.")
    parser.add_argument("--version", action="store_true", help="print the version")
    _add_traceback_argument(parser)
    subparsers = parser.add_subparsers(dest="verb", metavar="VERB")
    for verb, row in VERBS.items():
        subparser = subparsers.add_parser(verb, help=row.help, description=row.help)
        if module and verb == name:
            module.add_arguments(subparser)
            _add_traceback_argument(subparser)
    return parser


def _add_traceback_argument(parser: argparse.ArgumentParser) -> None:
    """Adds `--traceback`, before the verb or after it.

    `_print_traceback` reads it from the words themselves, since parsing can fail too.
    """
    parser.add_argument(
        "--traceback", action="store_true", help="show an error's whole traceback, not one line"
    )


def _version() -> str:
    try:
        return importlib.metadata.version(PROGRAM)
    except importlib.metadata.PackageNotFoundError:
        return "(run from its source, not installed)"


def _print_traceback(arguments: Sequence[str]) -> None:
    """Prints the traceback of the exception that is being handled, if `--traceback` asks for it."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    if "--traceback" in arguments[:end]:
        traceback.print_exc()


def _print_error(message: object, status: int) -> int:
    """Prints one line on stderr and returns the exit status."""
    try:
        sys.stdout.flush()  # before the line on stderr, and so that no later flush can fail
        line = messages.printable(" ".join(str(message).split()))
        print(f"{PROGRAM}: {line}", file=sys.stderr, flush=True)
    except BrokenPipeError:
        return _end_quietly()
    return status


def _end_quietly() -> int:
    """Discards the output that remains, since Python flushes both streams when it exits."""
    null = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:
            os.dup2(null, stream.fileno())
    return 141


if __name__ == "__main__":
    # `python -m` looks for modules in the working directory first. That may be a run's folder,
    # which is data: no file in it may run.
    if sys.path[0] == os.getcwd() != str(Path(__file__).resolve().parents[3]):
        del sys.path[0]
    sys.exit(main())
