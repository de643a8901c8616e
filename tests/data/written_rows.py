"""Two corpora of short rows, written without the pipeline: a text, and conversations."""

from codegen_pax.data.seqio_sources import PreparedCorpus, set_corpora_folder
from codegen_pax.data.stream import row_readers
from tests.data.prepared_corpora import write_corpus

T = 16
TEXT = PreparedCorpus("small", part="go", raw="a test's rows")
ANSWERS = PreparedCorpus("talks", answers=True, raw="a test's rows")


def write_rows(folder):
    """Write `TEXT` and `ANSWERS`, in three and two shards, where they are looked for.

    Returns:
        corpus -> records [rows] of its split to train on.
    """
    set_corpora_folder(folder)
    go = write_corpus(folder / "small", {"go": {"train": 23, "validation": 4}}, shards=3)
    talks = write_corpus(folder / "talks", {"": {"train": 9}}, answers=True, seed=1)
    return {TEXT: go["go"]["train"], ANSWERS: talks[""]["train"]}


def open_corpus(source, row_length=T):
    return row_readers.PreparedRows(source, "train", row_length)
