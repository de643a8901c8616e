"""What seqio's tasks read: prepared corpora, and installed text that needs no preparation."""

from __future__ import annotations

import hashlib
import itertools
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import seqio
import tensorflow as tf
from etils import epath

from codegen_pax.data import SPLITS, TRAIN, installed
from codegen_pax.data.format import manifest
from codegen_pax.data.format.manifest import Manifest, Shard
from codegen_pax.data.prepare.settings import KINDS
from codegen_pax.errors import UserError

DATA_VARIABLE = "CODEGEN_DATA"  # read by `experiments.settings`; named in errors
_corpora_folder: epath.Path | None = None

Documents = Sequence[str] | Sequence[tuple[str, ...]]


class CorpusMissingError(UserError):
    """A corpus was read that is absent, unfinished, or other than its task expects."""


def set_corpora_folder(folder: epath.PathLike | None) -> None:
    """Set the folder under which every task of this process reads prepared corpora.

    Like seqio's registry, the folder is global to the process. The code that reads the settings
    sets it: an experiment when it is made, the module `codegen` when it is imported, or a verb.

    Args:
        folder: Local or a URL; None if there is none.
    """
    global _corpora_folder
    _corpora_folder = None if folder is None else epath.Path(folder)


class PreparedCorpus(seqio.DataSource):
    """A part of a corpus in `$CODEGEN_DATA`, as `codegen-pax prepare` leaves it.

    Tasks over a corpus can be registered, built and shown before it exists. Reading an absent
    corpus raises CorpusMissingError with the command that prepares it. An example is a row:
    `targets` int32 [T]; in a corpus of conversations, `targets` [n] with n <= T and `answers` [T].

    Attributes:
        corpus: The name of its folder in `$CODEGEN_DATA`.
        kind: What `codegen-pax prepare` calls it; by default the same as `corpus`.
        part: A language, or '' for a corpus that is read as a whole.
        vocabulary: The name of the vocabulary of its ids.
        answers: Whether it holds conversations.
        raw: What the corpus is prepared from, for the error message.
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
        super().__init__(splits=SPLITS)
        self.corpus, self.part, self.kind = corpus, part, kind or corpus
        self.vocabulary, self.answers, self.raw = vocabulary, answers, raw

    @property
    def supports_arbitrary_sharding(self) -> bool:
        """False: the unit that hosts share is a shard."""
        return False

    @property
    def label(self) -> str:
        """Its name in errors, such as 'bigquery/python'."""
        return f"{self.corpus}/{self.part}" if self.part else self.corpus

    def folder(self) -> epath.Path:
        """Return its folder.

        Raises:
            CorpusMissingError: `$CODEGEN_DATA` is not set.
        """
        if _corpora_folder is None:
            raise self._missing(None, f"{DATA_VARIABLE} is not set")
        return _corpora_folder / self.corpus

    def manifest(self) -> Manifest:
        """Return its manifest.

        Raises:
            CorpusMissingError: The corpus is absent, unfinished, has another vocabulary, or lacks
                the part.
        """
        folder = self.folder()
        try:
            loaded = manifest.load(folder)
        except manifest.ManifestError as error:
            raise self._missing(folder, str(error)) from error
        if (loaded.vocabulary, loaded.answers) != (self.vocabulary, self.answers):
            content = "conversations" if loaded.answers else "text"
            problem = f"it holds {content} in the vocabulary {loaded.vocabulary}"
            raise self._missing(folder, problem, folder_in_use=True)
        if self.part not in loaded.parts:
            parts = ", ".join(filter(None, loaded.parts)) or "none"
            problem = f"it has no part {self.part!r}: found {parts}"
            raise self._missing(folder, problem, folder_in_use=True)
        return loaded

    def shards(self, split: str) -> tuple[Shard, ...]:
        """Return the shards of a split that have rows.

        Raises:
            CorpusMissingError: See `manifest`; or the split has no rows.
        """
        shards = tuple(shard for shard in self.manifest().shards(split, self.part) if shard.rows)
        if not shards:
            raise self._missing(self.folder(), f"it has no row in {split}", folder_in_use=True)
        return shards

    def tokens(self, split: str) -> int:
        """Return how many tokens the rows of a split hold, including padding of conversations."""
        loaded = self.manifest()
        return loaded.rows(split, self.part) * loaded.row_length

    def list_shards(self, split: str) -> Sequence[str]:
        """Return the paths of the shards of a split that have rows."""
        return [str(self.folder() / shard.name) for shard in self.shards(split)]

    def get_dataset(
        self,
        split: str = TRAIN,
        shuffle: bool = True,
        seed: int | None = None,
        shard_info: seqio.ShardInfo | None = None,
        **_,
    ) -> tf.data.Dataset:
        """Return the rows of a split, shard by shard; with `shuffle` the shards in a new order."""
        files = self.list_shards(split)
        if shard_info is not None:
            files = files[shard_info.index :: shard_info.num_shards]
        dataset = tf.data.Dataset.from_tensor_slices(tf.constant(files, tf.string))
        if shuffle:
            dataset = dataset.shuffle(max(1, len(files)), seed=seed)
        parse = _record_parser(self.manifest())
        return dataset.flat_map(tf.data.TFRecordDataset).map(
            parse, num_parallel_calls=tf.data.AUTOTUNE
        )

    def _missing(
        self, folder: epath.Path | None, problem: str, folder_in_use: bool = False
    ) -> CorpusMissingError:
        """Return the error, with the command that prepares the corpus for all tasks that read it.

        Args:
            folder: The folder of the corpus; None if it is not known.
            problem: What was found instead.
            folder_in_use: Whether the folder holds a finished corpus, which is not overwritten.
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
        if folder_in_use:
            command += f" (once {folder} is moved away)"
        return CorpusMissingError(
            f"cannot read {self.label}: {problem}; prepare it from {self.raw}: {command}"
        )

    def _languages(self) -> list[str]:
        """Return what `--languages` must name for all tasks over this corpus.

        The command prepares the parts of all tasks together: a corpus with this part alone would
        fail the next task. Empty if the command's default includes all of them.
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


def _record_parser(corpus: Manifest) -> Callable[[tf.Tensor], dict[str, tf.Tensor]]:
    """Return the function that turns a record of a corpus into an example."""
    features = {name: tf.io.FixedLenFeature([], tf.string) for name in corpus.row_format.features}

    @tf.autograph.experimental.do_not_convert
    def parse(record: tf.Tensor) -> dict[str, tf.Tensor]:
        values = tf.io.parse_single_example(record, features)
        tokens = tf.cast(tf.io.decode_raw(values["tokens"], tf.uint16), tf.int32)
        tokens = tf.ensure_shape(tokens, [corpus.row_length])
        if not corpus.answers:
            return {"targets": tokens}
        answers = tf.cast(tf.io.decode_raw(values["answer"], tf.uint8), tf.int32)
        # TensorFlow cannot decode unsigned 32-bit integers; no row is as long as 2**31.
        length = tf.io.decode_raw(values["length"], tf.int32)[0]
        return {
            "targets": tokens[:length],
            "answers": tf.ensure_shape(answers, [corpus.row_length]),
        }

    return parse


class InstalledText(seqio.DataSource):
    """Documents of installed files, read one file at a time.

    Training and evaluation read all of it into memory, and order the rows themselves (`stream`).

    Attributes:
        corpus: What the corpus is called in errors.
        fields: The features of an example, each a scalar UTF-8 string.
        held_out_bytes: At most this much of 'validation' is read, so that an evaluation takes
            seconds; nothing reads the rest.
    """

    def __init__(
        self,
        corpus: str,
        find_files: Callable[[], Sequence[installed.InstalledFile]],
        read_documents: Callable[[Path], Documents],
        fields: Sequence[str] = ("targets",),
        held_out_bytes: int = 300_000,
    ):
        """Describe a corpus; reads nothing.

        Args:
            corpus: See the class.
            find_files: Returns the files; called only when the source is read.
            read_documents: Returns the documents of the file at a path: strings, or tuples with one
                string for each of `fields`.
            fields: See the class.
            held_out_bytes: See the class.
        """
        super().__init__(splits=SPLITS)
        self.corpus = corpus
        self.held_out_bytes = held_out_bytes
        self.fields = tuple(fields)
        self._find_files = find_files
        self._read_documents = read_documents

    @property
    def supports_arbitrary_sharding(self) -> bool:
        """True: hosts share files, and a file is never in two shards."""
        return True

    def files(self, split: str) -> list[installed.InstalledFile]:
        """Return the files of a split, in the order of their names."""
        files = [file for file in self._find_files() if file.split == split]
        return files if split == TRAIN else self._limit_held_out(files)

    def _limit_held_out(
        self, files: Sequence[installed.InstalledFile]
    ) -> list[installed.InstalledFile]:
        """Return files in the order of a hash of their names, up to `held_out_bytes`, sorted.

        At least one file is returned unless `files` is empty.
        """
        by_hash = sorted(files, key=lambda file: hashlib.sha256(file.name.encode()).digest())
        total_sizes = itertools.accumulate(file.size for file in by_hash)
        return sorted(
            file
            for number, (file, total_size) in enumerate(zip(by_hash, total_sizes, strict=True))
            if number == 0 or total_size <= self.held_out_bytes
        )

    def size(self, split: str) -> int:
        """Return the total size in bytes of the files of a split."""
        return sum(file.size for file in self.files(split))

    def list_shards(self, split: str) -> Sequence[str]:
        """Return the names of the files of a split."""
        return [file.name for file in self.files(split)]

    def get_dataset(
        self,
        split: str = TRAIN,
        shuffle: bool = True,
        seed: int | None = None,
        shard_info: seqio.ShardInfo | None = None,
        **_,
    ) -> tf.data.Dataset:
        """Return the documents of a split, file by file; with `shuffle`, each epoch in a new order.

        Raises:
            TextMissingError: This machine has no file of this corpus in the split.
        """
        paths = [str(file.path) for file in self.files(split)]
        if not paths:
            raise installed.TextMissingError(
                f"no text for {self.corpus} ({split}): found {len(self._find_files())} files in"
                f" all, none of them in this split; searched"
                f" {', '.join(map(str, installed.roots().values()))}"
            )
        if shard_info is not None:
            paths = paths[shard_info.index :: shard_info.num_shards]
        dataset = tf.data.Dataset.from_tensor_slices(tf.constant(paths, tf.string))
        if shuffle:
            dataset = dataset.shuffle(max(len(paths), 1), seed=seed)
        return dataset.map(self._read_file, num_parallel_calls=tf.data.AUTOTUNE).unbatch()

    @tf.autograph.experimental.do_not_convert
    def _read_file(self, path: tf.Tensor) -> dict[str, tf.Tensor]:
        """Return the documents of the file at `path` []: a string [n] for each field."""

        def read(name: bytes) -> list[np.ndarray]:
            documents = self._read_documents(Path(name.decode("utf-8")))
            rows = [(text,) if isinstance(text, str) else text for text in documents]
            columns = zip(*rows, strict=True) if rows else [()] * len(self.fields)
            return [_byte_strings(column) for column in columns]

        # Stateless: tf.data does not checkpoint a stateful function.
        columns = tf.numpy_function(read, [path], [tf.string] * len(self.fields), stateful=False)
        return {
            field: tf.ensure_shape(column, [None])
            for field, column in zip(self.fields, columns, strict=True)
        }


def _byte_strings(texts: Sequence[str]) -> np.ndarray:
    """Return an array of objects: NumPy's own byte strings lose zero bytes at their ends."""
    return np.asarray([text.encode("utf-8") for text in texts], dtype=object)
