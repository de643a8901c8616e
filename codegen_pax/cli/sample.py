"""`codegen-pax sample`: continue a prompt, or answer it, with a run's last checkpoint."""

from __future__ import annotations

import argparse
import os
import sys

from codegen_pax.cli.catalogue import add_module_argument
from codegen_pax.errors import UsageError
from codegen_pax.quiet import quietly
from experiments.declaration import RECIPE_VARIABLE

HELP = "continue a prompt, or answer it, with a run's last checkpoint"


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
    if args.samples < 1 or args.length < 1:
        raise UsageError(
            f"--samples {args.samples}, --length {args.length}: wanted at least 1 of each"
        )
    if args.temperature == 0 and args.samples > 1:
        raise UsageError(
            f"--samples {args.samples} at --temperature 0 would all be alike: wanted a temperature"
            " above 0, or one sample"
        )
    with quietly():
        from paxml import experiment_registry

        import codegen  # noqa: F401  (registers the experiments)
        from codegen_pax import model
        from codegen_pax.cli import opened
        from codegen_pax.runs.sampling import continue_prompts
        from codegen_pax.text import prompts
        from codegen_pax.text.vocabulary import vocabulary

    found = opened.run(args.run, args.experiment, args.module)
    os.environ[RECIPE_VARIABLE] = found.declaration.recipe.name  # which the class below reads
    experiment = experiment_registry.get(f"{found.entry.module}.{found.entry.name}")()
    declaration = found.declaration
    words = vocabulary(declaration.phase.vocabulary)
    prompt = sys.stdin.read() if args.prompt == "-" else args.prompt
    if answers := declaration.phase.loss_on == "answer":
        if not prompt.strip():
            raise UsageError("the prompt is empty; wanted an instruction to answer")
        # As the rows it was trained on.
        ids = words.encode_document(prompts.instruction_prompt(prompt))
    else:
        ids = words.encode(prompt) or [words.eos_id]
    room = declaration.size.context - len(ids)
    if room < 1:
        raise UsageError(
            f"the prompt has {len(ids)} tokens; wanted at most {declaration.size.context - 1}"
        )
    common = {
        "prompt_length": len(ids),
        "max_new_tokens": min(args.length, room),
        "eos_id": words.eos_id,
    }
    if args.temperature == 0:
        decoder = model.greedy_decoder(**common)
    else:
        try:
            decoder = model.sample_decoder(
                **common,
                temperature=args.temperature,
                top_p=args.top_p,
                num_samples=args.samples,
            )
        except ValueError as error:
            raise UsageError(str(error)) from error
    (samples,) = continue_prompts(experiment.network(), found.checkpoint, [ids], decoder, args.seed)
    for number, sample in enumerate(samples, 1):
        if len(samples) > 1:
            print(f"--- sample {number} of {len(samples)}")
        text = words.decode([i for i in sample.tolist() if i != words.eos_id])
        print(f"{prompt.strip()}\n\n{text}" if answers else prompt + text)
    return 0
