"""Read inputs as the pipeline does."""

from codegen_pax.data.format.documents import Dropped
from codegen_pax.data.sources import discovery, partitions, reading


def read_all(corpus, *patterns, max_bytes=partitions.PARTITION_BYTES):
    """Every document and dropped record of the inputs that some patterns stand for."""
    inputs = discovery.find(corpus, [str(pattern) for pattern in patterns])
    return [
        document
        for partition in partitions.plan(corpus, inputs, max_bytes)
        for document in reading.documents(partition)
    ]


def rules(documents):
    """The rules of the dropped records."""
    return [one.rule for one in documents if isinstance(one, Dropped)]
