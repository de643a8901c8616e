"""The rows that hosts share: a run of several hosts starts only if all hold the same data."""

import re

import numpy as np
import pytest
import seqio

from codegen_pax.data.seqio_sources import PreparedCorpus, set_corpora_folder
from codegen_pax.data.stream import inputs, mixture_rows
from tasks import definition
from tests.data.prepared_corpora import write_corpus

T = 16
PARTS = {"go": {"train": 9, "validation": 2}}


@pytest.fixture
def hosts(tmp_path, monkeypatch):
    """Starts a host for each seed of its data; returns each one's error, None if it trains."""
    definition.rows_task("hosts_go", PreparedCorpus("streams", part="go", raw="a test's rows"))

    def first_batch(host):
        set_corpora_folder(tmp_path / f"{host}")
        monkeypatch.setattr(mixture_rows.jax, "process_index", lambda: host)
        config = inputs.training_input("hosts_go", batch_size=2, row_length=T, seed=3)
        return config.Instantiate().get_next_padded()

    def start(*seeds):
        for host, seed in enumerate(seeds):
            write_corpus(tmp_path / f"{host}" / "streams", PARTS, seed=seed)
        monkeypatch.setattr(mixture_rows.jax, "process_count", lambda: len(seeds))
        sent, errors = [], []

        def gather_alone(digest):
            sent.append(digest)
            return np.stack([digest])

        monkeypatch.setattr(mixture_rows.multihost_utils, "process_allgather", gather_alone)
        for host in range(len(seeds)):
            first_batch(host)
        digests = np.stack(sent)
        assert digests.dtype.itemsize == 4  # JAX would cut larger integers

        monkeypatch.setattr(mixture_rows.multihost_utils, "process_allgather", lambda _: digests)
        for host in range(len(seeds)):
            try:
                first_batch(host)
                errors.append(None)
            except mixture_rows.DifferentHostsError as error:
                errors.append(str(error))
        return errors

    yield start
    seqio.TaskRegistry.remove("hosts_go")


def test_hosts_with_the_same_data_train(hosts):
    assert hosts(0, 0, 0) == [None, None, None]


@pytest.mark.parametrize(
    ("seeds", "named"),
    [
        ((0, 0, 9), "host 2 of 3"),
        ((9, 0, 0), "host 0 of 3"),
        ((0, 9), "host 1 of 2"),
        ((0, 9, 0, 0, 8), "hosts 1, 4 of 5"),
    ],
)
def test_hosts_with_other_data_are_named_on_every_host(seeds, named, hosts):
    for host, message in enumerate(hosts(*seeds)):
        expected = (
            rf"the hosts do not hold the same hosts_go \(train\): {named}, .*; host {host} holds"
            r" hosts_go [0-9a-f]{12}\. Give every host the same \$CODEGEN_DATA .*"
        )
        assert re.fullmatch(expected, message), message
