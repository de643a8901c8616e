"""The second reading of each partition: rules that need the other documents, and tokenisation."""

from __future__ import annotations

import collections
import dataclasses
import functools
import hashlib
import os
import struct
from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa
from etils import epath

from codegen_pax.data.format import manifest
from codegen_pax.data.format.documents import Document, Dropped, Turn
from codegen_pax.data.prepare import held_out, steps
from codegen_pax.data.prepare.duplicates import EXACT, NEAR, Drops
from codegen_pax.data.prepare.examine import PASSED, content_bytes, identify_language, passed_file
from codegen_pax.data.prepare.order import PIECES, Block, Bucket, StoredBlock
from codegen_pax.data.prepare.settings import BucketCounts, Settings
from codegen_pax.data.rules import decontamination, languages, redaction
from codegen_pax.data.sources import storage
from codegen_pax.data.sources.errors import ChangedInputError
from codegen_pax.data.sources.partitions import Partition
from codegen_pax.text import instruction_format, tokenizer

LONGER_THAN_ROW = "longer_than_row"

# Limits of what is held in memory: a batch for the tokeniser, tokens until they are written to a
# file, and entries of PASSED. The number of documents is limited as well as their size, since very
# short documents take more memory than their text.
BATCH_BYTES, BATCH_DOCUMENTS = 1 << 20, 1 << 12
FILE_TOKENS, FILE_DOCUMENTS = 1 << 24, 1 << 16
PASSED_AT_ONCE = 1 << 14

_RULES = (None, NEAR, EXACT)  # an exact duplicate is not counted as a near one too


@dataclasses.dataclass(frozen=True)
class Tokenised:
    """The result of the second reading of a partition.

    Attributes:
        report: what was dropped and kept since the first reading.
        blocks: (bucket, documents of the bucket).
        totals: part -> what of it was kept.
    """

    report: steps.Report
    blocks: list[tuple[Bucket, StoredBlock]]
    totals: dict[str, held_out.PartTotals]


@dataclasses.dataclass(frozen=True)
class _Candidate:
    """A document that waits to be tokenised.

    Attributes:
        document: the document, redacted.
        size: bytes before it was redacted.
        digest: SHA-256 of its content before it was redacted.
        texts: (text, whether it is an answer) of each text to tokenise, in order.
    """

    document: Document
    size: int
    digest: bytes
    texts: list[tuple[str, bool]]


@functools.lru_cache(maxsize=1)
def _problems(paths: tuple[str, ...], redacted: bool) -> decontamination.Problems:
    return decontamination.load(paths, redacted)


class _BlockWriter:
    """Collects the tokenised documents of a partition and writes them to files, by bucket.

    Attributes:
        blocks: (bucket, documents of the bucket) that were written.
        totals: part -> what of it was kept.
    """

    def __init__(self, settings: Settings, partition: int, num_buckets: BucketCounts):
        self._settings, self._partition = settings, partition
        self._num_buckets = num_buckets
        self._num_files = self._num_tokens = self._num_documents = 0
        self._waiting: dict[Bucket, list[tuple[np.ndarray, np.ndarray, tuple]]] = {}
        self.blocks: list[tuple[Bucket, StoredBlock]] = []
        self.totals: dict[str, held_out.PartTotals] = {}

    def add(self, candidate: _Candidate, tokens: np.ndarray, answers: np.ndarray) -> None:
        settings, document = self._settings, candidate.document
        part, split = settings.part(document), settings.split(document, candidate.digest)
        held_out.add_document(self.totals, settings, document, candidate.digest, len(tokens))
        key = settings.order_key(candidate.digest)
        # A bucket is a range of keys, so that the sorted buckets together are the sorted split.
        bucket = int.from_bytes(key[:8], "big") * self._num_buckets[part, split] >> 64
        piece = (
            key,
            len(tokens),
            0,
            document.source,
            document.record,
            document.path,
            document.repository,
            document.licence,
            document.language,
            candidate.digest.hex(),
        )
        self._waiting.setdefault((part, split, bucket), []).append((tokens, answers, piece))
        self._num_tokens += len(tokens)
        self._num_documents += 1
        if self._num_tokens >= FILE_TOKENS or self._num_documents >= FILE_DOCUMENTS:
            self.flush()

    def flush(self) -> None:
        if not self._waiting:
            return
        name = f"{self._partition:06d}-{self._num_files:04d}"
        path = self._settings.work_folder / "tokenised" / name
        start = 0
        with steps.atomic_file(path) as file:
            for bucket, waiting in sorted(self._waiting.items()):
                tokens, answers, pieces = zip(*waiting, strict=True)
                columns = [
                    pa.array(values, field.type)
                    for values, field in zip(zip(*pieces, strict=True), PIECES, strict=True)
                ]
                table = pa.Table.from_arrays(columns, schema=PIECES)
                block = Block(np.concatenate(tokens), np.concatenate(answers), table)
                data, sizes = block.serialise()
                file.write(data)
                self.blocks.append((bucket, StoredBlock(str(path), start, sizes)))
                start += len(data)
        self._num_files += 1
        self._num_tokens = self._num_documents = 0
        self._waiting.clear()


