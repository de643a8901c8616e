"""What a run says of itself, from its `lineage.json` alone: nothing of Pax is imported."""

from __future__ import annotations

from etils import epath

from codegen_pax.cli.facts import Facts
from codegen_pax.corpus.raw import storage
from codegen_pax.errors import MissingFileError
from codegen_pax.weights import lineage

_DIGITS = 12  # of a hash, which tell one checkpoint from another for a reader
_FEW = 4  # files of an import that are named one by one
_BY = {"given": "as given", "usual": "as is usual", "weights": "as the weights show"}


def everything(run: str) -> Facts:
    """What `show` shows of a run: its lineage, `last_step` and `chain` beside it.

    Args:
      run: a job's folder, or a checkpoint in it; of that, `last_step` is its own.

    Raises:
      OSError: it is no folder, has no lineage, or is behind a URL that cannot be reached.
      ValueError: its lineage cannot be read.
    """
    with storage.told(run):
        return _everything(run, storage.folder(run))


def _everything(run: str, folder: epath.Path) -> Facts:
    if not folder.is_dir():
        raise MissingFileError(f"{run} is no folder; wanted a run's, or one of its checkpoints")
    document = lineage.read(folder)
    if document is None:
        raise MissingFileError(
            f"{run} has no {lineage.FILE}; wanted a run's folder, given to Pax as --job_log_dir, "
            "or one of its checkpoints"
        )
    step = lineage.step_of(folder)
    return {
        "run": run,
        "last_step": lineage.last_step(folder) if step is None else step,
        "chain": lineage.chain(document),
        **document,
    }


def sections(found: Facts) -> dict[str, list[tuple[str, str]]]:
    """The same in words: title -> rows of a name and a text."""
    from codegen_pax.cli.tables import shown

    names = ("kind", "experiment", "class", "last_step", "steps", "batch_tokens", "recipe", "mesh")
    resumed = found.get("resumed", [])
    before = [found["versions"], *(one["versions"] for one in resumed)]
    return {
        "run": [(name, shown(found[name])) for name in (*names, "mixture")],
        "chain": [_ancestor(one) for one in found["chain"]],
        "data": [(one["task"], _data(one)) for one in found["data"]],
        "versions": list(found["versions"].items()),
        "resumed with other versions": [
            (f"at step {one['step']:,}", shown(_changed(one["versions"], last)))
            for one, last in zip(resumed, before, strict=False)
        ],
    }


def _changed(now: Facts, then: Facts) -> Facts:
    return {name: version for name, version in now.items() if then.get(name) != version}


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
    said = f"{_files(parent['files'])}; mp_num {parent['mp_num']}, {_BY[parent['mp_num_by']]}"
    return kind, f"{step}{parent['directory']}  ({said})"


def _files(files: list[Facts]) -> str:
    """The files of an import: each by its hash, if they are few."""
    if len(files) <= _FEW:
        return ", ".join(f"{file['name']} {file['sha256'][:_DIGITS]}" for file in files)
    return f"{len(files):,} files, {sum(file['bytes'] for file in files):,} bytes"


def _data(origin: Facts) -> str:
    """One line of the data."""
    from codegen_pax.cli.tables import shown

    if "missing" in origin:
        return f"not read: {origin['missing']}"
    if origin.get("source") == "installed":
        return f"installed {origin['corpus']}, Python {origin['python']}"
    if "source" in origin:
        return origin["source"]
    return (
        f"{origin['tokens']:,} tokens in {origin['rows']:,} rows, {origin['vocabulary']}; "
        f"licences {shown(origin['licences'])}; "
        f"manifest {origin['manifest_sha256'][:_DIGITS]} in {origin['folder']}"
    )
