"""`lineage.json`: where the weights of a job, or of one checkpoint, come from.

It lies in a job's directory, and at the top of each of its checkpoints:

    format, kind       1; 'training', 'import' or 'export'
    experiment, class  what is run, and `module.Class` of it
    recipe, recipe_values, mesh, hosts, mixture, steps, batch_tokens
    declared           what the experiment is in plain values, schedule included; in `by_hand` those
                       numbers that do not follow from others
    snapshot           the experiment's whole configuration, as lines
    layout, dtype      of an export, which otherwise repeats what its run says; of a run that has no
                       lineage there is neither snapshot nor recipe_values
    data               what the mixture is read from: `codegen_pax.data.mixtures.describe_data`
    parents            where the weights began; none for random ones
    versions, code     of the software; and which code it was, by the name of its module:
                       `codegen_pax.environment.code`
    history            what was changed since the job began: each time the `step` that it went on
                       from, and of each change `name`, `old` and `new`

All but `parents`, `data` and `history` is as it was when the checkpoint was saved, or as it is in
the run that was last started. Older versions wrote neither `hosts`, `declared`, `code` nor
`history`; their `versions` are those that the job began with, and in `resumed` are later ones.

A parent is a Pax checkpoint (`kind` 'pax', `experiment`, `job`, `step`, `sha256`, `bytes` and its
own whole `lineage`, or null), so that the chain is there when the parents are not; or the files of
an import (`kind` 'hugging face' or 'jaxformer', `directory`, `files`, `mp_num` and `mp_num_by`:
'given', 'usual' or 'weights'; the `vocabulary_rows` that the files have, where ours may have more;
the `adapter` merged into them, with its `directory`, `base_model`, `revision` and `files`; and the
`lineage` of what was exported by this project).
"""

from __future__ import annotations

import concurrent.futures
import hashlib
import importlib.metadata
import os
import platform
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import google_crc32c
from etils import epath

from codegen_pax import json_files
from codegen_pax.errors import InvalidValueError, MissingFileError
from codegen_pax.runs import checksums, lineage_fields

FILE = "lineage.json"
FORMAT = 1

# What decides, besides this project's own files, what a run computes and how it is stored.
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

CHECKPOINTS = "checkpoints"
_CHECKPOINT = re.compile(r"checkpoint_(\d+)")  # whole: no ending, as an unfinished one has
# In a bucket, where nothing can be renamed, Orbax writes this when a checkpoint is whole, and takes
# none for whole that has no such file.
COMMITTED = "commit_success.txt"
# Pax keeps one zarr array a variable: `state/mdl_vars.params.lm.final_ln.bias`.
STATE = checksums.STATE
WEIGHTS = "mdl_vars."
# Corpora whose records state licences, under the names that receipts of old know.
_WITH_LICENCES = ("bigquery", "bigpython", "instruction")

_THREADS = 32
_PIECE = 1 << 22  # bytes that are read at once

Document = dict[str, Any]


def read(folder: epath.PathLike) -> Document | None:
    """The lineage of a job, or of one checkpoint; None if it has none.

    Raises:
      ValueError: the file is no JSON, of another format, or damaged.
    """
    path = epath.Path(folder) / FILE
    if not path.exists():
        return None
    document = json_files.read(path)
    found = document.get("format") if isinstance(document, dict) else None
    if found != FORMAT:
        raise InvalidValueError(f"{path} is a lineage of format {found!r}; wanted {FORMAT}")
    try:
        lineage_fields.check(document)
    except InvalidValueError as error:
        raise InvalidValueError(f"{path} is damaged: {error}") from None
    return document


def write(folder: epath.PathLike, document: Document) -> None:
    """Writes the lineage of a job or a checkpoint, whole or not at all; makes the folder."""
    folder = epath.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    json_files.write(folder / FILE, document)


def copy_to(checkpoint: epath.PathLike) -> None:
    """Gives a checkpoint that is being written the lineage of its job, if that has one.

    Args:
      checkpoint: `<job>/checkpoints/checkpoint_<step>`, whatever it is called while unfinished.
    """
    checkpoint = epath.Path(checkpoint)
    source = checkpoint.parent.parent / FILE
    if checkpoint.parent.name == CHECKPOINTS and source.exists():
        (checkpoint / FILE).write_bytes(source.read_bytes())


