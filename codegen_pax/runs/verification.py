"""Whether a job is as it was saved: every checkpoint's files, receipt and numbers."""

from __future__ import annotations

import concurrent.futures
import contextlib
import json
import shlex
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from etils import epath

from codegen_pax.errors import MissingFileError, UserError
from codegen_pax.names import counted
from codegen_pax.runs import checksums, job_lock, lineage
from codegen_pax.runs.checkpoint_arrays import open_array
from codegen_pax.weights import rechunking

_THREADS = 4  # that unpack arrays
_METADATA = ("metadata/metadata",)  # what Pax reads of a checkpoint, besides arrays and lineage


@dataclass
class Checkpoint:
    """What was found of one checkpoint.

    Attributes:
      step: of it.
      folder: where it lies.
      checksums: 'when saved'; 'later', by another run than the one that saved it; 'in part', if a
        host's are missing; 'none'.
      problems: what is wrong, a line each.
      notes: what is not wrong, and worth a line.
    """

    step: int
    folder: str
    checksums: str = "none"
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass
class Report:
    """What was found of a job.

    Attributes:
      job: its directory.
      checkpoints: the whole ones, the newest first.
      problems, notes: of the job itself.
    """

    job: str
    checkpoints: list[Checkpoint] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def good_step(self) -> int | None:
        """The newest step of a checkpoint without a problem; None if there is none."""
        return next((one.step for one in self.checkpoints if not one.problems), None)

    @property
    def is_good(self) -> bool:
        return not self.problems and not any(one.problems for one in self.checkpoints)

    def how_to_go_on(self) -> list[str]:
        """What a person does now, a line each."""
        good = self.good_step
        if good is None:
            return ["no checkpoint is good: start again, or from a copy of the job"]
        newer = [one for one in self.checkpoints if one.step > good]
        if not newer:
            return [f"the same command as before goes on from step {good}"]
        move = "gcloud storage mv" if "://" in self.job else "mv"
        moves = [
            shlex.join([*move.split(), one.folder, f"{self.job}/damaged_{one.step}"])
            for one in newer
        ]
        return [
            f"Pax restores the newest checkpoint: to go on from step {good}, move what is newer",
            *moves,
            "and give the same command as before",
        ]


def size(job: epath.PathLike) -> int:
    """Bytes of a job's whole checkpoints, those of arrays twice, as `verify` reads them."""
    found = (lineage.checkpoint(job, step) for step in lineage.steps(job))
    files = [one for checkpoint in found for one in checksums.files_of(checkpoint).items()]
    return sum(bytes_ * (1 + name.startswith(f"{lineage.STATE}/")) for name, bytes_ in files)


def verify(job: epath.PathLike, on_bytes: Callable[[int], None] = lambda count: None) -> Report:
    """Reads all of a job's checkpoints.

    Args:
      job: its directory, local or a URL.
      on_bytes: called with bytes whenever some have been looked at, from any thread.

    Raises:
      FileNotFoundError: there is no such directory.
      OSError: something cannot be read.
    """
    job = epath.Path(job)
    if not job.is_dir():
        raise MissingFileError(f"{job} is no directory; wanted a run's folder")
    report = Report(str(job))
    _look_at_receipt(job, report.problems)
    if found := job_lock.read(job):
        report.notes.append(
            f"{found.get('experiment')} trains in it, if process {found.get('pid')} on"
            f" {found.get('host')} lives: what is newest may not be complete yet"
        )
    folder = job / lineage.CHECKPOINTS
    whole = {lineage.checkpoint(job, step).name for step in lineage.steps(job)}
    there = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    if unfinished := [name for name in there if name not in whole]:
        report.notes.append(f"unfinished, and read by nothing: {', '.join(unfinished)}")
    if not whole:
        report.problems.append("there is no whole checkpoint")
    for step in [*lineage.steps(job)]:
        checkpoint = lineage.checkpoint(job, step)
        found = None
        with contextlib.suppress(FileNotFoundError):
            found = _verified(checkpoint, step, on_bytes)
        if found and checkpoint.exists():  # a run that trains removes its old ones
            report.checkpoints.append(found)
    return report


