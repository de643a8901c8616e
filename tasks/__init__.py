"""Every seqio task and mixture of the project.

    corpora       prepared corpora: the Pile, BigQuery, BigPython, instructions, and your own code
    nano          text that every machine has, for the Nano size
    prompts       prompts that a run decodes; the texts are in `prompt_texts`
    definition    how tasks are put together

Importing this package registers them all. It reads no data and prints nothing: a task looks for its
corpus when it is read.
"""

from tasks import corpora, nano, prompts

__all__ = ["corpora", "nano", "prompts"]
