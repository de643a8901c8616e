"""`codegen-pax VERB ...`: finds the verb's file, reads the arguments, runs it.

A verb is a file of this package that says `HELP = "..."` and has `add_arguments(parser)` and
`run(args) -> int`. If it says `PASSES_ON = True`, what stands after `--` is not read but given to
it as `args.passed_on`. Only the chosen verb is imported, so that one verb's imports cost no other
time.

Exit status: 0 success, 1 failure, 2 bad use, each failure with one line on stderr; as everywhere,
130 when interrupted and 141 when the reader of a pipe has gone.
"""

from __future__ import annotations

import argparse
import ast
import dis
import importlib
import importlib.metadata
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType, TracebackType
from typing import NoReturn

from codegen_pax import names
from codegen_pax.cli.errors import UsageError

PROGRAM = "codegen-pax"

# What this project raises with a message for a person: see `_is_told`.
_TOLD = (ValueError, LookupError, RuntimeError)
_OWN = {"codegen", "codegen_pax", "experiments", "tasks"}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (see {self.prog} --help)")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command line; returns the exit status.

    Args:
      arguments: without the program's name; those of this process if None.
    """
    try:
        status = _dispatch(sys.argv[1:] if arguments is None else list(arguments))
        sys.stdout.flush()  # a reader that has gone is noticed here, not when Python ends
        return status
    except UsageError as error:
        return _say(error, 2)
    except BrokenPipeError:
        # Python flushes stdout once more when it ends, which must find it open.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except KeyboardInterrupt:
        return _say("interrupted", 130)
    except OSError as error:
        return _say(error, 1)
    except _TOLD as error:
        if not _is_told(error.__traceback__):
            raise
        return _say(error.args[0] if error.args else error, 1)


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


def _version() -> str:
    try:
        return importlib.metadata.version(PROGRAM)
    except importlib.metadata.PackageNotFoundError:
        return "(run from its source, not installed)"


def _is_told(traceback: TracebackType) -> bool:
    """Whether an error was raised by a `raise` of this project: then its message is for a person.

    The same error from a library, or from an expression of ours that went wrong, is a defect, and
    keeps its traceback.
    """
    while traceback.tb_next is not None:
        traceback = traceback.tb_next
    frame = traceback.tb_frame
    operation = dis.opname[frame.f_code.co_code[traceback.tb_lasti]]
    return operation == "RAISE_VARARGS" and frame.f_globals["__name__"].split(".")[0] in _OWN


def _say(message: object, status: int) -> int:
    print(f"{PROGRAM}: {' '.join(str(message).split())}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
