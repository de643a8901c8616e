"""What a run says of itself, from its `lineage.json` alone: nothing of Pax is imported."""

from __future__ import annotations

from etils import epath

from codegen_pax.cli.facts import Facts
from codegen_pax.data.sources import storage
from codegen_pax.environment import code
from codegen_pax.errors import MissingFileError
from codegen_pax.names import counted
from codegen_pax.runs import checkpoints, lineage

_DIGITS = 12  # of a hash, which tell one checkpoint from another for a reader
_FEW = 4  # files of an import that are named one by one
_BY = {"given": "as given", "usual": "as is usual", "weights": "as the weights show"}


def everything(run: str) -> Facts:
    """What `show` shows of a run: its lineage, and `last_step`, `trained` and `chain` beside it.

    Args:
      run: a job's folder, or a checkpoint in it; of that, `last_step` is its own.

    Raises:
      OSError: it is no folder, has no lineage, or is behind a URL that cannot be reached.
      ValueError: its lineage cannot be read.
    """
    with storage.translate_errors(run):
        return _everything(run, storage.as_epath(run))


def _everything(run: str, folder: epath.Path) -> Facts:
    if not folder.is_dir():
        raise MissingFileError(f"{run} is no folder; wanted a run's, or one of its checkpoints")
    document = lineage.read(folder)
    if document is None:
        raise MissingFileError(
            f"{run} has no {lineage.FILE}; wanted a run's folder, given to Pax as --job_log_dir, "
            "or one of its checkpoints"
        )
    step = checkpoints.step_of(folder)
    last = checkpoints.last_step(folder) if step is None else step
    own = document
    if step is None and last is not None:
        own = lineage.read(checkpoints.path(folder, last))
        if own is not None and own["kind"] != "training":
            document = own  # a run was started on it, and has not come to a checkpoint
    return {
        "run": run,
        "last_step": last,
        "trained": _is_trained(document, last, own is not None),
        "chain": lineage.chain(document),
        **document,
        "history": lineage.history(document),
    }


def _is_trained(document: lineage.Receipt, last: int | None, has_own: bool) -> bool:
    """Whether a run has come to a checkpoint of its own, after the one that it began with."""
    begun_here = [parent.get("step") for parent in document["parents"]] if not has_own else []
    return document["kind"] == "training" and bool(last) and last not in begun_here


def sections(found: Facts) -> dict[str, list[tuple[str, str]]]:
    """The same in words: title -> rows of a name and a text."""
    from codegen_pax.cli.tables import shown

    # Weights that were imported are of a network, and of no recipe, steps or data.
    trains = ("steps", "batch_tokens", "recipe", "mesh", "mixture")
    names = ("experiment", "class", "last_step", *(trains if found["kind"] != "import" else ()))
    older = "not recorded: its receipt is of an older version"
    return {
        "run": [
            ("kind", _kind(found)),
            *((name, shown(found[name])) for name in names),
            *_schedule(found.get("declared", {})),
        ],
        "chain": [_ancestor(one) for one in found["chain"]],
        "data": [(one["task"], _data(one)) for one in found["data"]],
        "code": [(name, code.describe(one)) for name, one in found.get("code", {}).items()]
        or [(code.PROJECT, older)],
        "versions": list(lineage.last_versions(found).items()),
        "changed since it began": [
            (f"from step {one['step']:,} on", _change(change))
            for one in found["history"]
            for change in one["changes"]
        ],
    }


def _kind(found: Facts) -> str:
    """What it is, and whether it was trained."""
    if found["kind"] != "training" or found["trained"]:
        return found["kind"]
    if found["last_step"] is None:
        return "not trained yet: no checkpoint"
    return f"not trained yet: step {found['last_step']:,} is where it began"


def _schedule(declared: Facts) -> list[tuple[str, str]]:
    from codegen_pax.cli.tables import shown

    names = ("warmup_steps", "anneal_steps", "learning_rate", "learning_rate_end")
    return [(name, shown(declared[name])) for name in names if name in declared]


def _change(change: Facts) -> str:
    from codegen_pax.cli.tables import shown

    old, new = (
        "not recorded" if change[key] is None else shown(change[key]) for key in ("old", "new")
    )
    return f"{change['name']}: {old} -> {new}"


def _ancestor(parent: Facts) -> tuple[str, str]:
    """One line of the chain: what the weights were, and where they lay."""
    kind = parent["kind"]
    if kind == "pax":
        name = parent["experiment"] or "unknown"
        return name, f"step {parent['step']:,}  {parent['sha256'][:_DIGITS]}  {parent['job']}"
    if kind == "unknown":
        return kind, f"the checkpoint above has no {lineage.FILE}"
    if "directory" not in parent:
        return kind, ""
    step = f"step {parent['step']:,}  " if parent.get("step") is not None else ""
    said = _files(parent["files"])
    if "mp_num" in parent:
        by = parent.get("mp_num_by")
        said += f"; mp_num {parent['mp_num']}, {_BY.get(by, by)}"
    if rows := parent.get("vocabulary_rows"):
        said += f"; {rows:,} rows of the vocabulary"
    if adapter := parent.get("adapter"):
        said += f"; with the adapter {adapter['directory']} ({_files(adapter['files'])})"
    return kind, f"{step}{parent['directory']}  ({said})"


def _files(files: list[Facts]) -> str:
    """The files of an import: each by its hash, if they are few."""
    if len(files) <= _FEW:
        return ", ".join(f"{file['name']} {file['sha256'][:_DIGITS]}" for file in files)
    return f"{counted(len(files), 'file')}, {sum(file['bytes'] for file in files):,} bytes"


def _data(origin: Facts) -> str:
    """One line of the data."""
    from codegen_pax.cli.tables import shown

    if "missing" in origin:
        return f"not read: {origin['missing']}"
    if origin.get("source") == "installed":
        return f"installed {origin['corpus']}, Python {origin['python']}"
    if "source" in origin:
        return origin["source"]
    of_any = "" if origin.get("licences_checked", True) else " (of which none was asked for)"
    return (
        f"{origin['tokens']:,} tokens in {counted(origin['rows'], 'row')}, {origin['vocabulary']}; "
        f"licences{of_any} {shown(lineage.licences(origin))}; "
        f"manifest {origin['manifest_sha256'][:_DIGITS]} in {origin['folder']}"
    )
