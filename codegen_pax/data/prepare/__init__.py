"""Raw files to a prepared corpus, in these steps.

    examine     each partition of the inputs, read once: rules that need one document alone;
                documents that pass, in chunks of 64 MiB of text, and their hashes
    duplicates  each range of hashes: which documents are copies of an earlier one
    tokenise    each batch of chunks: rules that need the other documents; a run of tokenised
                documents, with a segment for each bucket or coarse bucket
    divide      some segments of a coarse bucket: a run with a segment for each of its buckets
    order       each bucket of the shuffle: documents sorted and cut into rows, which is a shard;
                then each split of a part: what its buckets left over, as a last shard

`processes` runs them on this machine and `on_beam`, as one Beam pipeline, on a cluster; `stages`
has the steps of both. What is passed from step to step is small: partitions, names of files,
counts. Text and tokens travel in files, in a work folder of the run in the output, so that no
runner holds them; and every step is a function of its input alone, so that the same rows come out
whatever the number of workers. The shards are moved to the corpus when all of them are complete.
"""
