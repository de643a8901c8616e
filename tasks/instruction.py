"""Instructions and their answers: the corpus of the Instruct phase."""

from codegen_pax.corpus.sources import PreparedCorpus
from tasks.definition import pair_task

pair_task(
    "codegen_instruction",
    PreparedCorpus("instruction", "shards prepared from pairs of an instruction and its answer"),
    "codegen",
)
