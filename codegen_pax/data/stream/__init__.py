"""What is trained and evaluated on, read one way.

    sources       (task, rows) -> tokens, from shards or from memory
    batches       tokens -> the fields of a Pax batch
    mixture_rows  a Pax input over these, which the other two are
    schedule      position -> (task, row of it): a pure function of the seed and the position
    training      rows by their positions, without end; its state is one position, and what data it
                  belongs to
    evaluation    every row once, in order

The batch of step n, of B rows over all hosts, is positions n x B to (n + 1) x B - 1, of which each
host reads its own slice: the rows of a step are the same on any number of hosts, and a run resumes
on another number of them.
"""
