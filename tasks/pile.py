"""The Pile: the corpus of the NL phase.

354.7B tokens (paper, unverified); `*.jsonl.zst`, one `{"text", "meta": {"pile_set_name"}}` a line.
"""

from codegen_pax.data.prepared import PreparedCorpus
from tasks.definition import rows_task

rows_task(
    "codegen_pile",
    PreparedCorpus("pile", vocabulary="gpt2", raw="The Pile's *.jsonl.zst files"),
)
