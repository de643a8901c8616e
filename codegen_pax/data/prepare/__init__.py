"""Raw files to a prepared corpus: one Beam pipeline.

    examine     each partition of the inputs: the rules that look at one document alone; digests
    duplicates  each range of digests: which documents are copies of an earlier one
    tokenise    each partition again: the rules that need the duplicates; runs of token documents
    order       each bucket of the shuffle: documents in order, cut into rows: a shard
    finish      each part: what was left over of its buckets, as rows of a last shard

The elements that Beam carries are small: partitions, names of files, counts. Text and tokens
travel in files in a work folder in the output, so that no runner holds them, and every step is a
function of its input alone: the same rows come out whatever the number of workers.
"""
