"""What training reads: the row of every position is a pure function of the seed and the position.

    schedule   position -> (task, row of it)
    sources    (task, rows) -> tokens, from shards or from memory
    batches    tokens -> the fields of a Pax batch
    training   a Pax input over these; its state is one position, and what data it belongs to

The batch of step n, of B rows over all hosts, is positions n x B to (n + 1) x B - 1, of which each
host reads its own slice: the rows of a step are the same on any number of hosts, and a run resumes
on another number of them.
"""
