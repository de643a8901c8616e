"""The second look at each document: the rules that need the others, and its tokens."""

from __future__ import annotations

import collections
import dataclasses
import functools
import hashlib
import os
import struct
from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import pyarrow as pa
from etils import epath

from codegen_pax.data.format import counts as account
from codegen_pax.data.format.documents import Document, Dropped, Turn
from codegen_pax.data.prepare import held_out, work
from codegen_pax.data.prepare.blocks import PIECES, Block
from codegen_pax.data.prepare.duplicates import EXACT, NEAR
from codegen_pax.data.prepare.examine import KEPT, content, kept_file, told
from codegen_pax.data.prepare.settings import Settings
from codegen_pax.data.rules import decontamination, languages, redaction
from codegen_pax.data.sources import reading, storage
from codegen_pax.data.sources.errors import ChangedInputError
from codegen_pax.data.sources.partitions import Partition
from codegen_pax.text import instruction_format, tokenizer

LONGER_THAN_ROW = "longer_than_row"

# Held at once: a batch for the tokenizer, and a run of tokens that is written together. Of very
# short documents it is not their text that takes the memory.
BATCH_BYTES, BATCH_DOCUMENTS = 1 << 20, 1 << 12
RUN_TOKENS, RUN_DOCUMENTS = 1 << 24, 1 << 16
_KEPT_RECORDS = 1 << 14  # of KEPT, read at once

_RULES = (None, NEAR, EXACT)  # an exact duplicate is not a near one too

Bucket = tuple[str, str, int]  # part, 'train' or 'validation', number


@dataclasses.dataclass(frozen=True)
class Tokenised:
    """What came of a partition.

    Attributes:
      counts: of what was dropped and kept since `examine`.
      segments: (bucket, (file, where it begins, its `Block.dump` sizes)).
      redacted: kind of what was replaced -> how often.
      totals: part -> what of it was kept.
      defects: of documents that a rule failed on, what went wrong, a line each.
    """

    counts: account.Counts
    segments: list[tuple[Bucket, tuple[str, int, tuple[int, int, int]]]]
    redacted: dict[str, int]
    totals: dict[str, held_out.Totals]
    defects: list[str]


@dataclasses.dataclass
class _Ready:
    """A document that is to be tokenised: its segments of text, each perhaps an answer."""

    document: Document
    size: int
    digest: bytes
    segments: list[tuple[str, bool]]


@functools.lru_cache(maxsize=1)
def _problems(paths: tuple[str, ...], redacted: bool) -> decontamination.Problems:
    return decontamination.load(paths, redacted)


class _Run:
    """Token documents of one partition that wait to be written together."""

    def __init__(self, settings: Settings, partition: int, buckets: Mapping[tuple[str, str], int]):
        self._settings, self._partition, self._buckets = settings, partition, buckets
        self._number = 0
        self._waiting: dict[Bucket, list] = {}
        self._tokens = self._documents = 0
        self.segments: list = []
        self.totals: dict[str, held_out.Totals] = {}

    def add(self, ready: _Ready, tokens: np.ndarray, answers: np.ndarray) -> None:
        settings, document = self._settings, ready.document
        part, split = settings.part(document), settings.split(document, ready.digest)
        held_out.add(self.totals, settings, document, ready.digest, len(tokens))
        key = settings.order(ready.digest)
        # Buckets are ranges of keys: ordered one after another they are ordered as a whole.
        bucket = int.from_bytes(key[:8], "big") * self._buckets[part, split] >> 64
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
            ready.digest.hex(),
        )
        self._waiting.setdefault((part, split, bucket), []).append((tokens, answers, piece))
        self._tokens += len(tokens)
        self._documents += 1
        if self._tokens >= RUN_TOKENS or self._documents >= RUN_DOCUMENTS:
            self.flush()

    def flush(self) -> None:
        if not self._waiting:
            return
        path = self._settings.work / "runs" / f"{self._partition:06d}-{self._number:04d}"
        start = 0
        with work.whole(path) as file:
            for bucket, waiting in sorted(self._waiting.items()):
                tokens, answers, pieces = zip(*waiting, strict=True)
                columns = [
                    pa.array(values, field.type)
                    for values, field in zip(zip(*pieces, strict=True), PIECES, strict=True)
                ]
                table = pa.Table.from_arrays(columns, schema=PIECES)
                block = Block(np.concatenate(tokens), np.concatenate(answers), table)
                data, sizes = block.dump()
                file.write(data)
                self.segments.append((bucket, (str(path), start, sizes)))
                start += len(data)
        self._number += 1
        self._tokens = self._documents = 0
        self._waiting.clear()


