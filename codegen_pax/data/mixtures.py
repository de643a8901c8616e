"""Mixtures of prepared corpora; the rates and the data of any registered task or mixture."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping, Sequence
from typing import Any

import seqio
import tensorflow as tf

from codegen_pax import messages
from codegen_pax.data import TRAIN
from codegen_pax.data.format import manifest
from codegen_pax.data.format.manifest import Manifest
from codegen_pax.data.rules import licences as spdx
from codegen_pax.data.seqio_sources import CorpusMissingError, InstalledText, PreparedCorpus
from codegen_pax.errors import InvalidValueError


class MixtureByRates(seqio.Mixture):
    """A mixture of prepared corpora at fixed rates."""

    def rates(self, split: str) -> Mapping[str, float]:
        """Return the rate of each task: 0 for a task that has no row in `split`.

        Raises:
            CorpusMissingError: A task cannot be read.
        """
        return {
            task.name: float(self.get_rate(task)) if task.source.tokens(split) else 0.0
            for task in self.tasks
        }

    def get_dataset(
        self,
        sequence_length: Mapping[str, int] | None = None,
        split: str = TRAIN,
        *args,
        **kwargs,
    ) -> tf.data.Dataset:
        """Mix the tasks as seqio does; an epoch has every row of every task that has rows.

        Raises:
            CorpusMissingError: No task has a row.
        """
        nonzero_rates = [(name, rate) for name, rate in self.rates(split).items() if rate]
        if not nonzero_rates:
            raise CorpusMissingError(
                f"cannot read {self.name}: none of its {len(self.tasks)} tasks has a row in {split}"
            )
        mixture = seqio.Mixture(self.name, nonzero_rates, sample_fn=_sample_until_all_end)
        return mixture.get_dataset(sequence_length, split, *args, **kwargs)


class MixtureByTokens(MixtureByRates):
    """A mixture of prepared corpora in proportion to the tokens each has when it is read."""

    def __init__(self, name: str, tasks: Sequence[str], **_):
        super().__init__(name, [(task, 1.0) for task in tasks])

    def rates(self, split: str) -> Mapping[str, float]:
        """Return the rate of each task: the number of its tokens in `split`.

        Raises:
            CorpusMissingError: A task cannot be read.
        """
        return {task.name: float(task.source.tokens(split)) for task in self.tasks}


def _sample_until_all_end(datasets, weights, seed=None, **_) -> tf.data.Dataset:
    """Sample until every dataset has ended, always in the same order if `seed` is given."""
    return tf.data.Dataset.sample_from_datasets(
        datasets,
        weights,
        seed=seed,
        stop_on_empty_dataset=False,
        rerandomize_each_iteration=False,
    )


def get_mixture_or_task(name: str) -> seqio.Mixture | seqio.Task:
    """Return the registered mixture or task of this name.

    Raises:
        ValueError: There is none; the message has the nearest names.
    """
    known = {*seqio.TaskRegistry.names(), *seqio.MixtureRegistry.names()}
    if name not in known:
        raise InvalidValueError(messages.unknown("task or mixture", name, sorted(known)))
    return seqio.get_mixture_or_task(name)


def task_rates(mixture_or_task: str, split: str) -> Mapping[str, float]:
    """Return the current rate of each task of a registered mixture; a single task has rate 1."""
    provider = get_mixture_or_task(mixture_or_task)
    if isinstance(provider, seqio.Task):
        return {provider.name: 1.0}
    if hasattr(provider, "rates"):
        return provider.rates(split)
    return {task.name: float(provider.get_rate(task)) for task in provider.tasks}


def describe_data(mixture_or_task: str, split: str = TRAIN) -> list[dict[str, Any]]:
    """Describe what each task of a registered mixture reads, for a receipt. Reads no row.

    Args:
        mixture_or_task: A registered name; if it is a task, only that task is described.
        split: The split that is read.

    Returns:
        One entry for each task:
        - for a prepared corpus: `task`, `corpus`, `part`, `folder`, `manifest_sha256` of the bytes
          of the manifest, the `fingerprint`, `rows` and `tokens` of the split (`tokens` includes
          the padding of conversations), `licences` of all its documents that were kept,
          `licences_checked` (whether documents of other licences were dropped), and `vocabulary`;
        - for a prepared corpus that cannot be read: `task`, and the reason in `missing`;
        - for installed text: `task`, `source` 'installed', the `corpus`, and the `python` version;
        - for any other source: `task`, and its class in `source`.
    """
    provider = get_mixture_or_task(mixture_or_task)
    tasks = [provider] if isinstance(provider, seqio.Task) else provider.tasks
    return [_describe_task(task, split) for task in tasks]


def _describe_task(task: seqio.Task, split: str) -> dict[str, Any]:
    source = task.source
    if isinstance(source, PreparedCorpus):
        try:
            return {"task": task.name} | _describe_corpus(source, split)
        except (CorpusMissingError, OSError) as error:
            # Reading the task raises this error; a run that does not read it must not fail.
            return {"task": task.name, "missing": " ".join(str(error).split())}
    if isinstance(source, InstalledText):
        return {
            "task": task.name,
            "source": "installed",
            "corpus": source.corpus,
            "python": platform.python_version(),
        }
    cls = type(source)
    return {"task": task.name, "source": f"{cls.__module__}.{cls.__qualname__}"}


def _describe_corpus(source: PreparedCorpus, split: str) -> dict[str, Any]:
    corpus, folder = source.manifest(), source.folder()
    rows = corpus.rows(split, source.part)
    any_licence = corpus.settings.get("licences") == [*spdx.ANY]
    return {
        "corpus": source.corpus,
        "part": source.part,
        "folder": str(folder if "://" in str(folder) else folder.resolve()),
        "manifest_sha256": hashlib.sha256((folder / manifest.FILE).read_bytes()).hexdigest(),
        "fingerprint": corpus.fingerprint(split, source.part),
        "rows": rows,
        "tokens": rows * corpus.row_length,
        "licences": _count_licences(corpus, source.part),
        "licences_checked": _has_known_licences(corpus) and not any_licence,
        "vocabulary": corpus.vocabulary,
    }


def _has_known_licences(corpus: Manifest) -> bool:
    """Return whether preparation looked for the licence of each document."""
    # Older manifests lack this setting; back then, the Pile and trees had no licence lookup.
    default = "" if corpus.corpus in ("pile", "tree") else "record"
    return bool(corpus.settings.get("licences_from", default))


def _count_licences(corpus: Manifest, part: str) -> Mapping[str, int]:
    """Return how many documents of a part were kept under each licence, most frequent first.

    A licence is an SPDX expression, 'unknown' (the stated one is not SPDX's), 'none' or 'not looked
    at'.
    """
    unstated = "none" if _has_known_licences(corpus) else "not looked at"
    by_language = corpus.counts.get("documents", {})
    languages = [by_language.get(part, {})] if part else by_language.values()
    totals: dict[str, int] = {}
    for by_licence in languages:
        for licence, by_rule in by_licence.items():
            if num_kept := sum(by_rule.get(manifest.KEPT, [])[:1]):
                totals[licence or unstated] = totals.get(licence or unstated, 0) + num_kept
    return dict(sorted(totals.items(), key=lambda item: (-item[1], item[0])))
