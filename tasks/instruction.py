"""Instructions and their answers: the corpus of the Instruct phase."""

from codegen_pax.data.prepared import PreparedCorpus
from tasks.definition import conversation_task

conversation_task(
    "codegen_instruction",
    PreparedCorpus("instruction", answers=True, raw="JSON lines of instructions or messages"),
)
