"""The tasks of the Nano size: text that every machine has, so that a run needs no download.

`codegen_nano_nl`, `codegen_nano_multi` and its languages, `codegen_nano_mono`,
`codegen_nano_instruct`. What is in them: `installed.py`.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence

import seqio

from codegen_pax.data import installed, instructions
from codegen_pax.data.prepared import MixtureByTokens
from codegen_pax.data.rules import languages
from codegen_pax.data.seqio_sources import InstalledText
from codegen_pax.errors import InvalidValueError
from tasks.definition import pair_task, text_task

# The languages `codegen_nano_multi` mixes, those of them that a machine has; at least three.
MULTI_LANGUAGES = ("c", "cpp", "cuda", "cython", "go", "java", "javascript", "python", "rust")
MULTI_AT_LEAST = 3

LANGUAGE_HELD_OUT = 40_000  # bytes of each language to evaluate on


class InstalledLanguages(MixtureByTokens):
    """A mixture of the languages that this machine has, in proportion to their bytes.

    Which they are is found out when the mixture is read. An epoch reads every language to its end.

    Attributes:
      at_least: how many languages must have text, or reading raises TextMissingError.
    """

    def __init__(self, name: str, tasks: Sequence[str], at_least: int, **_):
        super().__init__(name, tasks)
        self.at_least = at_least

    def rates(self, split: str) -> Mapping[str, float]:
        """Task -> its rate, the bytes of its text, of the languages with text in `split`.

        Raises installed.TextMissingError if those are fewer than `at_least`.
        """
        sizes = {task.name: task.source.size(split) for task in self.tasks}
        present = {name: float(size) for name, size in sizes.items() if size}
        if len(present) < self.at_least:
            absent = ", ".join(task.source.corpus for task in self.tasks if not sizes[task.name])
            found = ", ".join(t.source.corpus for t in self.tasks if sizes[t.name]) or "none"
            raise installed.TextMissingError(
                f"{self.name} ({split}) is short of text: found {found}; nothing of {absent};"
                f" wanted at least {self.at_least} of its {len(sizes)} languages; looked under"
                f" {', '.join(map(str, installed.roots().values()))}"
            )
        return present


def language_task(language: str) -> seqio.Task:
    """The task `codegen_nano_multi_<language>`, registered by the first call.

    Raises ValueError if the language is not in `languages.LANGUAGES`. That this machine has files
    of it is not checked here: reading the task raises if it has none.
    """
    language = languages.resolve(language)
    name = f"codegen_nano_multi_{language}"
    if name in seqio.TaskRegistry.names():
        return seqio.TaskRegistry.get(name)
    find = functools.partial(installed.code, language)
    source = InstalledText(
        language, find, installed.text_document, held_out_bytes=LANGUAGE_HELD_OUT
    )
    return text_task(name, source, "codegen")


def language_mixture(
    name: str, languages: Sequence[str], at_least: int | None = None
) -> seqio.Mixture:
    """The mixture `name` of this machine's files of `languages`, registered by the first call.

    Args:
      name: what it is called in seqio.
      languages: names in `languages.LANGUAGES`.
      at_least: how many of them must be there when it is read; all, if not given.

    Raises ValueError for an unknown language, or if `name` is registered with other languages.
    """
    tasks = list(dict.fromkeys(language_task(language).name for language in languages))
    if name not in seqio.MixtureRegistry.names():
        return seqio.MixtureRegistry.add(
            name,
            tasks,
            mixture_cls=InstalledLanguages,
            at_least=len(tasks) if at_least is None else at_least,
        )
    registered = seqio.MixtureRegistry.get(name)
    if sorted(registered.rate_per_task_name) != sorted(tasks):
        raise InvalidValueError(
            f"mixture {name} is registered with {', '.join(registered.rate_per_task_name)};"
            f" wanted {', '.join(tasks)}"
        )
    return registered


text_task(
    "codegen_nano_nl",
    InstalledText("prose", installed.prose, installed.prose_documents),
    "gpt2",
)
language_mixture("codegen_nano_multi", MULTI_LANGUAGES, at_least=MULTI_AT_LEAST)
text_task(
    "codegen_nano_mono",
    InstalledText("standard library", installed.standard_library, installed.text_document),
    "codegen",
)
pair_task(
    "codegen_nano_instruct",
    InstalledText(
        "instruction pairs",
        instructions.documented_modules,
        instructions.file_pairs,
        fields=("inputs", "targets"),
    ),
    "codegen",
)
