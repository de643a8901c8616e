"""The manifest of a prepared corpus: what it holds, what it was made from, and where each went.

A prepared corpus is a folder, here or in a bucket:

    manifest.json                             written last: without it the corpus is unfinished
    [<part>/]train-00000-of-00004.tfrecord    rows (`records.RowFormat`)
    [<part>/]train-00000-of-00004.parquet     the documents those rows were cut from
    [<part>/]validation-00000-of-00001.tfrecord ...

A part is a language; corpora that are read as a whole have the one part ''.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from typing import Any

from etils import epath

from codegen_pax import json_files
from codegen_pax.data.format.tfrecords import RowFormat
from codegen_pax.errors import InvalidValueError, UserError
from codegen_pax.json_files import Fields

FILE = "manifest.json"
FORMAT = 1  # of the manifest and of the files it speaks of


_MANIFEST = Fields(
    {
        "corpus": str,
        "vocabulary": str,
        "row_length": int,
        "answers": bool,
        "parts": {str: {str: [Fields({"name": str, "rows": int, "sha256": str})]}},
        "inputs": [dict],
    },
    {
        "settings": dict,
        "versions": dict,
        "counts": Fields({}, {"documents": {str: {str: {str: [int]}}}}),
        "code": dict,
    },
)


class ManifestError(UserError):
    """A folder that should hold a prepared corpus does not, or holds something else."""


@dataclasses.dataclass(frozen=True)
class Shard:
    """One file of rows."""

    name: str  # relative to the corpus, as 'python/train-00000-of-00004.tfrecord'
    rows: int
    sha256: str

    @property
    def documents(self) -> str:
        """The name of the file that says which documents its rows were cut from."""
        return self.name.removesuffix(".tfrecord") + ".parquet"


@dataclasses.dataclass(frozen=True)
class Manifest:
    """What `manifest.json` says.

    Attributes:
      corpus: its name, as 'bigquery'.
      vocabulary: of its ids: 'gpt2' or 'codegen'.
      row_length: T.
      answers: whether its rows are conversations (`records.RowFormat.answers`).
      parts: part -> split -> its shards, in order.
      inputs: of each input `path`, `bytes` and `sha256`.
      settings: everything that the rows depend on besides the inputs, seed included; of each file
        of `benchmarks` how many problems were looked for, and those too short to be recognised.
      versions: of Python and of the packages that made it.
      code: of this project, which made it: `environment.code`; {} of an older version.
      counts: see `counts.py`.
    """

    corpus: str
    vocabulary: str
    row_length: int
    answers: bool
    parts: Mapping[str, Mapping[str, tuple[Shard, ...]]]
    inputs: tuple[Mapping[str, Any], ...] = ()
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    versions: Mapping[str, str] = dataclasses.field(default_factory=dict)
    counts: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    code: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def row_format(self) -> RowFormat:
        """How its rows lie in its shards."""
        return RowFormat(self.row_length, self.answers)

    def shards(self, split: str, part: str = "") -> tuple[Shard, ...]:
        """The shards of a split of a part, in order; none if it has no such part or split."""
        return self.parts.get(part, {}).get(split, ())

    def rows(self, split: str, part: str = "") -> int:
        """How many rows a split of a part has."""
        return sum(shard.rows for shard in self.shards(split, part))

    def fingerprint(self, split: str, part: str = "") -> str:
        """SHA-256 over the rows of a split of a part: equal only if the rows are, in order."""
        digest = hashlib.sha256(f"{self.row_length} {self.answers}".encode())
        for shard in self.shards(split, part):
            digest.update(f" {shard.rows} {shard.sha256}".encode())
        return digest.hexdigest()

    def save(self, folder: epath.Path) -> None:
        """Writes `manifest.json` into `folder`, whole or not at all."""
        json_files.write(folder / FILE, {"format": FORMAT} | dataclasses.asdict(self))


def load(folder: epath.Path) -> Manifest:
    """The manifest of the corpus in `folder`.

    Raises:
      ManifestError: there is no such folder, or no manifest in it (it is unfinished), or one that
        this version cannot read.
    """
    path = folder / FILE
    if not folder.exists():
        raise ManifestError(f"there is no folder {folder}")
    if not path.exists():
        raise ManifestError(f"{folder} is unfinished: found no {FILE} in it")
    try:
        said = json_files.read(path)
        json_files.check(said, Fields({}))
    except InvalidValueError as error:
        raise ManifestError(f"{path} is no manifest: {error}") from error
    if (found := said.get("format")) != FORMAT:
        raise ManifestError(f"{path} has format {found!r}; wanted {FORMAT}")
    try:
        json_files.check(said, _MANIFEST)
        parts = {
            part: {split: tuple(map(_shard, shards)) for split, shards in splits.items()}
            for part, splits in said["parts"].items()
        }
        if said["row_length"] < 1:
            raise InvalidValueError(f"its 'row_length' is {said['row_length']}; wanted at least 1")
    except InvalidValueError as error:
        raise ManifestError(f"{path} is no manifest: {error}") from error
    known = {field.name for field in dataclasses.fields(Manifest)}
    rest = {name: value for name, value in said.items() if name in known}
    return Manifest(**rest | {"parts": parts, "inputs": tuple(said["inputs"])})


def _shard(said: Mapping[str, Any]) -> Shard:
    """A shard whose file is in the corpus. Raises ValueError for any other."""
    name, rows = said["name"], said["rows"]
    inside = not name.startswith("/") and ".." not in name.split("/")
    if not inside or "\0" in name or rows < 0:
        raise InvalidValueError(f"a shard is {name!r} of {rows} rows; wanted a file of the corpus")
    return Shard(name, rows, said["sha256"])
