"""The receipt of a job, a checkpoint or an export, `lineage.json`: where its weights come from.

It is in the job directory, at the top of each checkpoint, and in an export:

    format, kind       1; 'training', 'import' or 'export'
    experiment, class  the name of the experiment, and its `module.Class`
    recipe, recipe_values, mesh, hosts, mixture, steps, batch_tokens
    declared           the declaration in plain values, schedule included; in `by_hand` those
                       numbers that do not follow from others
    snapshot           the whole configuration of the experiment, as lines
    layout, dtype      of an export, which repeats the other fields of its job's receipt; if the job
                       has no receipt, the export has neither snapshot nor recipe_values
    data               what the mixture is read from: `codegen_pax.data.mixtures.describe_data`
    parents            where the weights began; none for random ones
    versions, code     the versions of the software, and its code by the name of the module:
                       `codegen_pax.environment.code`
    history            what was changed since the job began: for each resumption its `step` and its
                       `changes`, each with `name`, `old` and `new`

All fields but `parents`, `data` and `history` describe the run that saved the checkpoint or, in a
job directory, the run that was started last. Older versions wrote neither `hosts`, `declared`,
`code` nor `history`; their `versions` are those that the job began with, and later ones are in
`resumed`.

A parent is a Pax checkpoint (`kind` 'pax', `experiment`, `job`, `step`, `sha256`, `bytes` and its
own complete `lineage`, or null), so that the chain outlives the parents; or the files of an import
(`kind` 'hugging face' or 'jaxformer', `directory`, `files`, `mp_num` and `mp_num_by`: 'given',
'usual' or 'weights'; the number of `vocabulary_rows` in the files, which may be fewer than in our
network; the `adapter` merged into them, with its `directory`, `base_model`, `revision` and `files`;
and the `lineage` of files that this project exported).
"""

from __future__ import annotations

import importlib.metadata
import platform
from typing import Any

from etils import epath

from codegen_pax import json_files
from codegen_pax.errors import InvalidValueError
from codegen_pax.json_files import Fields
from codegen_pax.runs import checkpoints

FILE = "lineage.json"
FORMAT = 1

# The packages that decide, besides this project's code, what a run computes and stores.
PACKAGES = (
    "codegen-pax",
    "paxml",
    "praxis",
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "orbax-checkpoint",
    "tensorstore",
    "seqio",
    "tensorflow",
    "fiddle",
    "numpy",
)

# Corpora whose records state licences, by the names that older receipts use.
_CORPORA_WITH_LICENCES = ("bigquery", "bigpython", "instruction")

_MAX_GENERATIONS = 200  # of parents; more is refused, as JSON is read and written recursively

Receipt = dict[str, Any]

# The fields of a receipt that are read, except those that an import or an export adds.
_NULL = type(None)
_SCALAR = (str, int, float, bool, _NULL)
_FILE_FIELDS = Fields({"name": str, "bytes": int, "sha256": str})
_PAX_PARENT = Fields(
    {"experiment": (str, _NULL), "job": str, "step": int, "sha256": str, "bytes": int},
    {"lineage": (dict, _NULL)},
)
_IMPORTED_PARENT = Fields(
    {"directory": str, "files": [_FILE_FIELDS]},
    {
        "step": (int, _NULL),
        "mp_num": int,
        "mp_num_by": str,
        "lineage": (dict, _NULL),
    },
)
_PREPARED_CORPUS = Fields(
    {
        "corpus": str,
        "part": str,
        "folder": str,
        "manifest_sha256": str,
        "rows": int,
        "tokens": int,
        "licences": {str: int},
        "vocabulary": str,
    }
)
_INSTALLED_CORPUS = Fields({"corpus": str, "python": str})
_VERSIONS = {str: str}
_RECEIPT = Fields(
    {
        "kind": str,
        "experiment": str,
        "class": str,
        "recipe": str,
        "mesh": str,
        "mixture": str,
        "steps": int,
        "batch_tokens": int,
        "data": [Fields({"task": str}, {"missing": str, "source": str})],
        "parents": [Fields({"kind": str})],
        "versions": _VERSIONS,
    },
    {
        "hosts": int,
        "declared": Fields(
            {"size": Fields({"name": str}), "phase": Fields({"name": str}), "by_hand": dict}
        ),
        "snapshot": [str],
        "code": {str: Fields({"sha256": str}, {"file": str, "commit": str, "dirty": bool})},
        "history": [
            Fields(
                {
                    "step": int,
                    "changes": [Fields({"name": str, "old": _SCALAR, "new": _SCALAR})],
                }
            )
        ],
        "resumed": [Fields({"step": int, "versions": _VERSIONS})],
    },
)


def read(folder: epath.PathLike) -> Receipt | None:
    """Reads the receipt of a job, a checkpoint or an export.

    Args:
        folder: Its directory.

    Returns:
        The receipt, with the fields that this module's docstring lists; None if there is none.

    Raises:
        ValueError: The file is not JSON, has another format, or is damaged.
    """
    file = epath.Path(folder) / FILE
    if not file.exists():
        return None
    receipt = json_files.read(file)
    format_ = receipt.get("format") if isinstance(receipt, dict) else None
    if format_ != FORMAT:
        raise InvalidValueError(f"{file} is a receipt of format {format_!r}; expected {FORMAT}")
    try:
        for generation in _with_ancestors(receipt):
            _check(generation)
    except InvalidValueError as error:
        raise InvalidValueError(f"{file} is damaged: {error}") from None
    return receipt


def write(folder: epath.PathLike, receipt: Receipt) -> None:
    """Writes the receipt of a job or a checkpoint atomically; makes the directory."""
    folder = epath.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    json_files.write(folder / FILE, receipt)


