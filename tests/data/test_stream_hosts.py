"""Several hosts begin to train only if all of them hold the same data."""

import re

import numpy as np
import pytest
import seqio

from codegen_pax.data.prepared import PreparedCorpus, set_corpora_folder
from codegen_pax.data.stream import inputs, mixture_rows
from tasks import definition
from tests.data.prepared_corpora import write_corpus

T = 16
PARTS = {"go": {"train": 9, "validation": 2}}


@pytest.fixture
def hosts(tmp_path, monkeypatch):
    """Starts a host for each seed of its data, and returns what each says: None if it trains."""
    definition.rows_task("hosts_go", PreparedCorpus("streams", part="go", raw="a test's rows"))

    def first_batch(host, seed):
        folder = tmp_path / f"{host}"
        write_corpus(folder / "streams", PARTS, seed=seed)
        set_corpora_folder(folder)
        monkeypatch.setattr(mixture_rows.jax, "process_index", lambda: host)
        config = inputs.training_input("hosts_go", batch_size=2, row_length=T, seed=3)
        return config.Instantiate().get_next_padded()

    def start(*seeds):
        monkeypatch.setattr(mixture_rows.jax, "process_count", lambda: len(seeds))
        sent, said = [], []

        def alone(found):
            sent.append(found)
            return np.stack([found])

        monkeypatch.setattr(mixture_rows.multihost_utils, "process_allgather", alone)
        for host, seed in enumerate(seeds):
            first_batch(host, seed)
        together = np.stack(sent)
        assert together.dtype.itemsize == 4  # of more, JAX would cut it

        monkeypatch.setattr(mixture_rows.multihost_utils, "process_allgather", lambda _: together)
        for host, seed in enumerate(seeds):
            try:
                first_batch(host, seed)
                said.append(None)
            except mixture_rows.DifferentHostsError as error:
                said.append(str(error))
        return said

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
        said = (
            rf"the hosts do not hold the same hosts_go \(train\): {named}, .*; host {host} holds"
            r" hosts_go [0-9a-f]{12}\. Give every host the same \$CODEGEN_DATA .*"
        )
        assert re.fullmatch(said, message), message
