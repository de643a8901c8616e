"""Small prepared corpora: made by the pipeline, or written without it."""

import hashlib

import numpy as np
from etils import epath

from codegen_pax.data.format.manifest import Manifest, Shard
from codegen_pax.data.format.tfrecords import RowFormat
from codegen_pax.data.prepare import examine, output, pipeline, stages
from codegen_pax.data.sources import discovery, partitions
from codegen_pax.text import tokenizer


def find(settings, *inputs, at_most=partitions.PARTITION_BYTES, left_out=None):
    """Return the inputs of a corpus and their partitions of `at_most` bytes."""
    files = discovery.find(settings.corpus, [str(path) for path in inputs], left_out)
    return files, partitions.plan(settings.corpus, files, at_most)


def prepare_corpus(settings, *inputs, left_out=None, **options):
    """Prepare a corpus from inputs in this process; return its manifest."""
    files, pieces = find(settings, *inputs, left_out=left_out, **options)
    output.begin(settings)
    pipeline.run(settings, files, pieces)
    return output.finish(settings, left_out)


def survey_corpus(settings, *inputs, **options):
    """Begin a corpus and read its inputs in this process; return the plan of what follows."""
    _, pieces = find(settings, *inputs, **options)
    output.begin(settings)
    return stages.survey(examine.merge(examine.examine(one, settings) for one in pieces), settings)


def write_corpus(
    folder, parts, *, row_length=16, vocabulary="codegen", answers=False, seed=0, shards=2
):
    """Write a corpus of random rows, of which every eighth token ends a text, and its manifest.

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
    shards_by_part, records_by_part = {}, {}
    for part, splits in parts.items():
        (folder / part).mkdir(parents=True, exist_ok=True)
        for split, count in splits.items():
            tokens = random.integers(0, 50_257, (count, row_length))
            tokens[random.random(tokens.shape) < 1 / 8] = tokenizer.end_of_text_id("codegen")
            columns = (tokens,)
            if answers:
                lengths = random.integers(2, row_length + 1, count)
                is_token = np.arange(row_length) < lengths[:, None]
                answer = random.integers(0, 2, tokens.shape) * is_token
                columns = (tokens * is_token, answer, lengths)
            records = row_format.encode(*columns)
            records_by_part.setdefault(part, {})[split] = records
            for number, rows in enumerate(np.array_split(records, shards)):
                name = f"{split}-{number:05d}-of-{shards:05d}.tfrecord"
                name = f"{part}/{name}" if part else name
                (folder / name).write_bytes(rows.tobytes())
                digest = hashlib.sha256(rows.tobytes()).hexdigest()
                shards_by_part.setdefault(part, {}).setdefault(split, []).append(
                    Shard(name, len(rows), digest)
                )
    tupled = {
        part: {split: tuple(shards) for split, shards in splits.items()}
        for part, splits in shards_by_part.items()
    }
    Manifest(folder.name, vocabulary, row_length, answers, tupled).save(folder)
    return records_by_part
