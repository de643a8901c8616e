"""The corpora that `codegen-pax prepare` makes, as seqio tasks and mixtures.

- `codegen_pile`: the Pile, the corpus of the NL phase. 354.7B tokens (paper, unverified);
  `*.jsonl.zst`, one `{"text", "meta": {"pile_set_name"}}` a line.
- `codegen_bigquery_<language>`: permissively licensed code of GitHub by language, the corpus of the
  Multi phase. `codegen_bigquery` mixes this project's six languages in proportion to their
  prepared tokens, `codegen_bigquery_paper` the paper's six in the paper's proportions.
- `codegen_bigpython`: the corpus of the Mono phase, 71.7B tokens of Python from GitHub (paper).
- `codegen_instruction`: instructions and their answers, the corpus of the Instruct phase.
- `codegen_<name>`: source code of your own, by `tree_mixture`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence

import seqio

from codegen_pax.data.mixtures import MixtureByRates, MixtureByTokens
from codegen_pax.data.rules import languages
from codegen_pax.data.seqio_sources import PreparedCorpus
from codegen_pax.errors import InvalidValueError
from tasks.definition import conversation_task, rows_task

# Billions of tokens (paper, unverified split: 119.2 in all).
PAPER_TOKENS = {
    "c": 19.7,
    "cpp": 25.5,
    "go": 9.6,
    "java": 35.4,
    "javascript": 9.7,
    "python": 19.3,
}
LANGUAGES = ("python", "java", "javascript", "go", "cpp", "rust")  # the paper's, Rust for C


def language_task(
    language: str,
    corpus: str = "bigquery",
    kind: str = "bigquery",
    raw: str = "the public BigQuery set of GitHub",
) -> seqio.Task:
    """Return the task `codegen_<corpus>_<language>`, which the first call registers.

    Args:
        language: The part of the corpus to read.
        corpus: The name of its folder in `$CODEGEN_DATA`.
        kind: The name of the corpus in `codegen-pax prepare`.
        raw: A description of the raw inputs, for the error.

    Raises:
        ValueError: The language is not in `languages.LANGUAGES`, or the task is registered with
            another source.
    """
    language = languages.resolve(language)
    name = f"codegen_{corpus}_{language}"
    if name in seqio.TaskRegistry.names():
        task = seqio.TaskRegistry.get(name)
        if getattr(task.source, "kind", None) != kind:
            raise InvalidValueError(
                f"task {name} is already registered; expected another corpus name than {corpus}"
            )
        return task
    source = PreparedCorpus(corpus, part=language, kind=kind, raw=f"the {language} files of {raw}")
    return rows_task(name, source)


def language_mixture(
    name: str,
    shares: Sequence[str] | Mapping[str, float],
    task: Callable[[str], seqio.Task] = language_task,
) -> seqio.Mixture:
    """Return a mixture of languages, which the first call registers.

    Args:
        name: Its name in seqio.
        shares: Languages, in any spelling that `languages.resolve` knows, mixed in proportion to
            their prepared tokens; or language -> rate, of which only the ratios count.
        task: A function that returns the task of a language.

    Raises:
        ValueError: A language is unknown or named twice, or the mixture is registered with other
            languages or rates.
    """
    rates = (
        {task(language).name: float(rate) for language, rate in shares.items()}
        if isinstance(shares, Mapping)
        else {task(language).name: 1.0 for language in shares}
    )
    if len(rates) < len(shares):
        raise InvalidValueError(f"mixture {name} names a language twice: {', '.join(shares)}")
    has_fixed_rates = isinstance(shares, Mapping)
    if name not in seqio.MixtureRegistry.names():
        if has_fixed_rates:
            return seqio.MixtureRegistry.add(name, list(rates.items()), mixture_cls=MixtureByRates)
        return seqio.MixtureRegistry.add(name, list(rates), mixture_cls=MixtureByTokens)
    registered = seqio.MixtureRegistry.get(name)
    registered_rates = dict(registered.rate_per_task_name)
    if registered_rates != rates or isinstance(registered, MixtureByTokens) == has_fixed_rates:
        raise InvalidValueError(
            f"mixture {name} is registered as {registered_rates}; expected {rates}"
        )
    return registered


def tree_mixture(name: str, languages: Sequence[str] | Mapping[str, float]) -> seqio.Mixture:
    """Return the mixture `codegen_<name>` of languages of your own code, registered once.

    Use it in a module of your own, for a corpus that `codegen-pax prepare tree` has written to
    `$CODEGEN_DATA/<name>`:

        tree_mixture("ours", ("python", "go"))
        declare_phase(Phase("Ours", languages=("python", "go"), start="Mono", tokens=10**9))

    Args:
        name: The name of the corpus's folder.
        languages: As the `shares` of `language_mixture`.

    Raises:
        ValueError: A language is unknown, or another task or mixture has a name that is needed.
    """
    if f"codegen_{name}" in seqio.TaskRegistry.names():
        raise InvalidValueError(
            f"task codegen_{name} is already registered; expected another corpus name than {name}"
        )
    task = functools.partial(
        language_task, corpus=name, kind="tree", raw="a folder of repositories"
    )
    return language_mixture(f"codegen_{name}", languages, task)


rows_task(
    "codegen_pile",
    PreparedCorpus("pile", vocabulary="gpt2", raw="The Pile's *.jsonl.zst files"),
)
language_mixture("codegen_bigquery", LANGUAGES)
language_mixture("codegen_bigquery_paper", PAPER_TOKENS)
rows_task(
    "codegen_bigpython",
    PreparedCorpus(
        "bigpython",
        raw="permissively licensed *.py files of GitHub (the paper's own were not published)",
    ),
)
conversation_task(
    "codegen_instruction",
    PreparedCorpus("instruction", answers=True, raw="JSON lines of instructions or messages"),
)
