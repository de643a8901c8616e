"""The manifest of a prepared corpus: what it holds, what it was made from, and what was dropped.

A prepared corpus is a folder, local or in object storage:

    manifest.json                             written last: without it the corpus is unfinished
    [<part>/]train-00000-of-00004.tfrecord    rows (`tfrecords.RowFormat`)
    [<part>/]train-00000-of-00004.parquet     the documents that those rows were cut from
    [<part>/]validation-00000-of-00001.tfrecord ...

A part is the documents of one language; a corpus that is not divided has the one part ''.

The counts say what came in, what each rule dropped and what was kept, for each language, licence
and rule: documents, bytes of text, and tokens of the documents that were tokenised, end-of-text
tokens included. `IN` and `KEPT` are rules too. Licences are counted under their SPDX spelling
(`licences.normalise`), so that two spellings of one licence are one entry; the spelling that a
document itself uses is in its provenance. Files that are not read at all are not documents: the
manifest counts them by reason under `left_out`.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

from etils import epath

from codegen_pax import json_files
from codegen_pax.data.format.documents import Document
from codegen_pax.data.format.tfrecords import RowFormat
from codegen_pax.data.rules import licences as spdx
from codegen_pax.errors import InvalidValueError, UserError
from codegen_pax.json_files import Fields

FILE = "manifest.json"
FORMAT = 1  # version of the manifest and of the files that it names

IN, KEPT = "in", "kept"

# language -> licence -> rule -> [documents, bytes, tokens]
Counts = dict[str, dict[str, dict[str, list[int]]]]

_SCHEMA = Fields(
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
    """A folder that should hold a prepared corpus does not, or its manifest cannot be read."""


class DamagedShardError(InvalidValueError):
    """A file of a finished corpus, or a row of it, is not as it was written."""


class CountsError(UserError):
    """The counts do not add up, which is a defect of this program; the corpus must not be used."""


@dataclasses.dataclass(frozen=True)
class Shard:
    """One file of rows.

    Attributes:
        name: path relative to the corpus, such as 'python/train-00000-of-00004.tfrecord'.
        rows: number of rows.
        sha256: SHA-256 of the file, in hexadecimal.
    """

    name: str
    rows: int
    sha256: str

    @property
    def documents(self) -> str:
        """Name of the Parquet file that lists the documents its rows were cut from."""
        return self.name.removesuffix(".tfrecord") + ".parquet"


@dataclasses.dataclass(frozen=True)
class Manifest:
    """The content of `manifest.json`.

    Attributes:
        corpus: its name, such as 'bigquery'.
        vocabulary: vocabulary of the token ids: 'gpt2' or 'codegen'.
        row_length: T.
        answers: whether the rows are conversations (`RowFormat.answers`).
        parts: part -> split -> its shards, in order.
        inputs: `path`, `bytes` and `sha256` of each input; of one that was hashed in parts,
            `part_bytes` and `sha256_of_parts` in place of the last.
        settings: everything besides the inputs that the rows depend on, the seed included; for each
            file of `benchmarks` also its number of problems and the problems that are too short to
            be recognised.
        versions: versions of Python and of the packages that made the corpus.
        code: version of this project that made it (`environment.code`); {} in manifests written
            before it was recorded.
        counts: see the module's docstring.
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
        """How the rows are stored in the shards."""
        return RowFormat(self.row_length, self.answers)

    def shards(self, split: str, part: str = "") -> tuple[Shard, ...]:
        """Return the shards of a split of a part, in order; () if there are none."""
        return self.parts.get(part, {}).get(split, ())

    def rows(self, split: str, part: str = "") -> int:
        """Return the number of rows of a split of a part."""
        return sum(shard.rows for shard in self.shards(split, part))

    def fingerprint(self, split: str, part: str = "") -> str:
        """Return a SHA-256 that two splits share only if they hold equal rows in equal order."""
        digest = hashlib.sha256(f"{self.row_length} {self.answers}".encode())
        for shard in self.shards(split, part):
            digest.update(f" {shard.rows} {shard.sha256}".encode())
        return digest.hexdigest()

    def save(self, folder: epath.Path) -> None:
        """Write `manifest.json` into `folder`, atomically."""
        json_files.write(folder / FILE, {"format": FORMAT} | dataclasses.asdict(self))


