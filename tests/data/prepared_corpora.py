"""Small prepared corpora, of random rows or made by the pipeline in this process."""

import hashlib
import json

import numpy as np
from etils import epath

from codegen_pax.data.format.manifest import Manifest, Shard
from codegen_pax.data.format.tfrecords import RowFormat
from codegen_pax.text import tokenizer


def write_corpus(
    folder, parts, *, row_length=16, vocabulary="codegen", answers=False, seed=0, shards=2
):
    """Writes a corpus of random rows, of which every eighth token ends a text, and its manifest.

    Args:
        folder: The folder to create.
        parts: part -> {split: number of rows}.
        row_length: T.
        vocabulary: The name in the manifest.
        answers: Whether to write conversations.
        seed: Of the rows.
        shards: The number of shards of each split.

    Returns:
        part -> split -> records [rows].
    """
    folder = epath.Path(folder)
    random = np.random.default_rng(seed)
    row_format = RowFormat(row_length, answers)
    listed, found = {}, {}
    for part, splits in parts.items():
        (folder / part).mkdir(parents=True, exist_ok=True)
        for split, count in splits.items():
            tokens = random.integers(0, 50_257, (count, row_length))
            tokens[random.random(tokens.shape) < 1 / 8] = tokenizer.END_OF_TEXT_ID
            columns = (tokens,)
            if answers:
                lengths = random.integers(2, row_length + 1, count)
                real = np.arange(row_length) < lengths[:, None]
                answer = random.integers(0, 2, tokens.shape) * real
                columns = (tokens * real, answer, lengths)
            records = row_format.encode(*columns)
            found.setdefault(part, {})[split] = records
            for number, rows in enumerate(np.array_split(records, shards)):
                name = f"{split}-{number:05d}-of-{shards:05d}.tfrecord"
                name = f"{part}/{name}" if part else name
                (folder / name).write_bytes(rows.tobytes())
                digest = hashlib.sha256(rows.tobytes()).hexdigest()
                listed.setdefault(part, {}).setdefault(split, []).append(
                    Shard(name, len(rows), digest)
                )
    tupled = {
        part: {split: tuple(shards) for split, shards in splits.items()}
        for part, splits in listed.items()
    }
    Manifest(folder.name, vocabulary, row_length, answers, tupled).save(folder)
    return found


def prepare_corpus(folder, kind, records, **settings):
    """Prepares a corpus in this process, as `codegen-pax prepare` does, and returns its manifest.

    Args:
        folder: The folder of the corpus; the raw file is written next to it.
        kind: What `codegen-pax prepare` calls the corpus.
        records: The records of the raw file.
        **settings: Those of `Settings`.
    """
    # The pipeline takes seconds to import, and most tests need random rows alone.
    from codegen_pax.data.prepare import local, pipeline
    from codegen_pax.data.prepare.settings import Settings
    from codegen_pax.data.sources import discovery, partitions

    raw = folder.parent / f"{folder.name}.jsonl"
    raw.parent.mkdir(parents=True, exist_ok=True)
    raw.write_text("".join(json.dumps(record) + "\n" for record in records))
    chosen = Settings(kind, str(folder), **settings)
    found = discovery.find(kind, [str(raw)])
    pipeline.begin(chosen)
    local.run_here(chosen, found, partitions.split(kind, found))
    return pipeline.finish(chosen)
