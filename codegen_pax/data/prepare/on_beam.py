"""The pipeline of steps, run by a runner of Beam."""

from __future__ import annotations

import contextlib
import io
import traceback
from collections.abc import Sequence
from typing import Any

from codegen_pax.data.prepare import examine, held_out, output, shuffle, stages
from codegen_pax.data.prepare.duplicates import HashGroup
from codegen_pax.data.prepare.settings import Settings
from codegen_pax.data.prepare.steps import StepError
from codegen_pax.data.sources.partitions import Partition
from codegen_pax.data.sources.storage import File
from codegen_pax.errors import InvalidValueError
from codegen_pax.silent_imports import silenced


class RunnerError(InvalidValueError):
    """Beam has no such runner, or cannot read its options."""


def build(
    pipeline: Any, settings: Settings, inputs: Sequence[File], partitions: Sequence[Partition]
) -> None:
    """Put the steps of `processes.run_steps` into a `beam.Pipeline`."""
    import apache_beam as beam
    from apache_beam.pvalue import AsList, AsSingleton

    examined = (
        pipeline
        | "Partitions" >> beam.Create(list(partitions))
        | "SpreadPartitions" >> beam.Reshuffle()
        | "Examine" >> beam.Map(stages.EXAMINE.run, settings)
    )
    described = (
        pipeline
        | "Inputs" >> beam.Create(stages.to_describe(inputs, partitions))
        | "SpreadInputs" >> beam.Reshuffle()
        | "DescribeInput" >> beam.Map(stages.DESCRIBE_INPUT.run, settings.corpus)
    )
    surveyed = (
        examined
        | "AllExamined" >> beam.CombineGlobally(examine.merge)
        | "Survey" >> beam.Map(stages.SURVEY.run, settings)
    )
    num_buckets = AsSingleton(surveyed | "NumBuckets" >> beam.Map(lambda one: one.num_buckets))
    tokenised = (
        (
            surveyed
            | "Batches" >> beam.FlatMap(lambda one: [(each.number, each) for each in one.batches])
            | "SpreadBatches" >> beam.Reshuffle(),
            _find_duplicates(surveyed, settings),
        )
        | "WithDrops" >> beam.CoGroupByKey()
        | "BatchAndDrops" >> beam.Map(lambda keyed: (keyed[1][0][0], keyed[1][1]))
        | "Tokenise" >> beam.Map(stages.TOKENISE.run, settings, num_buckets)
    )
    extra = AsSingleton(
        tokenised
        | "Totals" >> beam.Map(lambda one: one.totals)
        | "AllTotals" >> beam.CombineGlobally(held_out.merge_totals, settings)
        | "ExtraKeyRanges" >> beam.Map(held_out.extra_key_ranges, settings)
    )
    splits = (
        _shuffle(tokenised, settings, num_buckets)
        | "ByBucket" >> beam.GroupByKey()
        | "WriteBucket" >> beam.FlatMap(stages.WRITE_BUCKET.run, settings, num_buckets, extra)
        | "BySplit" >> beam.GroupByKey()
        | "FinishSplit" >> beam.Map(stages.FINISH_SPLIT.run, settings, num_buckets, extra)
    )
    reports = tokenised | "TokeniseReport" >> beam.Map(lambda one: one.report)
    _ = surveyed | "WriteResult" >> beam.Map(
        lambda first, reports, splits, entries: output.write_result(
            settings, [first.report, *reports], first.faulty, splits, [*first.inputs, *entries]
        ),
        AsList(reports),
        AsList(splits),
        AsList(described),
    )


def _find_duplicates(surveyed: Any, settings: Settings) -> Any:
    """Return a collection of (number of a batch, segment of the documents that it drops)."""
    import apache_beam as beam
    from apache_beam.pvalue import AsSingleton

    batches = AsSingleton(surveyed | "AllBatches" >> beam.Map(lambda one: one.batches))
    dropped = [
        surveyed
        | "DigestGroups" >> beam.FlatMap(lambda one: one.digest_groups)
        | "SpreadDigestGroups" >> beam.Reshuffle()
        | "SortDigests" >> beam.FlatMap(stages.SORT_HASHES.run, settings)
        | "ByDigest" >> beam.GroupByKey()
        | "FindExact" >> beam.FlatMap(stages.FIND_EXACT.run, settings, batches)
    ]
    if settings.near_duplicates:
        dropped.append(
            _find_near_pairs(surveyed, settings)
            | "ToOneWorker" >> beam.Map(lambda segment: (None, segment))
            | "AllPairs" >> beam.GroupByKey()
            | "Pairs" >> beam.Values()
            | "FindNear" >> beam.FlatMap(stages.FIND_NEAR.run, settings, batches)
        )
    return (
        dropped
        | "Dropped" >> beam.Flatten()
        | "ByRegion" >> beam.GroupByKey()
        | "SortDrops" >> beam.FlatMap(stages.SORT_DROPS.run, settings, batches)
    )


