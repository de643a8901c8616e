"""`codegen-pax sample`: continue a prompt, or answer it, with a run's last checkpoint."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Iterator, Mapping

from codegen_pax import decoding_limits
from codegen_pax.cli import opened
from codegen_pax.cli.catalogue import add_module_argument
from codegen_pax.errors import InvalidValueError, UsageError
from codegen_pax.silent_imports import silenced
from codegen_pax.text import instruction_format, tokenizer
from experiments.declaration import MESH_VARIABLE, RECIPE_VARIABLE

HELP = "continue a prompt, or answer it, with a run's last checkpoint"

# Of a prompt: several times what the tokens of the longest row can spell.
_MOST_BYTES = 1 << 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", help="the run's folder, given to Pax as --job_log_dir")
    parser.add_argument(
        "prompt",
        help="text to continue, or the instruction to answer if the run has learnt to answer; "
        "'-' reads it from standard input",
    )
    parser.add_argument(
        "--temperature", type=float, default=0.2, help="0 takes the likeliest token (default 0.2)"
    )
    parser.add_argument(
        "--top-p",
        type=float,
        default=0.95,
        help="of the nucleus (default 0.95); at temperature 0 there is none",
    )
    parser.add_argument("--samples", type=int, default=1, help="completions (default 1)")
    parser.add_argument("--length", type=int, default=128, help="new tokens at most (default 128)")
    parser.add_argument("--seed", type=int, default=0, help="of the draws (default 0)")
    parser.add_argument(
        "--experiment", help="the run's experiment; read from its lineage.json if not given"
    )
    add_module_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Prints what follows the prompt; see `add_arguments`."""
    _check_numbers(args)
    # What can be known without Pax' imports comes before them.
    found = opened.run(args.run, args.experiment, args.module)
    declaration = found.declaration
    prompt = _prompt(args.prompt)
    words = tokenizer.load(declaration.phase.vocabulary)
    if answers := declaration.phase.loss_on == "answer":
        if not prompt.strip():
            raise UsageError("the prompt is empty; wanted an instruction to answer")
        # As the rows it was trained on, in which no text forges the end of one.
        words = tokenizer.load(declaration.phase.vocabulary, literal=True)
        ids = words.encode(instruction_format.instruction_prompt(prompt)).ids
    else:
        ids = words.encode(prompt).ids or [tokenizer.END_OF_TEXT_ID]
    room = declaration.size.context - len(ids)
    if room < 1:
        raise UsageError(
            f"the prompt has {len(ids):,} tokens; wanted at most {declaration.size.context - 1:,}"
        )
    with silenced():
        from paxml import experiment_registry

        import codegen  # noqa: F401  (registers the experiments)
        from codegen_pax import model
        from codegen_pax.runs.completions import continue_prompts

    experiment = experiment_registry.get(f"{found.entry.module}.{found.entry.name}")()
    with _environment(
        {RECIPE_VARIABLE: declaration.recipe.name, MESH_VARIABLE: str(declaration.mesh)}
    ):
        network = experiment.network()
    common = {
        "prompt_length": len(ids),
        "max_new_tokens": min(args.length, room),
        "eos_id": tokenizer.END_OF_TEXT_ID,
    }
    if args.temperature == 0:
        decoder = model.greedy_decoder(**common)
    else:
        decoder = model.sample_decoder(
            **common, temperature=args.temperature, top_p=args.top_p, num_samples=args.samples
        )
    (samples,) = continue_prompts(network, found.checkpoint, [ids], decoder, args.seed)
    for number, sample in enumerate(samples, 1):
        if len(samples) > 1:
            print(f"--- sample {number} of {len(samples)}")
        new = [i for i in sample.tolist() if i != tokenizer.END_OF_TEXT_ID]
        text = words.decode(new, skip_special_tokens=False)
        print(f"{prompt.strip()}\n\n{text}" if answers else prompt + text)
    return 0


@contextlib.contextmanager
def _environment(settings: Mapping[str, str]) -> Iterator[None]:
    """Until the block ends these settings, which an experiment reads, are in the environment."""
    before = {name: os.environ.pop(name, None) for name in settings}
    os.environ.update(settings)
    try:
        yield
    finally:
        for name, value in before.items():
            del os.environ[name]
            if value is not None:
                os.environ[name] = value


def _check_numbers(args: argparse.Namespace) -> None:
    """Raises UsageError for a number that no decoder takes."""
    checks = {
        "samples": decoding_limits.check_samples,
        "length": decoding_limits.check_length,
        "seed": decoding_limits.check_seed,
        "top_p": decoding_limits.check_top_p,
    }
    if args.temperature != 0:
        checks["temperature"] = decoding_limits.check_temperature
    for name, check in checks.items():
        try:
            check(getattr(args, name))
        except InvalidValueError as error:
            raise UsageError(f"--{name.replace('_', '-')}: {error}") from error
    if args.temperature == 0 and args.samples > 1:
        raise UsageError(
            f"--samples {args.samples} at --temperature 0 would all be alike: wanted a temperature"
            " above 0, or one sample"
        )


def _prompt(argument: str) -> str:
    """The prompt, from standard input if the argument is '-'.

    Raises:
      UsageError: it is no text, or there is none on standard input, or far more than a row holds.
    """
    if argument != "-":
        # What is no UTF-8 Python gives as lone surrogates, whose last eight bits are the byte.
        source, content = "the prompt", argument.encode(errors="surrogateescape")
    else:
        source, content = "the prompt on standard input", _standard_input()
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{source} is no UTF-8: found byte 0x{content[error.start]:02x} at {error.start:,}"
        ) from error
    if "\0" in text:
        raise UsageError(f"{source} is no text: found a NUL at {text.index(chr(0)):,}")
    return text


def _standard_input() -> bytes:
    """What stands there, as bytes: a locale may take them for other letters."""
    if sys.stdin is None:
        raise UsageError("the prompt is missing: standard input is closed")
    content = sys.stdin.buffer.read(_MOST_BYTES + 1)
    if not content:
        raise UsageError("the prompt on standard input is empty; wanted text")
    if len(content) > _MOST_BYTES:
        raise UsageError(
            f"the prompt on standard input has over {_MOST_BYTES:,} bytes, more than any row holds"
        )
    return content
