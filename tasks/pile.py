"""The Pile: the corpus of the NL phase.

354.7B tokens (paper, unverified); `*.jsonl.zst`, one `{"text", "meta": {"pile_set_name"}}` a line.
"""

from codegen_pax.corpus.sources import PreparedCorpus
from tasks.definition import text_task

text_task(
    "codegen_pile",
    PreparedCorpus("pile", "shards prepared from The Pile's *.jsonl.zst files"),
    "gpt2",
)
