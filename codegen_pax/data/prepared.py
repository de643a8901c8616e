"""Prepared corpora as what seqio's tasks read, and mixtures of them by their tokens."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence

import seqio
import tensorflow as tf
from etils import epath

from codegen_pax import names
from codegen_pax.data import installed
from codegen_pax.data.format import manifest
from codegen_pax.data.format.manifest import Manifest, Shard
from codegen_pax.data.prepare.settings import KINDS
from codegen_pax.errors import InvalidValueError, UserError

DATA_VARIABLE = "CODEGEN_DATA"  # read by `experiments.settings`; named in errors
_corpora_folder: epath.Path | None = None


class CorpusMissingError(UserError):
    """A corpus was read that is not there, not finished, or other than its task says."""


def set_corpora_folder(folder: epath.PathLike | None) -> None:
    """Sets the folder under which every task of this process reads prepared corpora.

    seqio's registry is the process's, and so is this folder. Whoever reads the settings sets it: an
    experiment when it is made, the module `codegen` when it is imported, or a verb.

    Args:
        folder: Local or a URL; None if there is none.
    """
    global _corpora_folder
    _corpora_folder = None if folder is None else epath.Path(folder)


class PreparedCorpus(seqio.DataSource):
    """A part of a corpus under `$CODEGEN_DATA`, as `codegen-pax prepare` leaves it.

    Tasks over it can be registered, built and shown without it; reading one that is not there
    raises CorpusMissingError with the command that prepares it. An example is a row: `targets`
    int32 [T]; of conversations `targets` [n], n <= T, and `answers` [T].

    Attributes:
      corpus: the name of its folder in `$CODEGEN_DATA`.
      kind: what `codegen-pax prepare` calls it; the same, if not given.
      part: a language, or '' of a corpus that is read as a whole.
      vocabulary: of its ids.
      answers: whether it holds conversations.
      raw: what it is prepared from, for the error.
    """

    def __init__(
        self,
        corpus: str,
        *,
        raw: str,
        vocabulary: str = "codegen",
        part: str = "",
        answers: bool = False,
        kind: str | None = None,
    ):
        super().__init__(splits=installed.SPLITS)
        self.corpus, self.part, self.kind = corpus, part, kind or corpus
        self.vocabulary, self.answers, self.raw = vocabulary, answers, raw

    @property
    def supports_arbitrary_sharding(self) -> bool:
        return False

    @property
    def label(self) -> str:
        """What it is called in errors, as 'bigquery/python'."""
        return f"{self.corpus}/{self.part}" if self.part else self.corpus

    def folder(self) -> epath.Path:
        """Where it lies.

        Raises CorpusMissingError if `$CODEGEN_DATA` is not set.
        """
        if _corpora_folder is None:
            raise self._missing(None, f"{DATA_VARIABLE} is not set")
        return _corpora_folder / self.corpus

    def manifest(self) -> Manifest:
        """What it holds.

        Raises CorpusMissingError: it is not there, not finished, of another vocabulary, or without
          this part.
        """
        folder = self.folder()
        try:
            found = manifest.load(folder)
        except manifest.ManifestError as error:
            raise self._missing(folder, str(error)) from error
        if (found.vocabulary, found.answers) != (self.vocabulary, self.answers):
            what = "conversations" if found.answers else "text"
            said = f"it holds {what} in the vocabulary {found.vocabulary}"
            raise self._missing(folder, said, is_taken=True)
        if self.part not in found.parts:
            parts = ", ".join(filter(None, found.parts)) or "none"
            said = f"it has no part {self.part!r}: found {parts}"
            raise self._missing(folder, said, is_taken=True)
        return found

    def shards(self, split: str) -> tuple[Shard, ...]:
        """The shards of a split that have rows.

        Raises CorpusMissingError: see `manifest`; or there is not one row.
        """
        shards = tuple(shard for shard in self.manifest().shards(split, self.part) if shard.rows)
        if not shards:
            raise self._missing(self.folder(), f"it has no row in {split}", is_taken=True)
        return shards

    def tokens(self, split: str) -> int:
        """How many tokens the rows of a split hold; of conversations, padding included."""
        found = self.manifest()
        return found.rows(split, self.part) * found.row_length

    def list_shards(self, split: str) -> Sequence[str]:
        return [str(self.folder() / shard.name) for shard in self.shards(split)]

    def get_dataset(
        self,
        split: str = installed.TRAIN,
        shuffle: bool = True,
        seed: int | None = None,
        shard_info: seqio.ShardInfo | None = None,
        **_,
    ) -> tf.data.Dataset:
        """The rows of a split, shard by shard; with `shuffle` the shards in a new order."""
        files = self.list_shards(split)
        if shard_info is not None:
            files = files[shard_info.index :: shard_info.num_shards]
        dataset = tf.data.Dataset.from_tensor_slices(tf.constant(files, tf.string))
        if shuffle:
            dataset = dataset.shuffle(max(1, len(files)), seed=seed)
        parse = _parser(self.manifest())
        return dataset.flat_map(tf.data.TFRecordDataset).map(
            parse, num_parallel_calls=tf.data.AUTOTUNE
        )

    def _missing(
        self, folder: epath.Path | None, found: str, is_taken: bool = False
    ) -> CorpusMissingError:
        """The error, with the command that prepares the corpus for every task that reads it.

        Args:
          folder: where it would lie; None if that is not known.
          found: there instead.
          is_taken: whether a finished corpus lies there, which is not written over.
        """
        output = shlex.quote(str(folder)) if folder else f"${DATA_VARIABLE}/{self.corpus}"
        command = f"codegen-pax prepare {self.kind} --input ... --output {output}"
        if languages := self._languages():
            command += f" --languages {' '.join(languages)}"
        if not folder:
            command += (
                f" (with {DATA_VARIABLE} set to a folder for corpora, which importing `codegen` "
                "reads)"
            )
        if is_taken:
            command += f" (once {folder} is moved away)"
        return CorpusMissingError(
            f"cannot read {self.label}: {found}; prepare it from {self.raw}: {command}"
        )

    def _languages(self) -> list[str]:
        """What `--languages` must name, for all tasks over this corpus; none if the default has it.

        A corpus is prepared at once: one that has this part alone would fail the next task.
        """
        tasks = map(seqio.TaskRegistry.get, seqio.TaskRegistry.names())
        sources = [self, *(task.source for task in tasks)]
        parts = {
            source.part
            for source in sources
            if isinstance(source, PreparedCorpus)
            and (source.corpus, source.kind) == (self.corpus, self.kind)
        }
        kind = KINDS.get(self.kind)
        is_default = kind is not None and parts <= {"", *kind.languages}
        return [] if is_default else sorted(parts - {""})


def _parser(found: Manifest):
    """What turns a record into an example."""
    features = {name: tf.io.FixedLenFeature([], tf.string) for name in found.row_format.features}

    @tf.autograph.experimental.do_not_convert
    def parse(record: tf.Tensor) -> dict[str, tf.Tensor]:
        values = tf.io.parse_single_example(record, features)
        tokens = tf.cast(tf.io.decode_raw(values["tokens"], tf.uint16), tf.int32)
        tokens = tf.ensure_shape(tokens, [found.row_length])
        if not found.answers:
            return {"targets": tokens}
        answers = tf.cast(tf.io.decode_raw(values["answer"], tf.uint8), tf.int32)
        # TensorFlow decodes no unsigned 32 bits; no row is as long as 2**31.
        length = tf.io.decode_raw(values["length"], tf.int32)[0]
        return {
            "targets": tokens[:length],
            "answers": tf.ensure_shape(answers, [found.row_length]),
        }

    return parse


class MixtureByRates(seqio.Mixture):
    """A mixture of prepared corpora at fixed rates."""

    def rates(self, split: str) -> Mapping[str, float]:
        """Task -> its rate: 0 for a task that has no row in `split`.

        Raises CorpusMissingError if one of them cannot be read.
        """
        return {
            task.name: float(self.get_rate(task)) if task.source.tokens(split) else 0.0
            for task in self.tasks
        }

    def get_dataset(
        self,
        sequence_length: Mapping[str, int] | None = None,
        split: str = installed.TRAIN,
        *args,
        **kwargs,
    ) -> tf.data.Dataset:
        """As seqio.Mixture.get_dataset; an epoch has every row of every task that has rows.

        Raises CorpusMissingError if none has.
        """
        present = [(name, rate) for name, rate in self.rates(split).items() if rate]
        if not present:
            raise CorpusMissingError(
                f"cannot read {self.name}: none of its {len(self.tasks)} tasks has a row in {split}"
            )
        mixed = seqio.Mixture(self.name, present, sample_fn=_to_the_end)
        return mixed.get_dataset(sequence_length, split, *args, **kwargs)


class MixtureByTokens(MixtureByRates):
    """A mixture of prepared corpora in proportion to the tokens that each holds.

    How many those are is found out when it is read.
    """

    def __init__(self, name: str, tasks: Sequence[str], **_):
        super().__init__(name, [(task, 1.0) for task in tasks])

    def rates(self, split: str) -> Mapping[str, float]:
        """Task -> its rate: the tokens of `split`.

        Raises CorpusMissingError if one of them cannot be read.
        """
        return {task.name: float(task.source.tokens(split)) for task in self.tasks}


def _to_the_end(datasets, weights, seed=None, **_) -> tf.data.Dataset:
    """Samples until every dataset has ended, in the same order every time if `seed` is given."""
    return tf.data.Dataset.sample_from_datasets(
        datasets,
        weights,
        seed=seed,
        stop_on_empty_dataset=False,
        rerandomize_each_iteration=False,
    )


def registered(mixture_or_task: str) -> seqio.Mixture | seqio.Task:
    """The mixture or task called so. Raises ValueError, which names the nearest, for none."""
    known = {*seqio.TaskRegistry.names(), *seqio.MixtureRegistry.names()}
    if mixture_or_task not in known:
        raise InvalidValueError(names.unknown("task or mixture", mixture_or_task, sorted(known)))
    return seqio.get_mixture_or_task(mixture_or_task)


def rates(mixture_or_task: str, split: str) -> Mapping[str, float]:
    """Task -> rate of a registered mixture, as it would be read now; of a task, itself alone."""
    found = registered(mixture_or_task)
    if isinstance(found, seqio.Task):
        return {found.name: 1.0}
    if hasattr(found, "rates"):
        return found.rates(split)
    return {task.name: float(found.get_rate(task)) for task in found.tasks}