def _drops(files: Iterable[tuple[str, str]], kept: epath.Path) -> np.ndarray:
    """For each record of KEPT which of `_RULES` drops it: uint8 [records]."""
    drops = np.zeros(kept.stat().length // KEPT.itemsize, np.uint8)
    for rule, path in files:
        places = np.frombuffer(epath.Path(path).read_bytes(), "<i4")
        drops[places] = np.maximum(drops[places], _RULES.index(rule))
    return drops


def _kept(path: epath.Path) -> Iterator[tuple[int, bytes]]:
    """(number, digest) of the records of KEPT."""
    with path.open("rb") as file:
        while data := file.read(_KEPT_RECORDS * KEPT.itemsize):
            yield from struct.iter_unpack("<q32s", data)


def _again(partition: Partition, settings: Settings) -> Iterator[tuple[int, Document, bytes]]:
    """(place, document, digest) of those that passed the first look.

    Raises ChangedInputError if one of them is not what it was then.
    """
    progress = work.Progress(settings.work, "tokenise", partition)
    documents = work.named(reading.documents(partition), partition)
    for place, (wanted, digest) in enumerate(_kept(kept_file(settings, partition.number))):
        for number, found in documents:
            progress.add(found.size)
            if number == wanted:
                break
        else:
            raise ChangedInputError(partition.source, "it holds fewer records")
        if isinstance(found, Dropped) or hashlib.sha256(content(found)).digest() != digest:
            raise ChangedInputError(
                storage.unescape_path(found.source),
                f"{partition.describe_record(found.record)} is another",
            )
        yield place, told(found, settings), digest
    progress.finish()


def _redacted(document: Document, counter: collections.Counter[str]) -> Document:
    """The document without its secrets, which are counted; `redaction.TooManySecretsError`."""
    found: collections.Counter[str] = collections.Counter()

    def clean(text: str) -> str:
        text, counts = redaction.redact(text)
        found.update(counts)
        return text

    turns = tuple(Turn(turn.role, clean(turn.content)) for turn in document.turns)
    redacted = dataclasses.replace(document, text=clean(document.text), turns=turns)
    counter.update(found)
    return redacted


def _contaminated(document: Document, settings: Settings) -> bool:
    problems = _problems(settings.problems, settings.redact)
    texts = [turn.content for turn in document.turns] or [document.text]
    return any(problems.match(text) for text in texts)


def _segments(document: Document, settings: Settings) -> list[tuple[str, bool]]:
    if document.turns:
        return instruction_format.conversation([(turn.role, turn.content) for turn in document.turns])
    prefix = languages.prefix(document.language) if settings.prefix else ""
    return [(prefix + document.text, False)]


def _encode(
    batch: list[_Ready], settings: Settings
) -> Iterator[tuple[_Ready, np.ndarray, np.ndarray]]:
    """(document, ids uint16 [n], answers uint8 [n], or [0] if it is no conversation)."""
    words = tokenizer.load(settings.kind.vocabulary, literal=True)
    texts = [text for ready in batch for text, _ in ready.segments]
    encoded = iter(words.encode_batch_fast(texts, add_special_tokens=False))
    for ready in batch:
        ids: list[int] = []
        answers: list[int] = []
        for _, is_answer in ready.segments:
            segment = next(encoded).ids
            if is_answer or not settings.kind.answers:
                segment = [*segment, tokenizer.END_OF_TEXT_ID]
            ids += segment
            if settings.kind.answers:
                answers += [int(is_answer)] * len(segment)
        yield ready, np.array(ids, np.uint16), np.array(answers, np.uint8)


def source(keyed: tuple[int, Mapping[str, Iterable]]) -> str:
    """The input of a partition that is to be tokenised."""
    (partition,) = keyed[1]["partition"]
    return storage.escape_path(partition.source)


def tokenise(
    keyed: tuple[int, Mapping[str, Iterable]],
    settings: Settings,
    buckets: Mapping[tuple[str, str], int],
) -> Tokenised:
    """Tokenises a partition into runs of documents.

    Args:
      keyed: (partition number, {'partition': [it], 'drops': (rule, file of places to drop)...}).
      settings: of the corpus.
      buckets: (part, 'train' or 'validation') -> how many buckets it is shuffled in.
    """
    # Workers are processes: each of them starting a thread for every core would only be in the way.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    (partition,) = keyed[1]["partition"]
    drops = _drops(keyed[1]["drops"], kept_file(settings, partition.number))
    counts: account.Counts = {}
    redacted: collections.Counter[str] = collections.Counter()
    defects: list[str] = []
    run = _Run(settings, partition.number, buckets)

    def note(document: Document, size: int, guard: work.Guard) -> None:
        account.add_document(counts, document, guard.rule, size)
        if len(defects) < work.MOST_DEFECTS:
            defects.append(work.of_record(document, guard.why, partition))

    def write(batch: list[_Ready]) -> None:
        with work.Guard() as guard:
            encoded = [*_encode(batch, settings)]
        if guard.rule and len(batch) == 1:
            note(batch[0].document, batch[0].size, guard)
            return
        if guard.rule:  # one of them
            for ready in batch:
                write([ready])
            return
        for ready, tokens, answers in encoded:
            rule = account.KEPT
            if settings.kind.answers and len(tokens) > settings.row_length:
                rule = LONGER_THAN_ROW
            else:
                run.add(ready, tokens, answers)
            account.add_document(counts, ready.document, rule, ready.size, len(tokens))

    batch: list[_Ready] = []
    waiting = 0
    for place, document, digest in _again(partition, settings):
        size = document.size
        rule = _RULES[drops[place]]
        with work.Guard() as guard:
            if rule is None and settings.redact:
                try:
                    document = _redacted(document, redacted)
                except redaction.TooManySecretsError:
                    rule = redaction.RULE
            if rule is None and _contaminated(document, settings):
                rule = decontamination.RULE
            segments = [] if rule else _segments(document, settings)
        if guard.rule:
            note(document, size, guard)
            continue
        if rule:
            account.add_document(counts, document, rule, size)
            continue
        batch.append(_Ready(document, size, digest, segments))
        waiting += size
        if waiting >= BATCH_BYTES or len(batch) >= BATCH_DOCUMENTS:
            write(batch)
            batch, waiting = [], 0
    write(batch)
    run.flush()
    totals = held_out.merged([run.totals], settings)
    return Tokenised(counts, run.segments, dict(redacted), totals, defects)
