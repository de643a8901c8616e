"""How training, evaluation and decoding read seqio tasks and mixtures as Pax inputs.

    row_readers     a row's number -> its tokens, from shards or from memory
    rows_in_memory  the rows of a task that is read once
    batches         tokens -> the fields of a Pax batch; the one place where this happens
    mixture_rows    the Pax input over the rows of a mixture, and the one that evaluates
    schedule        position -> (task, row): a pure function of the seed and the position
    training        the Pax input that trains: rows by position, without end, resumed exactly
    inputs          Pax configurations of the inputs, by the name of a task or mixture

The global batch of step n, of B rows over all hosts, is positions n x B to (n + 1) x B - 1, and
each host reads its own slice of it. The rows of a step are therefore the same on any number of
hosts, and a run may resume on a different number.
"""