def versions() -> dict[str, str]:
    """Of Python and of `PACKAGES`; 'not installed' for one that is run from its source."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def fingerprint(
    checkpoint: epath.PathLike, stopped: Callable[[], bool] = lambda: False
) -> dict[str, Any]:
    """What tells a checkpoint's weights, without the optimizer's state, from all others.

    It is of the stored bytes: the same values stored in other chunks, or compressed otherwise, have
    another hash.

    Args:
      checkpoint: `<job>/checkpoints/checkpoint_<step>`, local or a URL.
      stopped: says, from time to time, whether to give up with an InterruptedError.

    Returns:
      `sha256` over a line for each file of the weights, in order: its name, its bytes, its SHA-256;
      and the `bytes` of all those files.

    Raises:
      FileNotFoundError: no array is there.
      ValueError: a file has other bytes than were saved (`checksums`).
    """
    state = epath.Path(checkpoint) / STATE
    arrays = arrays_of(checkpoint)
    known = checksums.read(checkpoint)
    saved = known.files if known else {}

    def hashed_whole(file: epath.Path) -> tuple[int, str]:
        *found, crc = _hash(file, stopped)
        name = file.relative_to(checkpoint).as_posix()
        if name in saved and (found[0], crc) != saved[name]:
            raise checksums.damaged(checkpoint, [f"{name} has other bytes than were saved"])
        return tuple(found)

    with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
        files = [file for found in pool.map(_files, arrays) for file in found]
        hashed = [*pool.map(hashed_whole, files)]
    lines = sorted(
        f"{file.relative_to(state).as_posix()} {size} {digest}\n"
        for file, (size, digest) in zip(files, hashed, strict=True)
    )
    return {
        "sha256": hashlib.sha256("".join(lines).encode()).hexdigest(),
        "bytes": sum(size for size, _ in hashed),
    }


def stamps(checkpoint: epath.PathLike) -> list[list]:
    """What tells whether a checkpoint's weights are still the same: names, bytes and times."""
    state = epath.Path(checkpoint) / STATE
    files = [file for array in arrays_of(checkpoint) for file in _files(array)]
    found = sorted((file.relative_to(state).as_posix(), file.stat()) for file in files)
    return [[name, stat.length, stat.mtime] for name, stat in found]


def hash_files(
    paths: Sequence[epath.PathLike], stopped: Callable[[], bool] = lambda: False
) -> list[dict[str, Any]]:
    """The `name`, `bytes` and `sha256` of some files of one folder, as an import's parent has."""
    hashed = [_hash(epath.Path(path), stopped)[:2] for path in paths]
    return [
        {"name": epath.Path(path).name, "bytes": size, "sha256": digest}
        for path, (size, digest) in zip(paths, hashed, strict=True)
    ]


def checkpoint(job: epath.PathLike, step: int) -> epath.Path:
    """The directory of a job's checkpoint, there or not."""
    return epath.Path(job) / CHECKPOINTS / f"checkpoint_{step:08d}"


def of_checkpoint(job: epath.PathLike, step: int) -> Document | None:
    """The lineage of a checkpoint: its own before its job's, which may have gone on since."""
    return read(checkpoint(job, step)) or read(job)


def parent(job: epath.PathLike, step: int, weights: dict[str, Any]) -> dict[str, Any]:
    """A checkpoint as the parent of what is made from it: which it is, and its own lineage.

    Args:
      job: its job's directory.
      step: of the checkpoint.
      weights: its `fingerprint`.
    """
    own = of_checkpoint(job, step)
    experiment = own and own["experiment"]
    which = {"kind": "pax", "experiment": experiment, "job": str(job), "step": step}
    return {**which, **weights, "lineage": own}


def names(document: Document) -> set[str]:
    """What an experiment may be called that is the one of this lineage.

    Older versions named a class of a person's own after the experiment of the tables that it
    changes, and kept its own name in `class` alone.
    """
    if "declared" in document:
        return {document["experiment"]}
    return {document["experiment"], document["class"].rpartition(".")[2]}


def history(document: Document) -> list[dict[str, Any]]:
    """What was changed since the job began, as `history` has it, of older versions too."""
    entries = list(document.get("history", []))
    before = document["versions"]
    for one in document.get("resumed", []):
        entries.append({"step": one["step"], "changes": version_changes(before, one["versions"])})
        before = one["versions"]
    return entries