def _find_near_pairs(surveyed: Any, settings: Settings) -> Any:
    """Return a collection of segments of pairs of near duplicates."""
    import apache_beam as beam
    from apache_beam.pvalue import AsSingleton

    groups = AsSingleton(surveyed | "AllBandGroups" >> beam.Map(lambda one: one.band_groups))
    signed = (
        surveyed
        | "Chunks"
        >> beam.FlatMap(
            lambda one: [
                ((each.number, each.ranges), chunk)
                for each in one.band_groups
                for chunk in each.chunks
            ]
        )
        | "SpreadChunks" >> beam.Reshuffle()
        | "Sign" >> beam.MapTuple(lambda group, chunk: (group, stages.SIGN.run(chunk, settings)))
        | "ByBandGroup" >> beam.GroupByKey()
        | "BandGroup"
        >> beam.MapTuple(
            lambda group, chunks: HashGroup(group[0], True, group[1], tuple(sorted(chunks)))
        )
    )
    shared = (
        signed
        | "SortBands" >> beam.FlatMap(stages.SORT_HASHES.run, settings)
        | "ByBand" >> beam.GroupByKey()
        | "FindShared" >> beam.Map(stages.FIND_SHARED.run, settings, groups)
    )
    gathered = (
        (
            signed | "GroupNumber" >> beam.Map(lambda group: (group.number, group)),
            shared
            | "Wanted"
            >> beam.FlatMap(
                lambda one: [(group, (one.number, segment)) for group, segment in one.wanted]
            ),
        )
        | "WithWanted" >> beam.CoGroupByKey()
        | "GroupAndWanted" >> beam.Map(lambda keyed: (keyed[1][0][0], keyed[1][1]))
        | "GatherSignatures" >> beam.FlatMap(stages.GATHER_SIGNATURES.run, settings)
    )
    return (
        (shared | "RangeNumber" >> beam.Map(lambda one: (one.number, one)), gathered)
        | "WithSignatures" >> beam.CoGroupByKey()
        | "SharedAndSignatures" >> beam.Map(lambda keyed: (keyed[1][0][0], keyed[1][1]))
        | "FindPairs" >> beam.Map(stages.FIND_PAIRS.run, settings)
    )


def _shuffle(tokenised: Any, settings: Settings, num_buckets: Any) -> Any:
    """Return a collection of (bucket, segment of its documents)."""
    import apache_beam as beam

    def is_coarse(keyed, num_buckets):
        return shuffle.is_coarse(keyed[0], num_buckets)

    segments = tokenised | "Segments" >> beam.FlatMap(lambda one: one.segments)
    divided = (
        segments
        | "Coarse" >> beam.Filter(is_coarse, num_buckets)
        | "ByCoarseBucket" >> beam.GroupByKey()
        | "Divisions" >> beam.FlatMap(shuffle.plan_divisions, settings)
        | "SpreadDivisions" >> beam.Reshuffle()
        | "Divide" >> beam.FlatMap(stages.DIVIDE.run, settings, num_buckets)
    )
    fine = segments | "Fine" >> beam.Filter(
        lambda keyed, num_buckets: not is_coarse(keyed, num_buckets), num_buckets
    )
    return (fine, divided) | "Shuffled" >> beam.Flatten()


def check_runner(runner: str, options: Sequence[str]) -> None:
    """Check that Beam knows a runner and can read the options that it knows.

    Raises:
        RunnerError: Beam does not know the runner, or cannot read an option.
    """
    with silenced():
        from apache_beam.options.pipeline_options import PipelineOptions
        from apache_beam.runners.runner import create_runner
    usage = io.StringIO()
    try:
        with contextlib.redirect_stderr(usage):
            create_runner(runner)
            PipelineOptions(list(options)).get_all_options()
    except SystemExit:  # argparse has printed why
        raise RunnerError(usage.getvalue().strip().rpartition("error: ")[2]) from None
    except (ValueError, ImportError, AttributeError) as error:
        raise RunnerError(f"--runner: {error}") from error


def run(
    settings: Settings,
    inputs: Sequence[File],
    partitions: Sequence[Partition],
    options: Sequence[str],
) -> None:
    """Run the pipeline by Beam.

    Raises:
        StepError: The pipeline failed.
    """
    with silenced():
        import apache_beam as beam
        from apache_beam.options.pipeline_options import PipelineOptions
    try:
        with beam.Pipeline(options=PipelineOptions(list(options))) as pipeline:
            build(pipeline, settings, inputs, partitions)
    except Exception as error:
        raise StepError(_beam_message(error), is_defect=True) from error


def _beam_message(error: Exception) -> str:
    """Describe an error of Beam in one line; a runner reports the error of a step as text."""
    lines = "".join(traceback.format_exception_only(error)).strip().splitlines()
    name = f"{StepError.__name__}: "
    messages = [line.partition(name)[2] for line in lines if name in line]
    if messages:
        return messages[-1]
    return lines[-1] if "Traceback (most recent call last):" in lines else " ".join(lines)
