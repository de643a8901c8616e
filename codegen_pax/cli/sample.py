"""`codegen-pax sample`: continue a prompt, or answer it, with a run's last checkpoint."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from codegen_pax import decoding_limits
from codegen_pax.cli.core.arguments import Job, add_module_argument, open_job
from codegen_pax.cli.core.terminal import waiting
from codegen_pax.errors import InvalidValueError, UsageError
from codegen_pax.text import instruction_format, tokenizer

if TYPE_CHECKING:
    import numpy as np

MAX_PROMPT_BYTES = 1 << 20  # several times the text of the longest row


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the verb."""
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
    """Prints the prompt and what follows it, for each sample."""
    _check_numbers(args)
    # What can be checked without importing Pax comes first.
    job = open_job(args.run, args.experiment, args.module)
    declaration = job.declaration
    prompt = _read_prompt(args.prompt)
    is_answer = declaration.phase.loss_on == "answer"
    if is_answer and not prompt.strip():
        raise UsageError("the prompt is empty; expected an instruction to answer")
    # In the rows of instructions, text that spells the end-of-text token is text.
    encoder = tokenizer.load(declaration.vocabulary, literal=is_answer)
    text = instruction_format.instruction_prompt(prompt) if is_answer else prompt
    end = tokenizer.end_of_text_id(declaration.vocabulary)
    ids = encoder.encode(text).ids or [end]
    room = declaration.size.context - len(ids)
    if room < 1:
        raise UsageError(
            f"the prompt has {len(ids):,} tokens; expected at most {declaration.size.context - 1:,}"
        )
    samples = _decode(args, job, ids, min(args.length, room))
    for number, sample in enumerate(samples, 1):
        if len(samples) > 1:
            print(f"--- sample {number} of {len(samples)}")
        new = [i for i in sample.tolist() if i != end]
        text = encoder.decode(new, skip_special_tokens=False)
        print(f"{prompt.strip()}\n\n{text}" if is_answer else prompt + text)
    return 0


def _decode(args: argparse.Namespace, job: Job, ids: list[int], length: int) -> list[np.ndarray]:
    """Continues a prompt with the network of a job.

    Args:
        args: The arguments of the verb.
        job: The job.
        ids: The tokens of the prompt.
        length: The number of new tokens at most.

    Returns:
        The new tokens of each sample.
    """
    from codegen_pax.environment import compilation_cache
    from codegen_pax.runs.completions import Decoding, continue_prompts
    from codegen_pax.weights import layouts

    declaration = job.declaration
    decoding = Decoding(
        new_tokens=length,
        eos_id=tokenizer.end_of_text_id(declaration.vocabulary),
        temperature=args.temperature,
        top_p=args.top_p,
        samples=args.samples,
        seed=args.seed,
    )
    dims = layouts.Dimensions.of(declaration.size, embedding_bias=declaration.recipe.embedding_bias)
    with waiting("restoring the weights, compiling and decoding"):
        compilation_cache.enable(on_cpu=True)
        (samples,) = continue_prompts(
            job.checkpoint,
            layouts.pax_shapes(dims),
            declaration.size.head_dims,
            declaration.size.rotary_dims,
            [ids],
            decoding,
            declaration.profile.compute_dtype.value,
        )
    return samples


def _check_numbers(args: argparse.Namespace) -> None:
    """Raises UsageError for a number that no decoder accepts."""
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
            f"--samples {args.samples} at --temperature 0 would all be alike: expected a"
            " temperature above 0, or one sample"
        )


def _read_prompt(argument: str) -> str:
    """Returns the prompt, from standard input if the argument is '-'.

    Raises:
        UsageError: The prompt is not text, or standard input is empty or far longer than a row.
    """
    if argument != "-":
        # Python decodes a byte that is not UTF-8 to a lone surrogate; this gives the byte back.
        source, content = "the prompt", argument.encode(errors="surrogateescape")
    else:
        source, content = "the prompt on standard input", _read_standard_input()
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{source} is not UTF-8: found byte 0x{content[error.start]:02x} at {error.start:,}"
        ) from error
    if "\0" in text:
        raise UsageError(f"{source} is not text: found a NUL at {text.index(chr(0)):,}")
    return text


def _read_standard_input() -> bytes:
    """Returns standard input as bytes, since a locale may decode them to other characters."""
    if sys.stdin is None:
        raise UsageError("the prompt is missing: standard input is closed")
    content = sys.stdin.buffer.read(MAX_PROMPT_BYTES + 1)
    if not content:
        raise UsageError("the prompt on standard input is empty; expected text")
    if len(content) > MAX_PROMPT_BYTES:
        raise UsageError(
            f"the prompt on standard input has over {MAX_PROMPT_BYTES:,} bytes, more than any row "
            "holds"
        )
    return content
