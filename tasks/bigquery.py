"""BigQuery: permissively licensed code of GitHub by language, the corpus of the Multi phase.

`codegen_bigquery` is this project's six languages, in proportion to the tokens that are prepared of
each; `codegen_bigquery_paper` is the paper's six, in the paper's proportion.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import seqio

from codegen_pax.data.prepared import MixtureByRates, MixtureByTokens, PreparedCorpus
from codegen_pax.data.rules import languages
from codegen_pax.errors import InvalidValueError
from tasks.definition import rows_task

# Billions of tokens (paper, unverified split: 119.2 in all).
PAPER_TOKENS = {
    "c": 19.7,
    "cpp": 25.5,
    "go": 9.6,
    "java": 35.4,
    "javascript": 9.7,
    "python": 19.3,
}
LANGUAGES = ("python", "java", "javascript", "go", "cpp", "rust")  # Rust in C's place


def language_task(
    language: str,
    corpus: str = "bigquery",
    kind: str = "bigquery",
    raw: str = "the public BigQuery set of GitHub",
) -> seqio.Task:
    """The task `codegen_<corpus>_<language>`, registered by the first call.

    Args:
      language: the part of the corpus that it reads.
      corpus, kind: see `PreparedCorpus`.
      raw: what the corpus is prepared from, for the error.

    Raises ValueError for a language that is not in `languages.LANGUAGES`, or if there is a task of
      this name over another source.
    """
    language = languages.resolve(language)
    name = f"codegen_{corpus}_{language}"
    if name in seqio.TaskRegistry.names():
        found = seqio.TaskRegistry.get(name)
        if getattr(found.source, "kind", None) != kind:
            raise InvalidValueError(
                f"task {name} is there already; wanted another name than {corpus}"
            )
        return found
    source = PreparedCorpus(
        corpus,
        part=language,
        kind=kind,
        raw=f"the {language} files of {raw}",
    )
    return rows_task(name, source)


def mixture(
    name: str,
    shares: Sequence[str] | Mapping[str, float],
    task: Callable[[str], seqio.Task] = language_task,
) -> seqio.Mixture:
    """The mixture `name` of languages, registered by the first call.

    Args:
      name: what it is called in seqio.
      shares: languages, in any spelling that `languages.check` knows, to be mixed in proportion to
        the tokens that are prepared of each; or the rate of each, of which only the ratios count.
      task: gives the task of a language.

    Raises ValueError for an unknown language, for one that is named twice, or if `name` is
      registered with other languages or rates.
    """
    tasks = {language: task(language).name for language in shares}
    if len(set(tasks.values())) < len(tasks):
        raise InvalidValueError(f"mixture {name} names a language twice: {', '.join(tasks)}")
    fixed = isinstance(shares, Mapping)
    wanted = {tasks[language]: float(shares[language]) if fixed else 1.0 for language in shares}
    if name not in seqio.MixtureRegistry.names():
        if fixed:
            return seqio.MixtureRegistry.add(name, list(wanted.items()), mixture_cls=MixtureByRates)
        return seqio.MixtureRegistry.add(name, list(wanted), mixture_cls=MixtureByTokens)
    registered = seqio.MixtureRegistry.get(name)
    found = dict(registered.rate_per_task_name)
    if found != wanted or isinstance(registered, MixtureByTokens) == fixed:
        raise InvalidValueError(f"mixture {name} is registered as {found}; wanted {wanted}")
    return registered


mixture("codegen_bigquery", LANGUAGES)
mixture("codegen_bigquery_paper", PAPER_TOKENS)
