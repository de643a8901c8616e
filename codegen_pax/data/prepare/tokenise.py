"""Batches of documents that passed: rules that need the other documents, and tokenisation."""

from __future__ import annotations

import collections
import dataclasses
import functools
import itertools
import os
from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa

from codegen_pax.data.format import manifest
from codegen_pax.data.format.documents import Document, Turn
from codegen_pax.data.prepare import duplicates, held_out, steps
from codegen_pax.data.prepare.blocks import PIECES, Block
from codegen_pax.data.prepare.chunks import Batch
from codegen_pax.data.prepare.settings import BucketCounts, Settings
from codegen_pax.data.prepare.shuffle import Bucket, RunWriter, coarse_bucket
from codegen_pax.data.prepare.work_files import Segment
from codegen_pax.data.rules import decontamination, languages, redaction
from codegen_pax.data.sources import storage
from codegen_pax.text import instruction_format, tokenizer

LONGER_THAN_ROW = "longer_than_row"

# Limits of what is held in memory: text for the tokeniser, and pieces until they are a block. The
# number of documents is limited as well as their size, since very short documents take more memory
# than their text.
BATCH_BYTES, BATCH_DOCUMENTS = 1 << 20, 1 << 12
PIECES_AT_ONCE, TOKENS_AT_ONCE = 1 << 14, 1 << 22


@dataclasses.dataclass(frozen=True)
class Tokenised:
    """The result of a batch.

    Attributes:
        report: what was dropped and kept since the first reading.
        segments: (bucket or coarse bucket, its documents).
        totals: part -> what of it was kept.
    """

    report: steps.Report
    segments: list[tuple[Bucket, Segment]]
    totals: dict[str, held_out.PartTotals]


@dataclasses.dataclass(frozen=True)
class _Candidate:
    """A document that waits to be tokenised.

    Attributes:
        document: the document, redacted.
        size: bytes before it was redacted.
        digest: SHA-256 of its content before it was redacted.
        place: `Partition.place_format`.
        texts: (text, whether it is an answer) of each text to tokenise, in order.
    """

    document: Document
    size: int
    digest: bytes
    place: str
    texts: list[tuple[str, bool]]


@functools.lru_cache(maxsize=1)
def _problems(paths: tuple[str, ...], redacted: bool) -> decontamination.Problems:
    return decontamination.load(paths, redacted)


class _DocumentWriter:
    """Writes the tokenised documents of a batch as a run.

    Attributes:
        totals: part -> what of it was kept.
    """

    def __init__(self, settings: Settings, batch: int, num_buckets: BucketCounts):
        self._settings, self._num_buckets = settings, num_buckets
        self._run = RunWriter(settings, f"tokenised/{batch:06d}")
        self._waiting: dict[Bucket, list[tuple[np.ndarray, np.ndarray, tuple]]] = {}
        self._num_waiting = self._num_tokens = 0
        self.totals: dict[str, held_out.PartTotals] = {}

    def add(self, candidate: _Candidate, tokens: np.ndarray, answers: np.ndarray) -> None:
        settings, document = self._settings, candidate.document
        part, split = settings.part(document), settings.split(document, candidate.digest)
        held_out.add_document(self.totals, settings, document, candidate.digest, len(tokens))
        key = settings.order_key(candidate.digest)
        number = int.from_bytes(key[:8], "big") * self._num_buckets[part, split] >> 64
        bucket = coarse_bucket(part, split, number, self._num_buckets)
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
        self._waiting.setdefault(bucket, []).append((tokens, answers, piece))
        self._num_waiting += 1
        self._num_tokens += len(tokens)
        if self._num_waiting >= PIECES_AT_ONCE or self._num_tokens >= TOKENS_AT_ONCE:
            self._flush()

    def _flush(self) -> None:
        for bucket, waiting in self._waiting.items():
            tokens, answers, pieces = zip(*waiting, strict=True)
            columns = [
                pa.array(values, field.type)
                for values, field in zip(zip(*pieces, strict=True), PIECES, strict=True)
            ]
            table = pa.Table.from_arrays(columns, schema=PIECES)
            self._run.add(bucket, Block(np.concatenate(tokens), np.concatenate(answers), table))
        self._waiting, self._num_waiting, self._num_tokens = {}, 0, 0

    def finish(self) -> list[tuple[Bucket, Segment]]:
        """Write the run; return (bucket or coarse bucket, its segment)."""
        self._flush()
        return self._run.finish()


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


class _BatchTokeniser:
    """Applies the remaining rules to the documents of a batch, and tokenises those kept."""

    def __init__(self, number: int, settings: Settings, num_buckets: BucketCounts):
        self._settings = settings
        self._report = steps.Report()
        self._writer = _DocumentWriter(settings, number, num_buckets)
        self._batch: list[_Candidate] = []
        self._batch_bytes = 0

    def add(self, document: Document, digest: bytes, rule: str | None, place: str) -> None:
        """Add a document; `rule` is the duplicate rule that drops it, or None."""
        size = document.size
        texts: list[tuple[str, bool]] = []
        with steps.DefectGuard() as guard:
            if rule is None:
                document, rule = self._apply_rules(document)
            texts = [] if rule else _texts(document, self._settings)
        candidate = _Candidate(document, size, digest, place, texts)
        if rule := guard.rule or rule:
            self._drop(candidate, rule, guard.defect)
            return
        self._batch.append(candidate)
        self._batch_bytes += size
        if self._batch_bytes >= BATCH_BYTES or len(self._batch) >= BATCH_DOCUMENTS:
            self._flush()

    def finish(self) -> Tokenised:
        """Write all pending documents, and return the result."""
        self._flush()
        return Tokenised(self._report, self._writer.finish(), self._writer.totals)

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

    def _drop(self, candidate: _Candidate, rule: str, defect: str) -> None:
        document = candidate.document
        manifest.count_document(self._report.counts, document, rule, candidate.size)
        if defect:
            self._report.add_defect(document, defect, candidate.place)

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
                self._drop(candidate, guard.rule, guard.defect)
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


def describe(batch_drops: tuple[Batch, Iterable[Segment]]) -> str:
    """Describe a batch."""
    sources = dict.fromkeys(storage.escape_path(one.source) for one in batch_drops[0].chunks)
    return " or ".join(itertools.islice(sources, steps.MAX_SOURCES))


def tokenise(
    batch_drops: tuple[Batch, Iterable[Segment]], settings: Settings, num_buckets: BucketCounts
) -> Tokenised:
    """Tokenise the documents of a batch and write them by bucket.

    Args:
        batch_drops: (batch, segments that say which of its documents are duplicates).
        settings: Settings of the corpus.
        num_buckets: Number of buckets of each split of a part.
    """
    # Workers are processes; a thread for every core in each of them would oversubscribe the cores.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    batch, segments = batch_drops
    drops = duplicates.load_drops(segments, settings)
    sources = dict.fromkeys(chunk.source for chunk in batch.chunks)
    progress = steps.Progress(settings, "tokenise", batch.number, batch.share, sources)
    tokeniser = _BatchTokeniser(batch.number, settings, num_buckets)
    for chunk in batch.chunks:
        rules = duplicates.rules_of(chunk, drops)
        for rule, (document, digest) in zip(rules, chunk.read(settings), strict=True):
            tokeniser.add(document, digest, duplicates.RULES[rule], chunk.place)
            progress.add(document.size)
    progress.finish()
    return tokeniser.finish()
