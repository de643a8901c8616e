"""BigQuery: permissively licensed code of GitHub by language, the corpus of the Multi phase.

`codegen_bigquery` is this project's six languages, `codegen_bigquery_paper` the paper's. A language
is mixed in proportion to its tokens.
"""

from __future__ import annotations

from collections.abc import Mapping

import seqio

from codegen_pax.corpus.sources import PreparedCorpus
from tasks.definition import text_task

# Billions of tokens (paper, unverified split: 119.2 in all).
PAPER_TOKENS = {
    "c": 19.7,
    "cpp": 25.5,
    "go": 9.6,
    "java": 35.4,
    "javascript": 9.7,
    "python": 19.3,
}
# Rust takes C's place and, for want of a published count, its share.
TOKENS = {name: count for name, count in PAPER_TOKENS.items() if name != "c"} | {
    "rust": PAPER_TOKENS["c"]
}


def language_task(language: str) -> seqio.Task:
    """The task `codegen_bigquery_<language>`, registered by the first call."""
    name = f"codegen_bigquery_{language}"
    if name in seqio.TaskRegistry.names():
        return seqio.TaskRegistry.get(name)
    corpus = PreparedCorpus(
        f"bigquery/{language}",
        f"shards prepared from the {language} files of the public BigQuery set of GitHub",
    )
    return text_task(name, corpus, "codegen")


def mixture(name: str, tokens: Mapping[str, float]) -> seqio.Mixture:
    """The mixture `name` of languages in proportion to their tokens, registered by the first call.

    Args:
      name: what it is called in seqio.
      tokens: how many tokens of each language; only their ratios count.

    Raises ValueError if `name` is registered with other languages or ratios.
    """
    rates = {language_task(language).name: float(count) for language, count in tokens.items()}
    if name not in seqio.MixtureRegistry.names():
        return seqio.MixtureRegistry.add(name, list(rates.items()))
    registered = seqio.MixtureRegistry.get(name)
    if dict(registered.rate_per_task_name) != rates:
        raise ValueError(
            f"mixture {name} is registered as {dict(registered.rate_per_task_name)}; wanted {rates}"
        )
    return registered


mixture("codegen_bigquery", TOKENS)
mixture("codegen_bigquery_paper", PAPER_TOKENS)
