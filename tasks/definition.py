"""Functions that register tasks, the same for every corpus."""

from __future__ import annotations

import seqio

from codegen_pax.data.format import rows
from codegen_pax.data.seqio_sources import PreparedCorpus
from codegen_pax.text.vocabulary import vocabulary


def text_task(name: str, source: seqio.DataSource, vocabulary_name: str) -> seqio.Task:
    """Register documents, joined by the end-of-text token and cut into rows: `targets` [T]."""
    return seqio.TaskRegistry.add(
        name,
        source=source,
        preprocessors=[rows.tokenize_documents, rows.concatenate],
        output_features={
            "targets": seqio.Feature(vocabulary(vocabulary_name), add_eos=True),
        },
    )


def pair_task(name: str, source: seqio.DataSource, vocabulary_name: str) -> seqio.Task:
    """Register pairs, one a row: a prompt `inputs` [p] and its answer `targets` [n]."""
    return seqio.TaskRegistry.add(
        name,
        source=source,
        preprocessors=[rows.tokenize_documents, rows.drop_longer],
        output_features={
            "inputs": seqio.Feature(vocabulary(vocabulary_name), add_eos=False),
            "targets": seqio.Feature(vocabulary(vocabulary_name), add_eos=True),
        },
    )


def rows_task(name: str, source: PreparedCorpus) -> seqio.Task:
    """Register the rows of a prepared corpus, which are already shuffled: `targets` [T]."""
    return seqio.TaskRegistry.add(
        name,
        source=source,
        preprocessors=[seqio.CacheDatasetPlaceholder(), rows.check_length],
        output_features={"targets": seqio.Feature(vocabulary(source.vocabulary), add_eos=True)},
    )


def conversation_task(name: str, source: PreparedCorpus) -> seqio.Task:
    """Register prepared conversations, one a row: `targets` [n] and `answers` [T]."""
    return seqio.TaskRegistry.add(
        name,
        source=source,
        preprocessors=[seqio.CacheDatasetPlaceholder(), rows.check_length],
        output_features={
            "targets": seqio.Feature(vocabulary(source.vocabulary), add_eos=True),
            "answers": seqio.Feature(seqio.PassThroughVocabulary(2), add_eos=False),
        },
    )


def prompt_task(name: str, source: seqio.DataSource, vocabulary_name: str) -> seqio.Task:
    """Register prompts to decode, `inputs` [p], each with a reference `targets` [n]."""
    return seqio.TaskRegistry.add(
        name,
        source=source,
        preprocessors=[rows.tokenize_documents],
        output_features={
            "inputs": seqio.Feature(vocabulary(vocabulary_name), add_eos=False),
            "targets": seqio.Feature(vocabulary(vocabulary_name), add_eos=False),
        },
    )