def load(folder: epath.Path) -> Manifest:
    """Read the manifest of the corpus in `folder`.

    Raises:
        ManifestError: There is no such folder, it has no manifest (the corpus is unfinished), or
            the manifest is malformed or of another format.
    """
    path = folder / FILE
    if not folder.exists():
        raise ManifestError(f"there is no folder {folder}")
    if not path.exists():
        raise ManifestError(f"{folder} is unfinished: found no {FILE} in it")
    try:
        content = json_files.read(path)
        json_files.check(content, Fields({}))
    except InvalidValueError as error:
        raise ManifestError(f"{path} is no manifest: {error}") from error
    if (version := content.get("format")) != FORMAT:
        raise ManifestError(f"{path} has format {version!r}; expected {FORMAT}")
    try:
        json_files.check(content, _SCHEMA)
        parts = {
            part: {split: tuple(map(_shard, shards)) for split, shards in splits.items()}
            for part, splits in content["parts"].items()
        }
        if content["row_length"] < 1:
            raise InvalidValueError(
                f"its 'row_length' is {content['row_length']}; expected at least 1"
            )
    except InvalidValueError as error:
        raise ManifestError(f"{path} is no manifest: {error}") from error
    known = {field.name for field in dataclasses.fields(Manifest)}
    fields = {name: value for name, value in content.items() if name in known}
    return Manifest(**fields | {"parts": parts, "inputs": tuple(content["inputs"])})


def _shard(entry: Mapping[str, Any]) -> Shard:
    """Read a shard's entry; raises InvalidValueError if its file lies outside the corpus."""
    name, rows = entry["name"], entry["rows"]
    is_inside = not name.startswith("/") and ".." not in name.split("/")
    if not is_inside or "\0" in name or rows < 0:
        raise InvalidValueError(
            f"a shard is {name!r} of {rows} rows; expected a file of the corpus"
        )
    return Shard(name, rows, entry["sha256"])


def add_count(
    counts: Counts,
    language: str,
    licence: str,
    rule: str,
    num_bytes: int,
    num_tokens: int = 0,
    num_documents: int = 1,
) -> None:
    """Add documents of `num_bytes` and `num_tokens` in all to the counts of a rule."""
    entry = counts.setdefault(language, {}).setdefault(licence, {}).setdefault(rule, [0, 0, 0])
    for index, value in enumerate((num_documents, num_bytes, num_tokens)):
        entry[index] += value


def count_document(
    counts: Counts, document: Document, rule: str, num_bytes: int, num_tokens: int = 0
) -> None:
    """Add one document to the counts of a rule."""
    licence = spdx.normalise(document.licence)
    add_count(counts, document.language, licence, rule, num_bytes, num_tokens)


def merge_counts(several: Iterable[Counts]) -> Counts:
    """Return the sum of several counts, with sorted keys."""
    total: Counts = {}
    for counts in several:
        for language, by_licence in counts.items():
            for licence, by_rule in by_licence.items():
                for rule, (num_documents, num_bytes, num_tokens) in by_rule.items():
                    add_count(total, language, licence, rule, num_bytes, num_tokens, num_documents)
    return {
        language: {
            licence: dict(sorted(by_rule.items())) for licence, by_rule in sorted(licences.items())
        }
        for language, licences in sorted(total.items())
    }


def totals_by_rule(counts: Counts) -> dict[str, list[int]]:
    """Return rule -> [documents, bytes, tokens] over all languages and licences."""
    total: dict[str, list[int]] = {}
    for by_licence in counts.values():
        for by_rule in by_licence.values():
            for rule, values in by_rule.items():
                total[rule] = [a + b for a, b in zip(total.get(rule, [0] * 3), values, strict=True)]
    return total


def check_counts(counts: Counts, rows: Mapping[str, Mapping[str, Mapping[str, int]]]) -> None:
    """Check that everything that came in is accounted for.

    For each language and licence, documents and bytes in = kept + dropped by each rule. For each
    part and split, tokens = tokens in rows + tokens left over at the end; and the tokens of all
    parts are those of the documents that were kept.

    Args:
        counts: The counts of the corpus.
        rows: part -> split -> the numbers of tokens `tokens`, `in_rows` and `last_row`.

    Raises:
        CountsError: They do not add up.
    """
    for language, by_licence in counts.items():
        for licence, by_rule in by_licence.items():
            for index, unit in enumerate(("documents", "bytes")):
                decided = sum(values[index] for rule, values in by_rule.items() if rule != IN)
                total = by_rule.get(IN, [0, 0, 0])[index]
                if decided != total:
                    raise CountsError(
                        f"{unit} of {language or 'no language'} ({licence or 'no licence'}) do not"
                        f" add up: in {total:,}, kept and dropped {decided:,}"
                    )
    tokens_of_parts = 0
    for part, splits in rows.items():
        for split, tokens in splits.items():
            tokens_of_parts += tokens["tokens"]
            if tokens["tokens"] != tokens["in_rows"] + tokens["last_row"]:
                raise CountsError(
                    f"tokens of {part or 'the corpus'} ({split}) do not add up: in"
                    f" {tokens['tokens']:,}, in rows {tokens['in_rows']:,}, left over"
                    f" {tokens['last_row']:,}"
                )
    tokens_kept = totals_by_rule(counts).get(KEPT, [0, 0, 0])[2]
    if tokens_kept != tokens_of_parts:
        raise CountsError(
            f"tokens do not add up: kept {tokens_kept:,}, cut into rows {tokens_of_parts:,}"
        )
