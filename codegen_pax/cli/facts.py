"""What is known about an experiment, as plain values: the tables and `--json` show the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace

from codegen_pax.cli.catalogue import Entry
from experiments.declaration import Declaration, configured
from experiments.phases import ancestors
from experiments.profiles import LAPTOP
from experiments.report import report
from experiments.settings import VARIABLES, from_environment

Facts = dict[str, object]


def facts(entry: Entry) -> Facts:
    """What `list` shows: `batch_tokens` are those of a step, `mesh` is as CODEGEN_MESH takes it."""
    declaration = entry.declaration
    return {
        "name": entry.name,
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


def derived(declaration: Declaration) -> Facts:
    """What follows from an experiment's numbers. FLOPs are the model's, without recomputation."""
    return {
        "parameters": declaration.parameters,
        "tokens": declaration.tokens,
        "tokens_per_parameter": round(declaration.tokens / declaration.parameters, 2),
        "flops_per_token": declaration.flops_per_token,
        "flops": declaration.flops,
        "steps": declaration.steps,
        "batch_tokens": declaration.batch_tokens,
        "devices": declaration.mesh.devices,
        "hardware": declaration.mesh.hardware,
        "start": declaration.start,
    }


def in_this_environment(entry: Entry) -> Entry:
    """The experiment as it would run here: with the environment's mesh and recipe.

    Raises:
      KeyError, ValueError: the environment names an unknown recipe, or a mesh that does not fit.
    """
    return replace(entry, declaration=configured(entry.declaration, from_environment()))


def everything(entry: Entry) -> Facts:
    """What `show` shows: `facts`, the chain of start weights, `details` by group, the report."""
    declaration = entry.declaration
    listed = facts(entry)
    follows = derived(declaration)
    return {
        **listed,
        "chain": chain(declaration),
        "details": {
            "network": _network(declaration),
            "recipe": _recipe(declaration),
            "data": _data(declaration),
            "derived": {key: follows[key] for key in follows if key not in listed},
            "published": _published(declaration),
            "commands": _commands(declaration),
        },
        "report": report(declaration),
    }


def chain(declaration: Declaration) -> list[str]:
    """The experiment, the one it starts from, and so on back to the one from random weights.

    What a start of one's own starts from is not known here.
    """
    size, phase, start = declaration.size, declaration.phase, declaration.start
    above = [f"CodeGen{size.name}{one.name}" for one in ancestors(phase)]
    if start is not None and above[:1] != [start]:
        above = [start]
    return [declaration.name, *above]


def _network(declaration: Declaration) -> Facts:
    # Of the released network, without the embedding bias that jaxformer trains.
    return declaration.size.values() | {"released_parameters": declaration.size.parameters}


def _recipe(declaration: Declaration) -> Facts:
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
        **_plain(declaration.recipe),
    }


def _data(declaration: Declaration) -> Facts:
    phase = declaration.phase
    return {
        "languages": list(phase.languages),
        "vocabulary": phase.vocabulary,
        "loss_on": phase.loss_on,
        # What is published of the phase's corpus; Nano reads what the machine has.
        "corpus_tokens": None if declaration.profile == LAPTOP else phase.corpus_tokens,
    }


def _published(declaration: Declaration) -> Facts:
    """What is published of the experiment of the tables; a variant of it is another."""
    size = "" if declaration.is_variant else declaration.size.name
    return {
        "humaneval_pass_at_1": declaration.phase.humaneval_pass_at_1.get(size),
        "released_step": declaration.phase.released_step.get(size),
    }


def _commands(declaration: Declaration) -> Facts:
    start = declaration.start
    setting = f"{VARIABLES['start_from'].name}=DIR_OF_{start} " if start is not None else ""
    return {
        "train": f"{setting}{declaration.command}",
        "train_and_evaluate": f"{setting}{declaration.command} --eval_on_test",
        "evaluate_and_decode": f"{declaration.command} --mode=decode_once --eval_during_decode",
    }


def _plain(row: object) -> Facts:
    """The row of a table but its name; what it has by size is resolved in the declaration."""
    values = {field.name: getattr(row, field.name) for field in fields(row)}
    return {
        name: value
        for name, value in values.items()
        if name != "name" and not isinstance(value, Mapping)
    }