def _verified(checkpoint: epath.Path, step: int, on_bytes: Callable[[int], None]) -> Checkpoint:
    found = Checkpoint(step, str(checkpoint))
    try:
        known = checksums.read(checkpoint)
        if known is not None:
            found.checksums = (
                "in part" if known.missing else "later" if known.later else "when saved"
            )
        if known is None or known.missing:
            found.notes.append(
                "no checksums: an older version saved it, or its run was killed too soon"
                if known is None
                else "the checksums of some hosts are missing: the run was killed too soon"
            )
        found.problems += checksums.problems(checkpoint, contents=True, on_bytes=on_bytes)
        sizes = checksums.files_of(checkpoint)
        found.problems += _extra(sizes, known)
    except checksums.DamagedCheckpointError as error:
        found.problems.append(str(error))
    for name in _METADATA:
        _look_at_json(checkpoint / name, name, found.problems)
    _look_at_receipt(checkpoint, found.problems)
    if not found.problems:
        found.problems += _missing_weights(checkpoint)
        found.problems += _unreadable(checkpoint, sizes, on_bytes)
    # A file may be told twice, by its checksum and by its content.
    found.problems = [*dict.fromkeys(found.problems)]
    return found


def _extra(sizes: Mapping[str, int], known: checksums.Checksums | None) -> Iterator[str]:
    """Files of arrays that were not saved: a chunk among them would be read."""
    if known is None or known.missing:
        return
    for name in sizes:
        if name.startswith(f"{checksums.STATE}/") and name not in known.files:
            yield f"{name} was not saved with it"


def _look_at_receipt(folder: epath.Path, problems: list[str]) -> None:
    try:
        if lineage.read(folder) is None:
            problems.append(f"{lineage.FILE} is missing")
    except UserError as error:
        problems.append(str(error))


def _look_at_json(path: epath.Path, name: str, problems: list[str]) -> None:
    if not path.exists():
        problems.append(f"{name} is missing")
        return
    try:
        json.loads(path.read_text())
    except (ValueError, RecursionError) as error:
        problems.append(f"{name} is damaged: {error}")


def _missing_weights(checkpoint: epath.Path) -> list[str]:
    """Weights that Pax' own metadata has and the checkpoint has not."""
    said = json.loads((checkpoint / _METADATA[0]).read_text())
    try:
        wanted = {*_leaves(said["train_state_metadata"]["mdl_vars"])}
    except (KeyError, TypeError, AttributeError) as error:
        return [f"{_METADATA[0]} is damaged: {error!r}"]
    there = {path.name.removeprefix(lineage.WEIGHTS) for path in lineage.arrays_of(checkpoint)}
    return [
        f"{lineage.STATE}/{lineage.WEIGHTS}{name} is missing" for name in sorted(wanted - there)
    ]


def _leaves(tree: dict, prefix: str = "") -> Iterator[str]:
    for name, value in tree.items():
        if "unpadded_shape" in value:
            yield f"{prefix}{name}"
        else:
            yield from _leaves(value, f"{prefix}{name}.")


def _unreadable(
    checkpoint: epath.Path, sizes: Mapping[str, int], on_bytes: Callable[[int], None]
) -> list[str]:
    """Arrays that cannot be unpacked, or hold infinities or what is no number."""

    def of(folder: epath.Path) -> str | None:
        name = f"{lineage.STATE}/{folder.name}"
        try:
            store = open_array(folder)
            chunk, kind = store.chunk_layout.read_chunk.shape, store.dtype.numpy_dtype

            def read(box: rechunking.Index) -> np.ndarray:
                return np.asarray(store[box].read().result())

            if store.shape:
                parts = rechunking.read_pieces(folder, store.shape, chunk, kind, read)
            else:  # the step: a number alone has no grid of chunks
                parts = [((), read(()))]
            bad = sum(int((~np.isfinite(part)).sum()) for _, part in parts)
        except (OSError, ValueError) as error:  # of tensorstore too
            return f"{name} cannot be read: {error}"
        on_bytes(sum(size for file, size in sizes.items() if file.startswith(f"{name}/")))
        return f"{name} has {counted(bad, 'number')} not finite" if bad else None

    # Besides them there is a file of Orbax's own.
    folders = [path for path in (checkpoint / lineage.STATE).iterdir() if path.is_dir()]
    with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
        return sorted(filter(None, pool.map(of, folders)))
