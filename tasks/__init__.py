"""What is read: every seqio task and mixture of the project.

Importing this package registers them all. It reads no data and prints nothing: a corpus is looked
for when a task over it is read.
"""

from tasks import benchmarks, bigpython, bigquery, decoding, embedded, instruction, pile, tree

__all__ = [
    "benchmarks",
    "bigpython",
    "bigquery",
    "decoding",
    "embedded",
    "instruction",
    "pile",
    "tree",
]
