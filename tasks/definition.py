"""How a task is put together, the same for every corpus."""

from __future__ import annotations

import seqio

from codegen_pax.data.format import rows
from codegen_pax.data.prepared import PreparedCorpus
from codegen_pax.text.vocabulary import vocabulary


def text_task(name: str, source: seqio.DataSource, vocabulary_name: str) -> seqio.Task:
    """Registers `name`: documents, joined with the end of text and cut into rows `targets` [T]."""
    return seqio.TaskRegistry.add(
        name,
        source=source,
        preprocessors=[rows.tokenize_documents, rows.concatenate],
        output_features={
            "targets": seqio.Feature(vocabulary(vocabulary_name), add_eos=True),
        },
    )


def pair_task(name: str, source: seqio.DataSource, vocabulary_name: str) -> seqio.Task:
    """Registers `name`: a prompt `inputs` [p] and its answer `targets` [n], an example each."""
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
    """Registers `name`: the rows of a prepared corpus, `targets` [T]; they are in order already."""
    return seqio.TaskRegistry.add(
        name,
        source=source,
        preprocessors=[seqio.CacheDatasetPlaceholder(), rows.check_length],
        output_features={"targets": seqio.Feature(vocabulary(source.vocabulary), add_eos=True)},
    )


def conversation_task(name: str, source: PreparedCorpus) -> seqio.Task:
    """Registers `name`: prepared conversations, `targets` [n] and `answers` [T], one a row."""
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
    """Registers `name`: a prompt to decode, `inputs` [p], and a reference `targets` [n]."""
    return seqio.TaskRegistry.add(
        name,
        source=source,
        preprocessors=[rows.tokenize_documents],
        output_features={
            "inputs": seqio.Feature(vocabulary(vocabulary_name), add_eos=False),
            "targets": seqio.Feature(vocabulary(vocabulary_name), add_eos=False),
        },
    )