def _read_drops(drops: Iterable[Drops], passed: epath.Path) -> np.ndarray:
    """Return which of `_RULES` drops each document of PASSED: uint8 [documents]."""
    rules = np.zeros(passed.stat().length // PASSED.itemsize, np.uint8)
    for rule, path in drops:
        indices = np.frombuffer(epath.Path(path).read_bytes(), "<i4")
        rules[indices] = np.maximum(rules[indices], _RULES.index(rule))
    return rules


def _read_passed(path: epath.Path) -> Iterator[tuple[int, bytes]]:
    """Yield (number, digest) of the documents of PASSED."""
    with path.open("rb") as file:
        while data := file.read(PASSED_AT_ONCE * PASSED.itemsize):
            yield from struct.iter_unpack("<q32s", data)


def _read_again(partition: Partition, settings: Settings) -> Iterator[tuple[Document, bytes]]:
    """Yield (document, digest) of documents that passed the first reading, in order of PASSED.

    Raises:
        ChangedInputError: A document differs from what the first reading found.
    """
    progress = steps.Progress(settings, "tokenise", partition)
    records = steps.read_documents(partition)
    for passed_number, digest in _read_passed(passed_file(settings, partition.number)):
        for number, record in records:
            progress.add(record.size)
            if number == passed_number:
                break
        else:
            raise ChangedInputError(partition.source, "it holds fewer records")
        if isinstance(record, Dropped) or hashlib.sha256(content_bytes(record)).digest() != digest:
            raise ChangedInputError(
                storage.unescape_path(record.source),
                f"{partition.describe_record(record.record)} is another",
            )
        yield identify_language(record, settings), digest
    progress.finish()


def _redact(document: Document) -> tuple[Document, collections.Counter[str]]:
    """Return the document without its secrets, and how many of each kind it had.

    Raises:
        TooManySecretsError: The document has too many secrets and is to be dropped.
    """
    redacted: collections.Counter[str] = collections.Counter()

    def redact(text: str) -> str:
        text, counts = redaction.redact(text)
        redacted.update(counts)
        return text

    turns = tuple(Turn(turn.role, redact(turn.content)) for turn in document.turns)
    return dataclasses.replace(document, text=redact(document.text), turns=turns), redacted


def _texts(document: Document, settings: Settings) -> list[tuple[str, bool]]:
    if document.turns:
        return instruction_format.conversation(
            [(turn.role, turn.content) for turn in document.turns]
        )
    prefix = languages.prefix(document.language) if settings.prefix else ""
    return [(prefix + document.text, False)]


def _encode(
    batch: list[_Candidate], settings: Settings
) -> Iterator[tuple[_Candidate, np.ndarray, np.ndarray]]:
    """Yield (candidate, ids uint16 [n], answers uint8 [n]); answers [0] for a text."""
    bpe = tokenizer.load(settings.kind.vocabulary, literal=True)
    end = tokenizer.end_of_text_id(settings.kind.vocabulary)
    texts = [text for candidate in batch for text, _ in candidate.texts]
    encodings = iter(bpe.encode_batch_fast(texts, add_special_tokens=False))
    for candidate in batch:
        ids: list[int] = []
        answers: list[int] = []
        for _, is_answer in candidate.texts:
            text_ids = next(encodings).ids
            if is_answer or not settings.kind.answers:
                text_ids = [*text_ids, end]
            ids += text_ids
            if settings.kind.answers:
                answers += [int(is_answer)] * len(text_ids)
        yield candidate, np.array(ids, np.uint16), np.array(answers, np.uint8)


class _PartitionTokeniser:
    """Applies the remaining rules to the documents of a partition, and tokenises those kept."""

    def __init__(self, partition: Partition, settings: Settings, num_buckets: BucketCounts):
        self._partition, self._settings = partition, settings
        self._report = steps.Report()
        self._writer = _BlockWriter(settings, partition.number, num_buckets)
        self._batch: list[_Candidate] = []
        self._batch_bytes = 0

    def add(self, document: Document, digest: bytes, rule: str | None) -> None:
        """Add a document; `rule` is the duplicate rule that drops it, or None."""
        size = document.size
        with steps.DefectGuard() as guard:
            if rule is None:
                document, rule = self._apply_rules(document)
            texts = [] if rule else _texts(document, self._settings)
        if rule := guard.rule or rule:
            self._drop(document, rule, size, guard.defect)
            return
        self._batch.append(_Candidate(document, size, digest, texts))
        self._batch_bytes += size
        if self._batch_bytes >= BATCH_BYTES or len(self._batch) >= BATCH_DOCUMENTS:
            self._flush()

    def finish(self) -> Tokenised:
        """Write all pending documents, and return the result."""
        self._flush()
        self._writer.flush()
        return Tokenised(self._report, self._writer.blocks, self._writer.totals)

    def _apply_rules(self, document: Document) -> tuple[Document, str | None]:
        """Return the document, redacted, and the rule that drops it, or None."""
        settings = self._settings
        if settings.redact:
            try:
                document, redacted = _redact(document)
            except redaction.TooManySecretsError:
                return document, redaction.RULE
            self._report.redacted.update(redacted)
        problems = _problems(settings.benchmark_copies, settings.redact)
        texts = [turn.content for turn in document.turns] or [document.text]
        return document, decontamination.RULE if any(map(problems.match, texts)) else None

    def _drop(self, document: Document, rule: str, size: int, defect: str = "") -> None:
        manifest.count_document(self._report.counts, document, rule, size)
        if defect:
            self._report.add_defect(document, defect, self._partition)

    def _flush(self) -> None:
        batch, self._batch, self._batch_bytes = self._batch, [], 0
        with steps.DefectGuard() as guard:
            encoded = [*_encode(batch, self._settings)]
        if not guard.rule:
            self._keep(encoded)
            return
        for candidate in batch:  # one of them fails; the others are kept
            with steps.DefectGuard() as guard:
                encoded = [*_encode([candidate], self._settings)]
            if guard.rule:
                self._drop(candidate.document, guard.rule, candidate.size, guard.defect)
            else:
                self._keep(encoded)

    def _keep(self, encoded: list[tuple[_Candidate, np.ndarray, np.ndarray]]) -> None:
        settings = self._settings
        for candidate, tokens, answers in encoded:
            rule = manifest.KEPT
            if settings.kind.answers and len(tokens) > settings.row_length:
                rule = LONGER_THAN_ROW
            else:
                self._writer.add(candidate, tokens, answers)
            manifest.count_document(
                self._report.counts, candidate.document, rule, candidate.size, len(tokens)
            )


def describe(partition_drops: tuple[Partition, Iterable[Drops]]) -> str:
    """Describe a partition."""
    return storage.escape_path(partition_drops[0].source)


def tokenise(
    partition_drops: tuple[Partition, Iterable[Drops]],
    settings: Settings,
    num_buckets: BucketCounts,
) -> Tokenised:
    """Tokenise the documents of a partition and write them by bucket.

    Args:
        partition_drops: (partition, which of its documents are duplicates).
        settings: Settings of the corpus.
        num_buckets: Number of buckets of each split of a part.
    """
    # Workers are processes; a thread for every core in each of them would oversubscribe the cores.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    partition, drops = partition_drops
    rules = _read_drops(drops, passed_file(settings, partition.number))
    tokeniser = _PartitionTokeniser(partition, settings, num_buckets)
    for index, (document, digest) in enumerate(_read_again(partition, settings)):
        tokeniser.add(document, digest, _RULES[rules[index]])
    return tokeniser.finish()
