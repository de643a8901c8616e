"""Tasks of text that every machine has, so that a run needs no download.

`codegen_nano_nl`, `codegen_nano_multi` and its languages, `codegen_nano_mono` and
`codegen_nano_instruct` are Nano's, in its vocabulary. Each exists in the vocabulary of its phase
too, for a size of the full vocabulary: `codegen_nano_nl_gpt2`, `codegen_nano_multi_codegen` and so
on. `codegen_pax/data/installed.py` defines their text.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence

import seqio

from codegen_pax.data import installed
from codegen_pax.data.mixtures import MixtureByTokens
from codegen_pax.data.rules import languages
from codegen_pax.data.seqio_sources import InstalledText
from codegen_pax.errors import InvalidValueError
from tasks.definition import pair_task, text_task

# `codegen_nano_multi` mixes the languages in this list that a machine has: at least three.
MULTI_LANGUAGES = ("c", "cpp", "cuda", "cython", "go", "java", "javascript", "python", "rust")
MULTI_MIN_LANGUAGES = 3

NANO_VOCABULARY = "codegen_2048"

LANGUAGE_HELD_OUT_BYTES = 40_000  # of each language, to evaluate on


class InstalledLanguages(MixtureByTokens):
    """A mixture of the languages that this machine has, in proportion to their bytes.

    Which languages those are is determined when the mixture is read. An epoch reads every language
    to its end.

    Attributes:
        min_languages: How many languages must have text; with fewer, reading raises
            TextMissingError.
    """

    def __init__(self, name: str, tasks: Sequence[str], min_languages: int, **_):
        super().__init__(name, tasks)
        self.min_languages = min_languages

    def rates(self, split: str) -> Mapping[str, float]:
        """Return the rate of each task with text in `split`: the bytes of the text.

        Raises:
            TextMissingError: There are fewer such tasks than `min_languages`.
        """
        sizes = {task.name: task.source.size(split) for task in self.tasks}
        rates = {name: float(size) for name, size in sizes.items() if size}
        if len(rates) < self.min_languages:
            present = ", ".join(t.source.corpus for t in self.tasks if sizes[t.name]) or "none"
            absent = ", ".join(t.source.corpus for t in self.tasks if not sizes[t.name])
            raise installed.TextMissingError(
                f"{self.name} ({split}) lacks text: found {present}; nothing of {absent};"
                f" expected at least {self.min_languages} of its {len(sizes)} languages; searched"
                f" {', '.join(map(str, installed.roots().values()))}"
            )
        return rates


def _suffix(vocabulary_name: str) -> str:
    """Return the end of the names of tasks in a vocabulary: nothing for Nano's."""
    return "" if vocabulary_name == NANO_VOCABULARY else f"_{vocabulary_name}"


def language_task(language: str, vocabulary_name: str = NANO_VOCABULARY) -> seqio.Task:
    """Return the task `codegen_nano_multi_<language>`, which the first call registers.

    Whether this machine has files of the language is not checked here: reading the task raises
    TextMissingError if it has none.

    Raises:
        ValueError: The language is not in `languages.LANGUAGES`.
    """
    language = languages.resolve(language)
    name = f"codegen_nano_multi_{language}{_suffix(vocabulary_name)}"
    if name in seqio.TaskRegistry.names():
        return seqio.TaskRegistry.get(name)
    source = InstalledText(
        language,
        functools.partial(installed.code, language),
        installed.text_document,
        held_out_bytes=LANGUAGE_HELD_OUT_BYTES,
    )
    return text_task(name, source, vocabulary_name)


def language_mixture(
    name: str,
    languages: Sequence[str],
    min_languages: int | None = None,
    vocabulary_name: str = NANO_VOCABULARY,
) -> seqio.Mixture:
    """Return a mixture of this machine's files of some languages, which the first call registers.

    Args:
        name: Its name in seqio.
        languages: Names in `languages.LANGUAGES`.
        min_languages: How many of them must have text when it is read; None for all.
        vocabulary_name: The vocabulary that tokenises them.

    Raises:
        ValueError: A language is unknown, or the mixture is registered with other languages.
    """
    registered_tasks = (language_task(language, vocabulary_name) for language in languages)
    tasks = list(dict.fromkeys(task.name for task in registered_tasks))
    if name not in seqio.MixtureRegistry.names():
        return seqio.MixtureRegistry.add(
            name,
            tasks,
            mixture_cls=InstalledLanguages,
            min_languages=len(tasks) if min_languages is None else min_languages,
        )
    registered = seqio.MixtureRegistry.get(name)
    if sorted(registered.rate_per_task_name) != sorted(tasks):
        raise InvalidValueError(
            f"mixture {name} is registered with {', '.join(registered.rate_per_task_name)};"
            f" expected {', '.join(tasks)}"
        )
    return registered


def _register(prose_vocabulary: str, code_vocabulary: str) -> None:
    """Register the tasks of the four phases of the tables."""
    text_task(
        f"codegen_nano_nl{_suffix(prose_vocabulary)}",
        InstalledText("prose", installed.prose, installed.prose_documents),
        prose_vocabulary,
    )
    suffix = _suffix(code_vocabulary)
    language_mixture(
        f"codegen_nano_multi{suffix}",
        MULTI_LANGUAGES,
        min_languages=MULTI_MIN_LANGUAGES,
        vocabulary_name=code_vocabulary,
    )
    text_task(
        f"codegen_nano_mono{suffix}",
        InstalledText("standard library", installed.standard_library, installed.text_document),
        code_vocabulary,
    )
    pair_task(
        f"codegen_nano_instruct{suffix}",
        InstalledText(
            "instruction pairs",
            installed.documented_modules,
            installed.instruction_pairs_of_file,
            fields=("inputs", "targets"),
        ),
        code_vocabulary,
    )


_register(NANO_VOCABULARY, NANO_VOCABULARY)
_register("gpt2", "codegen")
