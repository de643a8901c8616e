"""BigPython: the corpus of the Mono phase, 71.7B tokens of Python from GitHub (paper)."""

from codegen_pax.data.prepared import PreparedCorpus
from tasks.definition import rows_task

rows_task(
    "codegen_bigpython",
    PreparedCorpus(
        "bigpython",
        raw="permissively licensed *.py files of GitHub (the paper's own were not published)",
    ),
)
