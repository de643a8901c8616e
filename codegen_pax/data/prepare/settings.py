"""What a corpus is prepared by."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from types import MappingProxyType

from etils import epath

from codegen_pax.data.format.documents import Document
from codegen_pax.data.rules import languages, licences

WORK = ".codegen-pax-prepare"  # what is in a folder with one is ours to remove
ROW_LENGTH = 2_048  # the context of every released size
VALIDATION = 0.005  # ours: the share that is held out, of inputs up to 3.4 GB
# Ours, of the inputs as they lie on disk. An evaluation reads all that is held out, every 1,000
# steps of training: half a percent of the Pile would be 1.77 of its 354.7 billion tokens; of 16 MiB
# come some five million, of compressed text two or three times as many.
HELD_OUT_BYTES = 16 << 20
BUCKET_BYTES = 64 << 20  # of text that is shuffled, and held, at once
MOST_BUCKETS = 4_096  # of one part: beyond 256 GiB of text the buckets grow instead


@dataclasses.dataclass(frozen=True)
class Kind:
    """What sets a corpus apart.

    Attributes:
      vocabulary: its ids are of.
      code: source files: told by language, filtered.
      languages: that are kept unless others are asked for; empty for every one of the table.
      licences: where a document's licence is looked for: 'record' (a field of it), 'files' (the
        file's own SPDX lines, licence files and package metadata beside and above it), '' nowhere.
      licensed: only permissive licences are kept, unless others are asked for.
      by_language: its parts are languages; else it has the one part ''.
      prefixed: each file begins with the line that names its language.
      by_repository: held out by repository, not by document.
      answers: conversations, one a row.
    """

    vocabulary: str = "codegen"
    code: bool = True
    languages: tuple[str, ...] = languages.DEFAULT
    licences: str = "record"
    licensed: bool = False
    by_language: bool = False
    prefixed: bool = False
    by_repository: bool = False
    answers: bool = False


KINDS = MappingProxyType(
    {
        "pile": Kind(vocabulary="gpt2", code=False, licences=""),
        "bigquery": Kind(licensed=True, by_language=True, prefixed=True, by_repository=True),
        "bigpython": Kind(languages=("python",), licensed=True, by_repository=True),
        "instruction": Kind(code=False, answers=True),
        "tree": Kind(languages=(), licences="files", by_language=True),
    }
)


def held_out(size: int) -> float:
    """The share to hold out of inputs of `size` bytes in all, where none is asked for."""
    return min(VALIDATION, HELD_OUT_BYTES / max(1, size))


@dataclasses.dataclass(frozen=True)
class Settings:
    """Everything that the rows depend on besides the inputs.

    Attributes:
      corpus: one of `KINDS`.
      output: the corpus's folder, local or a URL.
      seed: of the order of the documents.
      row_length: T.
      languages: those that are kept, for code, in any spelling; those of the kind if none is given.
      licences: SPDX identifiers that are kept, or `licences.ANY`; () is the kind's default.
      near_duplicates: whether near duplicates are dropped.
      redact: whether e-mail addresses and secrets are replaced.
      benchmarks: files of problems besides HumanEval's, as they were given.
      prefix: whether a file begins with the line that names its language.
      validation: the share that is held out.
      bucket_bytes: of text in a bucket of the shuffle.
      ranges: in how many pieces duplicates are looked for.
    """

    corpus: str
    output: str
    seed: int = 0
    row_length: int = ROW_LENGTH
    languages: tuple[str, ...] = ()
    licences: tuple[str, ...] = ()
    near_duplicates: bool = False
    redact: bool = False
    benchmarks: tuple[str, ...] = ()
    prefix: bool = False
    validation: float = VALIDATION
    bucket_bytes: int = BUCKET_BYTES
    ranges: int = 1

    def __post_init__(self):
        wanted = self.languages or self.kind.languages or languages.LANGUAGES
        found = tuple(dict.fromkeys(languages.resolve(name) for name in wanted))
        object.__setattr__(self, "languages", found)

    @property
    def kind(self) -> Kind:
        """What sets its corpus apart."""
        return KINDS[self.corpus]

    @property
    def allowed_licences(self) -> tuple[str, ...]:
        """SPDX identifiers that are kept; `licences.ANY` where no licence drops a document."""
        return self.licences or (licences.PERMISSIVE if self.kind.licensed else licences.ANY)

    @property
    def work(self) -> epath.Path:
        """Where text and tokens travel."""
        return epath.Path(self.output) / WORK

    @property
    def problems(self) -> tuple[str, ...]:
        """Where copies of `benchmarks` lie, which every worker can read."""
        return tuple(
            # By their number, since two may have one name; by their name, for its ending.
            str(self.work / "benchmarks" / f"{number:04d}-{os.path.basename(path)}")
            for number, path in enumerate(self.benchmarks)
        )

    def part(self, document: Document) -> str:
        """The part that a document belongs to."""
        return document.language if self.kind.by_language else ""

    def place(self, repository: str, digest: bytes) -> int:
        """Of a repository, or of a document that is in none (''), below 2**64: see `held_out`."""
        key = repository.encode() or digest
        return int.from_bytes(hashlib.blake2b(key, digest_size=8, person=b"held out").digest())

    def split(self, document: Document, digest: bytes) -> str:
        """'train' or 'validation': a function of the repository or of the document alone.

        Of the share that is held out; a part that gets nothing of it gets some (`held_out`).
        """
        repository = document.repository if self.kind.by_repository else ""
        place = self.place(repository, digest)
        return "validation" if place < self.validation * 2**64 else "train"

    def order(self, digest: bytes) -> bytes:
        """What a document is ordered by, 16 bytes: a function of the seed and its content."""
        key = self.seed.to_bytes(8, "big")
        return hashlib.blake2b(digest, digest_size=16, key=key, person=b"order").digest()

    def buckets(self, size: int) -> int:
        """How many buckets a part with `size` bytes of text is shuffled in."""
        return min(MOST_BUCKETS, max(1, -(-size // self.bucket_bytes)))