def licences(origin: dict[str, Any]) -> dict[str, int]:
    """The licences of a prepared corpus among `data`, and of how many documents each is.

    Receipts of old call those that nobody looked for, of trees and the Pile, `none`: these are
    'not looked at', as they are in later ones.
    """
    found = origin["licences"]
    if "licences_checked" in origin or origin["corpus"] in _WITH_LICENCES:
        return found
    return {"not looked at" if name == "none" else name: count for name, count in found.items()}


def version_changes(old: dict[str, str], new: dict[str, str]) -> list[dict[str, Any]]:
    """What differs between two `versions`, as `history` has it."""
    return [
        {"name": name, "old": old.get(name), "new": new.get(name)}
        for name in {**old, **new}
        if old.get(name) != new.get(name)
    ]


def last_versions(document: Document) -> dict[str, str]:
    """The versions of the software that a job was last run with."""
    resumed = document.get("resumed")
    return resumed[-1]["versions"] if resumed else document["versions"]


def step_of(checkpoint: epath.PathLike) -> int | None:
    """The step of a whole checkpoint's directory; None for any other folder."""
    checkpoint = epath.Path(checkpoint)
    named = _CHECKPOINT.fullmatch(checkpoint.name)
    if not named or ("://" in str(checkpoint) and not (checkpoint / COMMITTED).exists()):
        return None
    return int(named[1])


def last_step(job: epath.PathLike) -> int | None:
    """The step of a job's newest whole checkpoint; None without one. Imports nothing of Pax."""
    return next(steps(job), None)


def steps(job: epath.PathLike) -> Iterator[int]:
    """The steps of a job's whole checkpoints, the newest first: in a bucket each is looked into."""
    directory = epath.Path(job) / CHECKPOINTS
    if not directory.is_dir():
        return
    named = [path for path in directory.iterdir() if _CHECKPOINT.fullmatch(path.name)]
    for path in sorted(named, key=lambda path: int(path.name.rpartition("_")[2]), reverse=True):
        if (step := step_of(path)) is not None:
            yield step


def chain(document: Document) -> list[dict[str, Any]]:
    """The ancestors of a lineage, the nearest first, back to where the weights began.

    Returns:
      Each one's entry among `parents`, without its own `lineage`. The last is the root: an import's
      files; or a `kind` alone, 'random weights', or 'unknown' after a checkpoint without lineage.
    """
    found, left = [], [*reversed(document["parents"])]
    if not left:
        return [{"kind": "random weights"}]
    while left:  # of several parents the first one's own ancestors come before the second
        parent = left.pop()
        found.append({key: value for key, value in parent.items() if key != "lineage"})
        if above := parent.get("lineage"):
            left += reversed(above["parents"] or [{"kind": "random weights"}])
        elif parent["kind"] == "pax":
            found.append({"kind": "unknown"})
    return found


def arrays_of(checkpoint: epath.PathLike) -> list[epath.Path]:
    """The folders of a checkpoint's weights; FileNotFoundError without one."""
    state = epath.Path(checkpoint) / STATE
    # Its glob would take brackets in the name of a folder above for a pattern too.
    there = state.iterdir() if state.is_dir() else ()
    arrays = sorted(path for path in there if path.name.startswith(WEIGHTS))
    if not arrays:
        raise MissingFileError(
            f"{checkpoint} holds no weights: wanted zarr arrays named {STATE}/{WEIGHTS}*"
        )
    return arrays


def _files(directory: epath.Path) -> list[epath.Path]:
    """Every file below a directory but tensorstore's locks."""
    found = []
    for path in directory.iterdir():
        if path.is_dir():
            found += _files(path)
        elif not path.name.endswith(".__lock"):
            if "://" not in str(path) and not os.path.isfile(path):
                raise InvalidValueError(f"{path} is no regular file")  # a pipe is waited for
            found.append(path)
    return found


def _hash(path: epath.Path, stopped: Callable[[], bool]) -> tuple[int, str, int]:
    """The bytes of a file, their SHA-256, and their CRC-32C."""
    digest, size, crc = hashlib.sha256(), 0, 0
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            if stopped():
                raise InterruptedError(f"{path} is hashed no further")
            digest.update(piece)
            crc = google_crc32c.extend(crc, piece)
            size += len(piece)
    return size, digest.hexdigest(), crc
