"""`lineage.json`: where the weights of a job, or of one checkpoint, come from.

It lies in a job's directory, and at the top of each of its checkpoints:

    format, kind       1; 'training', 'import' or 'export'
    experiment, class  what is run, and `module.Class` of it
    recipe, recipe_values, mesh, mixture, steps, batch_tokens
    snapshot           the experiment's whole configuration, as lines
    layout, dtype      of an export, which otherwise repeats what its run says; of a run that has no
                       lineage there is neither snapshot nor recipe_values
    data               what the mixture is read from: `codegen_pax.corpus.origins`
    parents            where the weights began; none for random ones
    versions           of the software, and `resumed` if it went on with other ones

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
import json
import platform
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from etils import epath

from codegen_pax.errors import InvalidValueError, MissingFileError

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

# What is read of each, besides what an import or an export adds.
_WANTED = {
    "kind": str,
    "experiment": str,
    "class": str,
    "recipe": str,
    "mesh": str,
    "mixture": str,
    "steps": int,
    "batch_tokens": int,
    "data": list,
    "parents": list,
    "versions": dict,
}

_CHECKPOINTS = "checkpoints"
_CHECKPOINT = re.compile(r"checkpoint_(\d+)")  # whole: no ending, as an unfinished one has
# In a bucket, where nothing can be renamed, Orbax writes this when a checkpoint is whole, and takes
# none for whole that has no such file.
COMMITTED = "commit_success.txt"
# Pax keeps one zarr array a variable: `state/mdl_vars.params.lm.final_ln.bias`.
STATE = "state"
WEIGHTS = "mdl_vars."
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
    try:
        document = json.loads(path.read_text())
    except (ValueError, RecursionError) as error:
        raise InvalidValueError(f"{path} is no lineage: wanted JSON, found {error}") from error
    found = document.get("format") if isinstance(document, dict) else None
    if found != FORMAT:
        raise InvalidValueError(f"{path} is a lineage of format {found}; wanted {FORMAT}")
    for one in _documents(document):
        for key, kind in _WANTED.items():
            if not isinstance(one.get(key), kind):
                raise InvalidValueError(
                    f"{path} is damaged: its {key!r} is {one.get(key, 'missing')!r}"
                )
        for parent in one["parents"]:
            if not (isinstance(parent, dict) and isinstance(parent.get("kind"), str)):
                raise InvalidValueError(f"{path} is damaged: a parent is {parent!r}")
    return document


def _documents(document: Document) -> Iterator[Document]:
    """A lineage and all of those that are in it."""
    yield document
    parents = document.get("parents")
    for parent in parents if isinstance(parents, list) else ():
        if isinstance(parent, dict) and isinstance(parent.get("lineage"), dict):
            yield from _documents(parent["lineage"])


def write(folder: epath.PathLike, document: Document) -> None:
    """Writes the lineage of a job or a checkpoint, whole or not at all; makes the folder."""
    folder = epath.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = folder / f"{FILE}.unfinished"
    unfinished.write_text(json.dumps(document, indent=1) + "\n")
    unfinished.replace(folder / FILE)


def copy_to(checkpoint: epath.PathLike) -> None:
    """Gives a checkpoint that is being written the lineage of its job, if that has one.

    Args:
      checkpoint: `<job>/checkpoints/checkpoint_<step>`, whatever it is called while unfinished.
    """
    checkpoint = epath.Path(checkpoint)
    source = checkpoint.parent.parent / FILE
    if checkpoint.parent.name == _CHECKPOINTS and source.exists():
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
    """
    state = epath.Path(checkpoint) / STATE
    arrays = arrays_of(checkpoint)
    with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
        files = [file for found in pool.map(_files, arrays) for file in found]
        hashed = [*pool.map(lambda file: _hash(file, stopped), files)]
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
    hashed = [_hash(epath.Path(path), stopped) for path in paths]
    return [
        {"name": epath.Path(path).name, "bytes": size, "sha256": digest}
        for path, (size, digest) in zip(paths, hashed, strict=True)
    ]


def checkpoint(job: epath.PathLike, step: int) -> epath.Path:
    """The directory of a job's checkpoint, there or not."""
    return epath.Path(job) / _CHECKPOINTS / f"checkpoint_{step:08d}"


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
    directory = epath.Path(job) / _CHECKPOINTS
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
    parents = document["parents"]
    return [one for parent in parents for one in _line(parent)] or [{"kind": "random weights"}]


def _line(parent: dict[str, Any]) -> list[dict[str, Any]]:
    """A parent and its own ancestors."""
    itself = {key: value for key, value in parent.items() if key != "lineage"}
    if above := parent.get("lineage"):
        return [itself, *chain(above)]
    return [itself, {"kind": "unknown"}] if parent["kind"] == "pax" else [itself]


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
            found.append(path)
    return found


def _hash(path: epath.Path, stopped: Callable[[], bool]) -> tuple[int, str]:
    """The bytes of a file, and their SHA-256."""
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            if stopped():
                raise InterruptedError(f"{path} is hashed no further")
            digest.update(piece)
            size += len(piece)
    return size, digest.hexdigest()
