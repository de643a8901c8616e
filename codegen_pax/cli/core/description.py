"""Describes an experiment in plain values, which both the tables and `--json` show."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from experiments.declaration import Declaration
from experiments.phases import ancestors
from experiments.report import report
from experiments.settings import VARIABLES

Description = dict[str, Any]

MAX_EXACT = 10**15  # larger integers, such as the FLOPs of a whole run, are rounded


def summarize(declaration: Declaration) -> Description:
    """Returns what `list` shows of an experiment.

    `batch_tokens` is the number of tokens in a step; `mesh` is written as CODEGEN_MESH takes it.
    """
    return {
        "name": declaration.name,
        "size": declaration.size.name,
        "phase": declaration.phase.name,
        "parameters": declaration.parameters,
        "tokens": declaration.tokens,
        "batch_tokens": declaration.batch_tokens,
        "steps": declaration.steps,
        "learning_rate": declaration.learning_rate,
        "mesh": str(declaration.mesh),
        "hardware": declaration.mesh.hardware,
        "start": declaration.start,
        "data": declaration.mixture,
        "recipe": declaration.recipe.name,
        "unverified": list(declaration.unverified),
        "command": declaration.command,
    }


def derived_numbers(declaration: Declaration) -> Description:
    """Returns the numbers that follow from an experiment's declaration.

    FLOPs are those of the model, without the recomputation that saves memory: with attention
    between all pairs of positions, but `causal_flops_per_token` with half of it.
    """
    size, row_length = declaration.size, declaration.row_length
    return {
        "parameters": declaration.parameters,
        "tokens": declaration.tokens,
        "tokens_per_parameter": round(declaration.tokens / declaration.parameters, 2),
        "flops_per_token": declaration.flops_per_token,
        "causal_flops_per_token": size.causal_flops_per_token(row_length),
        "flops": declaration.flops,
        "steps": declaration.steps,
        "batch_tokens": declaration.batch_tokens,
        "devices": declaration.mesh.devices,
        "hardware": declaration.mesh.hardware,
        "start": declaration.start,
    }


def describe_experiment(declaration: Declaration) -> Description:
    """Returns what `show` shows of an experiment.

    That is its summary, the chain of the experiments it starts from, `details` by group, and the
    report.
    """
    summary = summarize(declaration)
    derived = derived_numbers(declaration)
    return {
        **summary,
        "chain": _start_chain(declaration),
        "details": {
            "network": _network(declaration),
            "recipe": _recipe(declaration),
            "data": _data(declaration),
            "derived": {key: derived[key] for key in derived if key not in summary},
            "published": _published(declaration),
            "commands": _commands(declaration),
        },
        "report": report(declaration),
    }


def format_cell(value: object) -> str:
    """Formats a value for a table: thousands separated, floats to 12 digits, lists in one line."""
    if value is None or value == [] or value == {}:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}" if value < MAX_EXACT else f"{value:.4g}"
    if isinstance(value, float):
        return repr(float(f"{value:.12g}"))  # 0.0006, not the 0.0006000000000000001 of a product
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {format_cell(item)}" for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(format_cell, value))
    return str(value)


def _start_chain(declaration: Declaration) -> list[str]:
    """Returns the experiment, the one it starts from, and so on back to random weights.

    A start that the user has declared ends the chain, as its own start is not known here.
    """
    size, phase, start = declaration.size, declaration.phase, declaration.start
    above = [f"CodeGen{size.name}{one.name}" for one in ancestors(phase)]
    if start is not None and above[:1] != [start]:
        above = [start]
    return [declaration.name, *above]


def _network(declaration: Declaration) -> Description:
    # The released network lacks the embedding bias that jaxformer trains.
    return declaration.size.values() | {"released_parameters": declaration.size.parameters}


def _recipe(declaration: Declaration) -> Description:
    resolved = (
        "learning_rate_end",
        "warmup_steps",
        "anneal_steps",
        "row_length",
        "batch_rows",
        "micro_batch_rows",
        "accumulation_steps",
    )
    return {
        **{name: getattr(declaration, name) for name in resolved},
        **_columns(declaration.recipe),
    }


def _data(declaration: Declaration) -> Description:
    phase = declaration.phase
    return {
        "languages": list(phase.languages),
        "vocabulary": declaration.vocabulary,
        "loss_on": phase.loss_on,
        # The published number for the phase's corpus. Nano reads files of this machine instead.
        "corpus_tokens": None if declaration.profile.on_laptop else phase.corpus_tokens,
    }


def _published(declaration: Declaration) -> Description:
    """Returns what is published about an experiment of the tables; a variant has no such values."""
    size = "" if declaration.is_variant else declaration.size.name
    return {
        "humaneval_pass_at_1": declaration.phase.humaneval_pass_at_1.get(size),
        "released_step": declaration.phase.released_step.get(size),
    }


def _commands(declaration: Declaration) -> Description:
    start = declaration.start
    setting = f"{VARIABLES['start_from'].name}=DIR_OF_{start} " if start is not None else ""
    return {
        "train": f"{setting}{declaration.command}",
        "train_and_evaluate": f"{setting}{declaration.command} --eval_on_test",
        "evaluate_and_decode": f"{declaration.command} --mode=decode_once --eval_during_decode",
    }


def _columns(row: Any) -> Description:
    """Returns a row of a table without its name, and without values that depend on the size."""
    values = {field.name: getattr(row, field.name) for field in fields(row)}
    return {
        name: value
        for name, value in values.items()
        if name != "name" and not isinstance(value, Mapping)
    }
