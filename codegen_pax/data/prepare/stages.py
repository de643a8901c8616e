"""The steps of the pipeline, and what is planned between them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from codegen_pax.data.prepare import (
    corpus_checks,
    duplicates,
    examine,
    inputs,
    near,
    order,
    shuffle,
    steps,
    tokenise,
)
from codegen_pax.data.prepare.chunks import Batch, Chunk, group
from codegen_pax.data.prepare.duplicates import HashGroup
from codegen_pax.data.prepare.examine import Examined
from codegen_pax.data.prepare.settings import BucketCounts, Settings
from codegen_pax.data.prepare.steps import Step
from codegen_pax.data.sources.partitions import Partition
from codegen_pax.data.sources.storage import File


@dataclasses.dataclass(frozen=True)
class Survey:
    """What the reading of all partitions found, and the plan of what follows.

    Attributes:
        report: the merged reports.
        faulty: source -> description, of inputs that are damaged or mostly unreadable.
        inputs: entries in the manifest of inputs that were hashed as they were read.
        num_buckets: number of buckets of each split of a part.
        chunks: all chunks, in order.
        batches: the chunks, grouped to be tokenised.
        digest_groups: the chunks, grouped to sort their digests.
        band_groups: the chunks, grouped to sort their bands, if near duplicates are dropped.
    """

    report: steps.Report
    faulty: dict[str, str]
    inputs: list[dict[str, Any]]
    num_buckets: BucketCounts
    chunks: list[Chunk]
    batches: list[Batch]
    digest_groups: list[HashGroup]
    band_groups: list[HashGroup]


def survey(examined: Examined, settings: Settings) -> Survey:
    """Decide from the reading of all partitions how documents are compared and shuffled.

    Raises:
        InvalidValueError: The inputs cannot be read, see `corpus_checks.faulty_inputs`.
    """
    report, chunks = examined.report, examined.chunks
    faulty = corpus_checks.faulty_inputs(report.damaged, settings.corpus, report.records)
    num_buckets = {key: settings.num_buckets(size) for key, size in report.sizes.items()}
    num_chunks = settings.chunks_in_batch(sum(report.sizes.values()), num_buckets)
    batches = group(chunks, num_chunks * settings.bucket_bytes, "size")
    return Survey(
        report=report,
        faulty=faulty,
        inputs=inputs.describe_hashed(examined.hashes),
        num_buckets=num_buckets,
        chunks=chunks,
        batches=[Batch(number, one) for number, one in enumerate(batches)],
        digest_groups=duplicates.hash_groups(chunks, False, settings),
        band_groups=(
            duplicates.hash_groups(chunks, True, settings) if settings.near_duplicates else []
        ),
    )


def to_describe(files: Sequence[File], partitions: Sequence[Partition]) -> list[File]:
    """Return the inputs that are not hashed as they are read."""
    hashed = {partition.source for partition in partitions if partition.is_hashed}
    return [file for file in files if file.path not in hashed]


EXAMINE = Step(examine.examine, examine.describe)
DESCRIBE_INPUT = Step(inputs.describe_input, inputs.describe)
SURVEY = Step(survey, lambda _: "the reports of all partitions")
SORT_HASHES = Step(duplicates.sort_hashes, duplicates.describe_group)
FIND_EXACT = Step(duplicates.find_exact, duplicates.describe)
SIGN = Step(near.sign, near.describe_chunk)
FIND_SHARED = Step(near.find_shared, near.describe_range)
GATHER_SIGNATURES = Step(near.gather_signatures, near.describe_wanted)
FIND_PAIRS = Step(near.find_pairs, near.describe_shared)
FIND_NEAR = Step(near.find_near, lambda _: "the pairs of near duplicates")
SORT_DROPS = Step(duplicates.sort_drops, duplicates.describe_region)
TOKENISE = Step(tokenise.tokenise, tokenise.describe)
DIVIDE = Step(shuffle.divide, shuffle.describe_division)
WRITE_BUCKET = Step(order.write_bucket, order.describe_bucket)
FINISH_SPLIT = Step(order.finish_split, order.describe_split)
