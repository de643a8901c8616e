"""Raw files to a prepared corpus, in these steps.

    examine     each partition of the inputs: rules that need one document alone; document hashes
    duplicates  each range of hashes: which documents are copies of an earlier one
    tokenise    each partition again: rules that need the other documents; tokenised documents
    order       each bucket of the shuffle: documents sorted and cut into rows, which is a shard;
                then each split of a part: what its buckets left over, as a last shard

`pipeline` runs them in processes of this machine or, as one Beam pipeline, on a cluster. What is
passed from step to step is small: partitions, names of files, counts. Text and tokens travel in
files, in a work folder in the output, so that no runner holds them; and every step is a function of
its input alone, so that the same rows come out whatever the number of workers.
"""
