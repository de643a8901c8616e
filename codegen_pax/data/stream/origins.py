"""What a mixture is read from, as the lineage of a run tells it."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping
from typing import Any

import seqio

from codegen_pax.data import installed
from codegen_pax.data.format import manifest
from codegen_pax.data.format.manifest import Manifest
from codegen_pax.data.prepared import CorpusMissingError, PreparedCorpus, registered
from codegen_pax.data.rules import licences as spdx
from codegen_pax.data.seqio_sources import InstalledText


def origins(mixture_or_task: str, split: str = installed.TRAIN) -> list[dict[str, Any]]:
    """The origin of each task of a registered mixture; of a task, its own alone. Reads no row.

    Returns:
      Of a prepared corpus: `task`, `corpus`, `part`, `folder`, `manifest_sha256` of the manifest's
      bytes, the `fingerprint`, `rows` and `tokens` of the split (of conversations, padding
      included), `licences` of all its documents that were kept, `licences_checked` (whether others
      were dropped), and `vocabulary`.
      Of one that cannot be read: `task`, and in `missing` why.
      Of installed text: `task`, `source` 'installed', what of it, and of which Python.
      Of any other source: `task`, and in `source` its class.
    """
    found = registered(mixture_or_task)
    tasks = [found] if isinstance(found, seqio.Task) else found.tasks
    return [_origin(task, split) for task in tasks]


def _origin(task: seqio.Task, split: str) -> dict[str, Any]:
    source = task.source
    if isinstance(source, PreparedCorpus):
        try:
            return {"task": task.name} | _prepared(source, split)
        except (CorpusMissingError, OSError) as error:
            # Who reads it is told; a run that does not must not fail for it.
            return {"task": task.name, "missing": " ".join(str(error).split())}
    if isinstance(source, InstalledText):
        return {
            "task": task.name,
            "source": "installed",
            "corpus": source.corpus,
            "python": platform.python_version(),
        }
    kind = type(source)
    return {"task": task.name, "source": f"{kind.__module__}.{kind.__qualname__}"}


def _prepared(source: PreparedCorpus, split: str) -> dict[str, Any]:
    found, folder = source.manifest(), source.folder()
    rows = found.rows(split, source.part)
    return {
        "corpus": source.corpus,
        "part": source.part,
        "folder": str(folder if "://" in str(folder) else folder.resolve()),
        "manifest_sha256": hashlib.sha256((folder / manifest.FILE).read_bytes()).hexdigest(),
        "fingerprint": found.fingerprint(split, source.part),
        "rows": rows,
        "tokens": rows * found.row_length,
        "licences": _licences(found, source.part),
        "licences_checked": _looked_at(found) and found.settings.get("licences") != [*spdx.ANY],
        "vocabulary": found.vocabulary,
    }


def _looked_at(found: Manifest) -> bool:
    """Whether the licence of each document was looked for."""
    # Manifests of old do not say it: licences of the Pile and of trees were not looked for.
    of_old = "" if found.corpus in ("pile", "tree") else "record"
    return bool(found.settings.get("licences_from", of_old))


def _licences(found: Manifest, part: str) -> Mapping[str, int]:
    """How many documents of a part were kept by licence, the most first.

    A licence is an SPDX expression, 'unknown' (stated, and none), 'none' or 'not looked at'.
    """
    unstated = "none" if _looked_at(found) else "not looked at"
    languages = found.counts.get("documents", {})
    several = [languages.get(part, {})] if part else languages.values()
    total: dict[str, int] = {}
    for licences in several:
        for licence, rules in licences.items():
            if kept := sum(rules.get(manifest.KEPT, [])[:1]):
                total[licence or unstated] = total.get(licence or unstated, 0) + kept
    return dict(sorted(total.items(), key=lambda item: (-item[1], item[0])))
