"""Where seqio's tasks read that need no preparation: files of this machine."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import seqio
import tensorflow as tf

from codegen_pax.data import installed
from codegen_pax.data.prepared import CorpusMissingError

Documents = Sequence[str] | Sequence[tuple[str, ...]]


class InstalledText(seqio.DataSource):
    """Documents of installed files, as a dataset that reads them one by one.

    Attributes:
      corpus: what the corpus is called in errors.
      find: gives the files; called when the source is read, never before.
      documents: gives the documents of the file at a path: strings, or tuples with one string for
        each of `fields`.
      fields: the features of an example, each a scalar UTF-8 string.
      held_out_bytes: of 'validation' no more files are read than make up this many bytes, so that
        an evaluation takes seconds; those beyond are read by nothing.

    Training and evaluation take all of it into memory, and order the rows themselves (`stream`).
    """

    def __init__(
        self,
        corpus: str,
        find: Callable[[], Sequence[installed.InstalledFile]],
        documents: Callable[[Path], Documents],
        fields: Sequence[str] = ("targets",),
        held_out_bytes: int = 300_000,
    ):
        super().__init__(splits=installed.SPLITS)
        self.corpus = corpus
        self.held_out_bytes = held_out_bytes
        self.fields = tuple(fields)
        self._find = find
        self._documents = documents

    @property
    def supports_arbitrary_sharding(self) -> bool:
        return True

    def files(self, split: str) -> list[installed.InstalledFile]:
        """The files of a split, in the order of their names."""
        found = [file for file in self._find() if file.split == split]
        return found if split == installed.TRAIN else self._held_out(found)

    def _held_out(self, found: Sequence[installed.InstalledFile]) -> list[installed.InstalledFile]:
        """Files in the order of a hash of their names, at least one, up to `held_out_bytes`."""
        by_hash = sorted(found, key=lambda file: hashlib.sha256(file.name.encode()).digest())
        sums = itertools.accumulate(file.size for file in by_hash)
        kept = [
            file
            for number, (file, total) in enumerate(zip(by_hash, sums, strict=True))
            if number == 0 or total <= self.held_out_bytes
        ]
        return sorted(kept)

    def size(self, split: str) -> int:
        """Bytes of the files of a split."""
        return sum(file.size for file in self.files(split))

    def list_shards(self, split: str) -> Sequence[str]:
        return [file.name for file in self.files(split)]

    def get_dataset(
        self,
        split: str = installed.TRAIN,
        shuffle: bool = True,
        seed: int | None = None,
        shard_info: seqio.ShardInfo | None = None,
        **_,
    ) -> tf.data.Dataset:
        """Documents of `split`, file by file; with `shuffle` in a new order every epoch.

        Raises TextMissingError if this machine has no file of this corpus in `split`.
        """
        paths = [str(file.path) for file in self.files(split)]
        if not paths:
            raise installed.TextMissingError(
                f"no text for {self.corpus} ({split}): found {len(self._find())} files in all,"
                f" none of them in this split; looked under"
                f" {', '.join(map(str, installed.roots().values()))}"
            )
        if shard_info is not None:
            paths = paths[shard_info.index :: shard_info.num_shards]
        dataset = tf.data.Dataset.from_tensor_slices(tf.constant(paths, tf.string))
        if shuffle:
            dataset = dataset.shuffle(max(len(paths), 1), seed=seed)
        return dataset.map(self._read, num_parallel_calls=tf.data.AUTOTUNE).unbatch()

    @tf.autograph.experimental.do_not_convert
    def _read(self, path: tf.Tensor) -> dict[str, tf.Tensor]:
        """Path [] to the documents of that file: a string [n] for each field."""

        def read(name: bytes) -> list[np.ndarray]:
            rows = self._documents(Path(name.decode("utf-8")))
            rows = [(row,) if isinstance(row, str) else row for row in rows]
            columns = zip(*rows, strict=True) if rows else [()] * len(self.fields)
            return [_strings(column) for column in columns]

        # Stateless: tf.data does not checkpoint a stateful function.
        columns = tf.numpy_function(read, [path], [tf.string] * len(self.fields), stateful=False)
        return {
            field: tf.ensure_shape(column, [None])
            for field, column in zip(self.fields, columns, strict=True)
        }


def _strings(texts: Sequence[str]) -> np.ndarray:
    """An array of objects: NumPy's own byte strings would lose the zero bytes at their ends."""
    return np.asarray([text.encode("utf-8") for text in texts], dtype=object)


class UnreadCorpus(seqio.DataSource):
    """Problems that this version can name but not read: tasks over it can be registered and shown.

    Attributes:
      corpus: the name of the corpus, and of its folder in `$CODEGEN_DATA`.
      wanted: what it is made from and where that comes from, for the error.
    """

    def __init__(self, corpus: str, wanted: str, splits: Sequence[str] = installed.SPLITS):
        super().__init__(splits=splits)
        self.corpus = corpus
        self.wanted = wanted

    @property
    def supports_arbitrary_sharding(self) -> bool:
        return True

    def list_shards(self, split: str) -> Sequence[str]:
        raise self._missing(split)

    def get_dataset(self, split: str = installed.TRAIN, **_) -> tf.data.Dataset:
        raise self._missing(split)

    def _missing(self, split: str) -> CorpusMissingError:
        return CorpusMissingError(
            f"cannot read {self.corpus} ({split}) with this version; wanted {self.wanted}"
        )
