"""`codegen-pax show`: everything that is known about an experiment, or about a run."""

from __future__ import annotations

import argparse
import json
import os

from etils import epath

from codegen_pax import messages
from codegen_pax.cli.core.arguments import (
    add_module_argument,
    list_experiments,
    lookup_experiment,
)
from codegen_pax.cli.core.description import Description, describe_experiment, format_cell
from codegen_pax.data.sources import storage
from codegen_pax.environment import code
from codegen_pax.errors import MissingFileError, UsageError
from codegen_pax.messages import counted
from codegen_pax.runs import checkpoints, lineage
from experiments.declaration import configured
from experiments.settings import from_environment

_HASH_DIGITS = 12  # enough for a reader to tell one checkpoint from another
_MAX_FILES_NAMED = 4  # of an import
_MP_NUM_BY = {"given": "as given", "usual": "as is usual", "weights": "as the weights show"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the verb."""
    parser.add_argument(
        "name",
        nargs="+",
        help="an experiment, as in CodeGen16BMono; or a run's folder, or one of its checkpoints",
    )
    parser.add_argument("--json", action="store_true", help="print a list of objects instead")
    add_module_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Prints each experiment as it would run here, and each run as it was.

    An experiment is shown with the environment's mesh and recipe.

    Raises:
        UsageError: An unknown experiment or module.
        OSError: A folder does not exist, or is not that of a run.
        KeyError, ValueError: The environment names an unknown recipe or a mesh that does not fit,
            or a receipt cannot be read.
    """
    known = list_experiments(args.module)
    descriptions = []
    for name in args.name:
        if declaration := lookup_experiment(name, known):
            declaration = configured(declaration, from_environment())
            descriptions.append(describe_experiment(declaration))
        elif "/" in name or os.path.isdir(name):
            descriptions.append(describe_run(name))
        else:
            message = messages.unknown("experiment", name, known)
            raise UsageError(f"{message}; nor is there a folder of that name")
    if args.json:
        print(json.dumps(descriptions, indent=2))
        return 0
    from codegen_pax.cli.core.terminal import print_sections

    for number, description in enumerate(descriptions):
        if number:
            print()
        if "run" in description:
            print_sections((description["run"], ""), run_sections(description))
        else:
            print_sections((description["name"], ""), experiment_sections(description))
            print(f"\n{description['report']}")
    return 0


def experiment_sections(description: Description) -> dict[str, list[tuple[str, str]]]:
    """Returns the description of an experiment as text: title -> rows of a name and a value."""
    separate = ("name", "chain", "details", "report")
    first = {key: value for key, value in description.items() if key not in separate}
    sections = {
        "experiment": {**first, "chain": " <- ".join(description["chain"])},
        **description["details"],
    }
    return {
        title: [(key, format_cell(value)) for key, value in section.items()]
        for title, section in sections.items()
    }


def describe_run(run: str) -> Description:
    """Returns what `show` shows of a run, from its receipt alone: nothing of Pax is imported.

    Args:
        run: A job directory, or a checkpoint in it.

    Returns:
        The receipt, with `trained`, `chain` and `last_step` (for a checkpoint, its step) added.

    Raises:
        OSError: There is no such folder, it has no receipt, or its URL cannot be reached.
        ValueError: The receipt cannot be read.
    """
    with storage.translate_errors(run):
        return _describe_run(run, storage.as_epath(run))


def _describe_run(run: str, folder: epath.Path) -> Description:
    if not folder.is_dir():
        raise MissingFileError(
            f"{run} is not a folder; expected a run's, or one of its checkpoints"
        )
    receipt = lineage.read(folder)
    if receipt is None:
        raise MissingFileError(
            f"{run} has no {lineage.FILE}; expected a run's folder, given to Pax as --job_log_dir, "
            "or one of its checkpoints"
        )
    step = checkpoints.step_of(folder)
    last = checkpoints.last_step(folder) if step is None else step
    of_step: lineage.Receipt | None = receipt
    if step is None and last is not None:
        of_step = lineage.read(checkpoints.path(folder, last))
        if of_step is not None and of_step["kind"] != "training":
            receipt = of_step  # a run was started from it, and has not saved a checkpoint yet
    return {
        "run": run,
        "last_step": last,
        "trained": _is_trained(receipt, last, of_step is not None),
        "chain": lineage.chain(receipt),
        **receipt,
        "history": lineage.history(receipt),
    }


def _is_trained(receipt: lineage.Receipt, last: int | None, has_own: bool) -> bool:
    """Returns whether a run has a checkpoint of its own, after the one that it began with."""
    begun_at = [parent.get("step") for parent in receipt["parents"]] if not has_own else []
    return receipt["kind"] == "training" and bool(last) and last not in begun_at


def run_sections(description: Description) -> dict[str, list[tuple[str, str]]]:
    """Returns the description of a run as text: title -> rows of a name and a value."""
    # Imported weights have a network, but no recipe, steps or data.
    is_trained = description["kind"] != "import"
    trains = ("steps", "batch_tokens", "recipe", "mesh", "mixture")
    names = ("experiment", "class", "last_step", *(trains if is_trained else ()))
    older = "not recorded: its receipt is of an older version"
    return {
        "run": [
            ("kind", _kind(description)),
            *((name, format_cell(description[name])) for name in names),
            *_schedule(description.get("declared", {})),
        ],
        "chain": [_ancestor(parent) for parent in description["chain"]],
        "data": [(origin["task"], _origin(origin)) for origin in description["data"]],
        "code": [(name, code.describe(one)) for name, one in description.get("code", {}).items()]
        or [(code.PROJECT, older)],
        "versions": list(lineage.last_versions(description).items()),
        "changed since it began": [
            (f"from step {entry['step']:,} on", _change(change))
            for entry in description["history"]
            for change in entry["changes"]
        ],
    }


def _kind(description: Description) -> str:
    """Returns the kind of a run, and whether it was trained."""
    if description["kind"] != "training" or description["trained"]:
        return description["kind"]
    if description["last_step"] is None:
        return "not trained yet: no checkpoint"
    return f"not trained yet: step {description['last_step']:,} is where it began"


def _schedule(declared: Description) -> list[tuple[str, str]]:
    names = ("warmup_steps", "anneal_steps", "learning_rate", "learning_rate_end")
    return [(name, format_cell(declared[name])) for name in names if name in declared]


def _change(change: Description) -> str:
    old, new = (
        "not recorded" if change[key] is None else format_cell(change[key])
        for key in ("old", "new")
    )
    return f"{change['name']}: {old} -> {new}"


def _ancestor(parent: Description) -> tuple[str, str]:
    """Returns a row of the chain: the experiment or kind of the weights, and where they were."""
    kind = parent["kind"]
    if kind == "pax":
        name = parent["experiment"] or "unknown"
        digest = parent["sha256"][:_HASH_DIGITS]
        return name, f"step {parent['step']:,}  {digest}  {parent['job']}"
    if kind == "unknown":
        return kind, f"the checkpoint above has no {lineage.FILE}"
    if "directory" not in parent:
        return kind, ""
    step = f"step {parent['step']:,}  " if parent.get("step") is not None else ""
    details = _files(parent["files"])
    if "mp_num" in parent:
        by = parent.get("mp_num_by")
        details += f"; mp_num {parent['mp_num']}, {_MP_NUM_BY.get(by or '', by)}"
    if rows := parent.get("vocabulary_rows"):
        details += f"; {rows:,} rows of the vocabulary"
    if adapter := parent.get("adapter"):
        details += f"; with the adapter {adapter['directory']} ({_files(adapter['files'])})"
    return kind, f"{step}{parent['directory']}  ({details})"


def _files(files: list[Description]) -> str:
    """Returns the files of an import: each with its hash, if they are few."""
    if len(files) <= _MAX_FILES_NAMED:
        return ", ".join(f"{file['name']} {file['sha256'][:_HASH_DIGITS]}" for file in files)
    return f"{counted(len(files), 'file')}, {sum(file['bytes'] for file in files):,} bytes"


def _origin(origin: Description) -> str:
    """Returns where the rows of one task come from."""
    if "missing" in origin:
        return f"not read: {origin['missing']}"
    if origin.get("source") == "installed":
        return f"installed {origin['corpus']}, Python {origin['python']}"
    if "source" in origin:
        return origin["source"]
    of_any = "" if origin.get("licences_checked", True) else " (of which none was asked for)"
    return (
        f"{origin['tokens']:,} tokens in {counted(origin['rows'], 'row')}, {origin['vocabulary']}; "
        f"licences{of_any} {format_cell(lineage.licences(origin))}; "
        f"manifest {origin['manifest_sha256'][:_HASH_DIGITS]} in {origin['folder']}"
    )
