"""The settings of a preparation: the kinds of corpora, and what a user may choose."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import os
import uuid
from types import MappingProxyType

from etils import epath

from codegen_pax.data import TRAIN, VALIDATION
from codegen_pax.data.format.documents import Document
from codegen_pax.data.rules import languages, licences

WORK_FOLDER = ".codegen-pax-prepare"  # a folder that holds one is ours to clear
ROW_LENGTH = 2_048  # the context of every released size
VALIDATION_SHARE = 0.005  # ours: the share that is held out, of inputs up to 3.4 GB
# Our choice: the most that is held out by default, in bytes of the inputs on disk. An evaluation
# reads all validation rows every 1,000 steps of training. Half a percent of the Pile would be 1.77
# of its 354.7 billion tokens; 16 MiB are about five million tokens, or two or three times as many
# if the text is compressed.
VALIDATION_BYTES = 16 << 20
BUCKET_BYTES = 64 << 20  # of text, which is shuffled in memory
MOST_BUCKETS = 4_096  # of one part: beyond 256 GiB of text the buckets grow instead
# Our choices, by which a segment of a run is 1 to 8 MiB whatever the size of the corpus: up to 16
# buckets are written at once, more of them in two levels; a run is as large as 8 buckets at most.
ONE_LEVEL_BUCKETS = 16
MOST_CHUNKS = 8

# (part, split) -> number of buckets that its documents are shuffled in.
BucketCounts = dict[tuple[str, str], int]


@dataclasses.dataclass(frozen=True)
class Kind:
    """What distinguishes one corpus from another.

    Attributes:
        vocabulary: vocabulary of its token ids.
        code: whether its documents are source files, which are identified by language and filtered.
        languages: the languages that are kept by default; () for all languages of the table.
        licences: where a document's licence is looked up: 'record' (a field of its record), 'files'
            (SPDX lines in the file, licence files and package metadata in its folder and above), or
            '' for nowhere.
        licensed: whether only permissive licences are kept by default.
        by_language: whether its parts are languages; else it has the one part ''.
        prefixed: whether each file begins with a comment that names its language, by default.
        by_repository: whether whole repositories are held out for validation, not documents.
        answers: whether its documents are conversations, one a row.
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


def default_validation_share(num_bytes: int) -> float:
    """Return the share to hold out of inputs of `num_bytes` in all."""
    return min(VALIDATION_SHARE, VALIDATION_BYTES / max(1, num_bytes))


@dataclasses.dataclass(frozen=True)
class Settings:
    """Everything besides the inputs that the rows depend on.

    Attributes:
        corpus: a key of `KINDS`.
        output: the corpus's folder, local or a URL.
        seed: seed of the order of the documents.
        row_length: T.
        languages: languages of code to keep, in any spelling; () for the default of the kind.
        licences: SPDX identifiers to keep, or `licences.ANY`; () for the default of the kind.
        near_duplicates: whether near duplicates are dropped.
        redact: whether e-mail addresses and secrets are replaced.
        benchmarks: files of problems besides HumanEval's, as they were given.
        prefix: whether a file begins with a comment that names its language.
        validation: share that is held out.
        bucket_bytes: bytes of text in a bucket of the shuffle, and in a chunk.
        ranges: number of ranges that documents are divided into by their hashes to find duplicates.
        run: identity of the run, which no other run has; the rows do not depend on it.
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
    validation: float = VALIDATION_SHARE
    bucket_bytes: int = BUCKET_BYTES
    ranges: int = 1
    run: str = dataclasses.field(default_factory=lambda: uuid.uuid4().hex, compare=False)

    def __post_init__(self):
        names = self.languages or self.kind.languages or languages.LANGUAGES
        keys = tuple(dict.fromkeys(languages.resolve(name) for name in names))
        object.__setattr__(self, "languages", keys)

    @property
    def kind(self) -> Kind:
        """What distinguishes its corpus from others."""
        return KINDS[self.corpus]

    @property
    def allowed_licences(self) -> tuple[str, ...]:
        """SPDX identifiers that are kept; `licences.ANY` if no licence drops a document."""
        return self.licences or (licences.PERMISSIVE if self.kind.licensed else licences.ANY)

    @property
    def work_root(self) -> epath.Path:
        """Folder in the output that holds the work folders of runs."""
        return epath.Path(self.output) / WORK_FOLDER

    @property
    def work_folder(self) -> epath.Path:
        """Folder of this run alone, for the files that steps leave for one another."""
        return self.work_root / self.run

    @property
    def benchmark_copies(self) -> tuple[str, ...]:
        """Paths in the work folder of copies of `benchmarks`, which every worker can read."""
        return tuple(
            # Numbered, since two files may share a name; the names are kept for their suffixes.
            str(self.work_folder / "benchmarks" / f"{number:04d}-{os.path.basename(path)}")
            for number, path in enumerate(self.benchmarks)
        )

    def part(self, document: Document) -> str:
        """Return the part that a document belongs to."""
        return document.language if self.kind.by_language else ""

    def validation_key(self, repository: str, digest: bytes) -> int:
        """Return the key in [0, 2**64) of a repository, or of a document outside one ('').

        The documents with the lowest keys are held out (`held_out`).
        """
        key = repository.encode() or digest
        return int.from_bytes(hashlib.blake2b(key, digest_size=8, person=b"held out").digest())

    def split(self, document: Document, digest: bytes) -> str:
        """Return `TRAIN` or `VALIDATION`, a function of the repository or the document alone.

        A part from which the share holds out too little holds out more later (`held_out`).
        """
        repository = document.repository if self.kind.by_repository else ""
        key = self.validation_key(repository, digest)
        return VALIDATION if key < self.validation * 2**64 else TRAIN

    def order_key(self, digest: bytes) -> bytes:
        """Return the 16 bytes that a document is sorted by, a function of seed and content."""
        seed = self.seed.to_bytes(8, "big")
        return hashlib.blake2b(digest, digest_size=16, key=seed, person=b"order").digest()

    def num_buckets(self, num_bytes: int) -> int:
        """Return how many buckets a part with `num_bytes` of text is shuffled in."""
        return min(MOST_BUCKETS, max(1, -(-num_bytes // self.bucket_bytes)))

    def chunks_in_batch(self, num_bytes: int, num_buckets: BucketCounts) -> int:
        """Return how many chunks are tokenised to one run, for a corpus of `num_bytes` of text.

        The more buckets a run is divided into, the larger it is, so that a segment holds at least
        an eighth of a bucket; but at most as many as the text fills.
        """
        segments = sum(-(-count // buckets_in_coarse(count)) for count in num_buckets.values())
        segments = min(segments, -(-num_bytes // self.bucket_bytes))
        return min(MOST_CHUNKS, max(1, -(-segments // MOST_CHUNKS)))


def buckets_in_coarse(num_buckets: int) -> int:
    """Return how many buckets a coarse bucket holds: about the root of their number, or 1."""
    return 1 if num_buckets <= ONE_LEVEL_BUCKETS else math.isqrt(num_buckets - 1) + 1
