"""`codegen-pax VERB ...`: finds the verb's file, reads the arguments, runs it.

A verb is a file of this package that says `HELP = "..."` and has `add_arguments(parser)` and
`run(args) -> int`. If it says `PASSES_ON = True`, what stands after `--` is not read but given to
it as `args.passed_on`. Only the chosen verb is imported, so that one verb's imports cost no other
time.

Exit status: 0 success, 1 failure, 2 bad use; as everywhere, 130 when interrupted and 141 when the
reader of a pipe has gone. What is meant for the user (`errors.UserError`, and what the operating
system refuses) is one line on stderr, or with `--traceback` the whole traceback; every other
exception is a defect of the program and always shows its traceback.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import importlib.metadata
import io
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import NoReturn

from codegen_pax import names
from codegen_pax.errors import UsageError, UserError, is_from_the_system

PROGRAM = "codegen-pax"


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (see {self.prog} --help)")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command line; returns the exit status.

    Args:
      arguments: without the program's name; those of this process if None.
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):
        # What a locale's letters do not spell, or a name that is no UTF-8, ends no verb.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        status = _dispatch(arguments)
        sys.stdout.flush()  # a reader that has gone is noticed here, not when Python ends
        return status
    except BrokenPipeError:
        return _end_quietly()
    except KeyboardInterrupt:
        return _say("interrupted", 130)
    except UserError as error:
        _show_traceback(arguments)
        return _say(error, 2 if isinstance(error, UsageError) else 1)
    except OSError as error:
        if not is_from_the_system(error):
            raise
        _show_traceback(arguments)
        return _say(error, 1)


def verbs() -> dict[str, str]:
    """Verb -> its line of help, read from the files without importing them."""
    found = {}
    for path in sorted(Path(__file__).parent.glob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "HELP":
                found[path.stem.replace("_", "-")] = ast.literal_eval(node.value)
    return found


def _module(verb: str) -> ModuleType:
    return importlib.import_module(f"codegen_pax.cli.{verb.replace('-', '_')}")


def _dispatch(arguments: list[str]) -> int:
    parser = _Parser(prog=PROGRAM, description="CodeGen on Pax: train, decode, compare, extend.")
    parser.add_argument("--version", action="store_true", help="print the version")
    _add_traceback_argument(parser)
    subparsers = parser.add_subparsers(dest="verb", metavar="VERB")
    helps = verbs()
    # No option of the program itself takes a value: the first word is the verb.
    chosen = next((word for word in arguments if not word.startswith("-")), None)
    if chosen is not None and chosen not in helps:
        raise UsageError(names.unknown("verb", chosen, helps))
    passed_on: list[str] = []
    if chosen and getattr(_module(chosen), "PASSES_ON", False) and "--" in arguments:
        end = arguments.index("--")
        arguments, passed_on = arguments[:end], arguments[end + 1 :]
    for verb, help_text in helps.items():
        subparser = subparsers.add_parser(verb, help=help_text, description=help_text)
        if verb == chosen:
            _module(verb).add_arguments(subparser)
            _add_traceback_argument(subparser)
    try:
        args = parser.parse_args(arguments)
    except SystemExit as end:  # argparse has printed the help
        return end.code
    if args.version:
        print(f"{PROGRAM} {_version()}")
        return 0
    if args.verb is None:
        raise UsageError(f"wanted a verb: {', '.join(helps)} (see {PROGRAM} --help)")
    args.passed_on = passed_on
    return _module(args.verb).run(args)


def _add_traceback_argument(parser: argparse.ArgumentParser) -> None:
    """Before the verb or after it; read by `_show_traceback`, since arguments can be bad too."""
    parser.add_argument(
        "--traceback", action="store_true", help="show where an error arose, not its line alone"
    )


def _version() -> str:
    try:
        return importlib.metadata.version(PROGRAM)
    except importlib.metadata.PackageNotFoundError:
        return "(run from its source, not installed)"


def _show_traceback(arguments: Sequence[str]) -> None:
    """Prints the traceback of the exception that is being handled, if `--traceback` asks for it."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    if "--traceback" in arguments[:end]:
        traceback.print_exc()


def _say(message: object, status: int) -> int:
    try:
        sys.stdout.flush()  # before the line on stderr, and so that no later flush can fail
        line = names.printable(" ".join(str(message).split()))
        print(f"{PROGRAM}: {line}", file=sys.stderr, flush=True)
    except BrokenPipeError:
        return _end_quietly()
    return status


def _end_quietly() -> int:
    """Lets what is still to be written go nowhere: Python flushes both streams when it ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:
            os.dup2(nowhere, stream.fileno())
    return 141


if __name__ == "__main__":
    # `python -m` looks for modules in the working directory first, which may be a run's folder:
    # nothing in that is code.
    if sys.path[0] == os.getcwd() != str(Path(__file__).resolve().parents[2]):
        del sys.path[0]
    sys.exit(main())
