"""BigPython: the corpus of the Mono phase, 71.7B tokens of Python from GitHub (paper)."""

from codegen_pax.corpus.sources import PreparedCorpus
from tasks.definition import text_task

text_task(
    "codegen_bigpython",
    PreparedCorpus(
        "bigpython",
        "shards prepared from permissively licensed *.py files of GitHub"
        " (the paper's own collection was not published)",
    ),
    "codegen",
)