def copy_to(checkpoint: epath.PathLike) -> None:
    """Copies the receipt of a job, if it has one, to a checkpoint that is being saved.

    Args:
        checkpoint: The directory of the checkpoint, by its present name. One that is not below a
            job directory is left alone.
    """
    source = checkpoints.job_of(checkpoint) / FILE
    if checkpoints.is_below_job(checkpoint) and source.exists():
        (epath.Path(checkpoint) / FILE).write_bytes(source.read_bytes())


def of_checkpoint(job: epath.PathLike, step: int) -> Receipt | None:
    """Reads the receipt of a checkpoint; without one, that of its job, which may be newer."""
    return read(checkpoints.path(job, step)) or read(job)


def _with_ancestors(receipt: Receipt) -> list[Receipt]:
    """Returns a receipt and all receipts within it."""
    receipts, generation = [], [receipt]
    for _ in range(_MAX_GENERATIONS):
        receipts += generation
        generation = [
            parent["lineage"]
            for child in generation
            for parent in (child["parents"] if isinstance(child.get("parents"), list) else ())
            if isinstance(parent, dict) and isinstance(parent.get("lineage"), dict)
        ]
        if not generation:
            return receipts
    raise InvalidValueError(f"it has more than {_MAX_GENERATIONS} generations of parents")


def _check(receipt: Receipt) -> None:
    """Raises ValueError if a field of one receipt is missing or has the wrong type."""
    json_files.check(receipt, _RECEIPT)
    for number, origin in enumerate(receipt["data"]):
        if "missing" in origin:
            continue
        if "source" not in origin:
            json_files.check(origin, _PREPARED_CORPUS, f"data[{number}]")
        elif origin["source"] == "installed":
            json_files.check(origin, _INSTALLED_CORPUS, f"data[{number}]")
    for number, parent in enumerate(receipt["parents"]):
        if parent["kind"] == "pax" or "directory" in parent:
            fields = _PAX_PARENT if parent["kind"] == "pax" else _IMPORTED_PARENT
            json_files.check(parent, fields, f"parents[{number}]")


def versions() -> dict[str, str]:
    """Returns the versions of Python and of `PACKAGES`, or 'not installed'."""
    by_name = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            by_name[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            by_name[name] = "not installed"
    return by_name


def version_changes(old: dict[str, str], new: dict[str, str]) -> list[dict[str, Any]]:
    """Returns the differences of two `versions`, in the form of `history`."""
    return [
        {"name": name, "old": old.get(name), "new": new.get(name)}
        for name in {**old, **new}
        if old.get(name) != new.get(name)
    ]


def last_versions(receipt: Receipt) -> dict[str, str]:
    """Returns the versions of the software that a job was last run with."""
    resumed = receipt.get("resumed")
    return resumed[-1]["versions"] if resumed else receipt["versions"]


def history(receipt: Receipt) -> list[dict[str, Any]]:
    """Returns what was changed since the job began, for receipts of older versions too."""
    entries = list(receipt.get("history", []))
    before = receipt["versions"]
    for entry in receipt.get("resumed", []):
        changes = version_changes(before, entry["versions"])
        entries.append({"step": entry["step"], "changes": changes})
        before = entry["versions"]
    return entries


def experiment_names(receipt: Receipt) -> set[str]:
    """Returns the names that the experiment of a receipt may have.

    Older versions recorded a user's own class under the name of the experiment of the tables that
    it changes, and its own name only in `class`.
    """
    if "declared" in receipt:
        return {receipt["experiment"]}
    return {receipt["experiment"], receipt["class"].rpartition(".")[2]}


def licences(origin: dict[str, Any]) -> dict[str, int]:
    """Returns the number of documents of each licence in a prepared corpus, an entry of `data`.

    Older receipts say 'none' for trees and the Pile, whose licences were never looked at. For those
    this returns 'not looked at', as newer receipts say.
    """
    counts = origin["licences"]
    if "licences_checked" in origin or origin["corpus"] in _CORPORA_WITH_LICENCES:
        return counts
    return {"not looked at" if name == "none" else name: count for name, count in counts.items()}


def parent(job: epath.PathLike, step: int, weights: dict[str, Any]) -> dict[str, Any]:
    """Returns a checkpoint as an entry of `parents`, for the receipt of what is made from it.

    Args:
        job: The job directory of the checkpoint.
        step: Its step.
        weights: Its `fingerprints.fingerprint`.
    """
    receipt = of_checkpoint(job, step)
    experiment = receipt and receipt["experiment"]
    identity = {"kind": "pax", "experiment": experiment, "job": str(job), "step": step}
    return {**identity, **weights, "lineage": receipt}


def chain(receipt: Receipt) -> list[dict[str, Any]]:
    """Returns the ancestors of a receipt, the nearest first, back to where the weights began.

    Returns:
        The entry of each among `parents`, without its own `lineage`. The last is the root: the
        files of an import; or a `kind` alone, 'random weights', or 'unknown' after a checkpoint
        without a receipt.
    """
    ancestors, remaining = [], [*reversed(receipt["parents"])]
    if not remaining:
        return [{"kind": "random weights"}]
    while remaining:  # the ancestors of the first of several parents come before the second
        entry = remaining.pop()
        ancestors.append({key: value for key, value in entry.items() if key != "lineage"})
        if above := entry.get("lineage"):
            remaining += reversed(above["parents"] or [{"kind": "random weights"}])
        elif entry["kind"] == "pax":
            ancestors.append({"kind": "unknown"})
    return ancestors
