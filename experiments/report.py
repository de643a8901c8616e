"""Writes every experiment's docstring, a report, from the tables. Standard library only."""

from __future__ import annotations

import textwrap

from codegen_pax.plan.accelerators import TPU_V4
from experiments.declaration import Declaration
from experiments.phases import RESULT
from experiments.settings import VARIABLES

# The share of the peak that estimates assume: MaxText and Pax publish 42% to 57% on TPU v4 at these
# sizes (6N + 12LTD convention).
PLANNED_UTILISATION = 0.45

# How far below the unigram entropy the loss of CodeGenNanoMono must come, in nats per token: then
# it has learnt more than the frequencies of tokens.
NANO_MARGIN = 1.0


def expected_margin(declaration: Declaration) -> float | None:
    """Returns how far below the unigram entropy the loss must come; None if nothing is expected."""
    is_main = declaration.profile.on_laptop and declaration.phase.name == "Mono"
    return NANO_MARGIN if is_main and not declaration.is_variant else None


def report(declaration: Declaration) -> str:
    """Returns a report: source, network, tokens, recipe, hardware, expected result, command."""
    size, phase = declaration.size, declaration.phase
    has_own_name = declaration.name != declaration.table_name
    name = declaration.name if has_own_name else f"CodeGen {size.name} {phase.name}"
    flat = declaration.steps - declaration.warmup_steps - declaration.anneal_steps
    title = (
        f"{name}: {declaration.parameters:,} parameters, "
        f"{_approximate(declaration.tokens)} tokens of `{declaration.mixture}`."
    )
    rows = {
        "Source": _source(declaration),
        "Network": (
            f"{size.layers} layers, D={size.model_dims}, N={size.heads}, H={size.head_dims}, "
            f"rotary {size.rotary_dims}, context {size.context}; "
            f"{size.parameters:,} parameters as released"
            + (
                f", and an embedding bias of {size.model_dims} that export folds in."
                if declaration.recipe.embedding_bias
                else "."
            )
        ),
        "Tokens": (
            f"{declaration.steps:,} steps * {declaration.batch_rows:,} rows * "
            f"{declaration.row_length:,} = {declaration.tokens:,}."
        ),
        "Recipe": (
            f"{declaration.recipe.name}: learning rate {declaration.learning_rate:.3g} -> "
            f"{declaration.learning_rate_end:.3g}, warm-up {declaration.warmup_steps:,}, cosine "
            f"{declaration.anneal_steps:,} steps{f', then flat for {flat:,}' if flat > 0 else ''}; "
            f"{declaration.accumulation_steps} accumulation steps of "
            f"{declaration.micro_batch_rows} rows."
        ),
        "Hardware": (
            f"{declaration.mesh.hardware or 'your own'}, mesh [replica, data, mdl] = "
            f"{list(declaration.mesh.shape)}; {_duration(declaration)}"
        ),
        "Expected": _expected(declaration),
        "Starts from": (
            f"{declaration.start}: set {VARIABLES['start_from'].name} to its job's directory."
            if declaration.start
            else "random weights."
        ),
        "Command": declaration.command,
    }
    lines = [*textwrap.wrap(title, 96), ""]
    for name, text in rows.items():
        lines += textwrap.wrap(
            f"{name}: {text}", 96, subsequent_indent="  ", break_on_hyphens=False
        )
    return "\n".join(lines)


def _source(declaration: Declaration) -> str:
    if declaration.is_variant:
        declared = ", ".join(f"{name}={value!r}" for name, value in declaration.by_hand.items())
        return f"a variant of {declaration.table_name}" + (
            f", with {declared}." if declared else "."
        )
    if declaration.profile.on_laptop:
        return "none: this project's own size, for a laptop and for tests."
    if declaration.phase.humaneval_pass_at_1:
        unseen = ", ".join(name.replace("_", " ") for name in declaration.unverified)
        return "arXiv 2203.13474 and salesforce/jaxformer `config/`; see experiments/phases.py." + (
            f" Unverified at its source: {unseen}." if unseen else ""
        )
    return "network: arXiv 2203.13474; phase: this project's own, no published run."


def _expected(declaration: Declaration) -> str:
    size, phase = declaration.size, declaration.phase
    if declaration.is_variant:
        return "no published result: it is a variant."
    if margin := expected_margin(declaration):
        return (
            f"from random weights, at least {margin} nat below the unigram entropy of "
            "held-out text."
        )
    if declaration.profile.on_laptop:
        return "see the first run in the documentation."
    published = phase.humaneval_pass_at_1.get(size.name)
    if published is None:
        return "no published result."
    step = phase.released_step.get(size.name)
    taken = f", released at step {step:,}" if step else ""
    unseen = ", unverified" if RESULT in declaration.unverified else ""
    return f"HumanEval pass@1 {published:.2f}% (paper's table of results{unseen}{taken})."


def _duration(declaration: Declaration) -> str:
    if declaration.profile.on_laptop:
        return "no estimate." if declaration.is_variant else "about 4 minutes on 2 cores."
    seconds = declaration.flops / (declaration.mesh.devices * TPU_V4.flops * PLANNED_UTILISATION)
    time = f"{seconds / 86_400:.1f} days" if seconds >= 86_400 else f"{seconds / 3_600:.1f} hours"
    return (
        f"{time} planned, at {PLANNED_UTILISATION:.0%} of "
        f"{TPU_V4.flops / 1e12:.0f} TFLOP/s a chip (an estimate, not a measurement)."
    )


def _approximate(tokens: int) -> str:
    for scale, unit in ((1e9, "billion"), (1e6, "million")):
        if tokens >= scale:
            return f"{tokens / scale:.1f} {unit}"
    return f"{tokens:,}"
