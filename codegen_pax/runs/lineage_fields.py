"""The fields of a `lineage.json`, which anybody may have written, and their types."""

from __future__ import annotations

from typing import Any

from codegen_pax import json_files
from codegen_pax.errors import InvalidValueError
from codegen_pax.json_files import Fields

Document = dict[str, Any]

_NOTHING = type(None)
_FILE = Fields({"name": str, "bytes": int, "sha256": str})
_PAX = Fields(
    {"experiment": (str, _NOTHING), "job": str, "step": int, "sha256": str, "bytes": int},
    {"lineage": (dict, _NOTHING)},
)
_FOREIGN = Fields(
    {"directory": str, "files": [_FILE]},
    {
        "step": (int, _NOTHING),
        "mp_num": int,
        "mp_num_by": str,
        "lineage": (dict, _NOTHING),
    },
)
_VERSIONS = {str: str}
_NAMED = Fields({"name": str})
_SCALAR = (str, int, float, bool, _NOTHING)
_CODE = Fields({"sha256": str}, {"file": str, "commit": str, "dirty": bool})
_CORPUS = {"corpus": str, "part": str, "folder": str, "manifest_sha256": str, "rows": int}
_CORPUS |= {"tokens": int, "licences": {str: int}, "vocabulary": str}
# What is read of each, besides what an import or an export adds.
_DOCUMENT = Fields(
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
        "code": {str: _CODE},
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
_GENERATIONS = 200  # of parents of parents: JSON is read, and written, by functions that nest


def check(document: Document) -> None:
    """Looks at a lineage and at all of those that are in it.

    Raises:
      ValueError: a field that is read of one is missing, or is what could not be shown.
    """
    for one in _documents(document):
        _check(one)


def _documents(document: Document) -> list[Document]:
    """A lineage and all of those that are in it."""
    found, generation = [], [document]
    for _ in range(_GENERATIONS):
        found += generation
        generation = [
            parent["lineage"]
            for one in generation
            for parent in (one["parents"] if isinstance(one.get("parents"), list) else ())
            if isinstance(parent, dict) and isinstance(parent.get("lineage"), dict)
        ]
        if not generation:
            return found
    raise InvalidValueError(f"it has more than {_GENERATIONS} generations of parents")


def _check(document: Document) -> None:
    json_files.check(document, _DOCUMENT)
    for number, origin in enumerate(document["data"]):
        if "missing" in origin:
            continue
        if "source" not in origin:
            wanted = Fields(_CORPUS)
        else:
            of_text = {"corpus": str, "python": str} if origin["source"] == "installed" else {}
            wanted = Fields(of_text)
        json_files.check(origin, wanted, f"data[{number}]")
    for number, parent in enumerate(document["parents"]):
        if parent["kind"] == "pax" or "directory" in parent:
            wanted = _PAX if parent["kind"] == "pax" else _FOREIGN
            json_files.check(parent, wanted, f"parents[{number}]")
